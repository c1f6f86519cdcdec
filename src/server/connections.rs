//! The limits of client connections: how many there may be, and how long a client may read nothing.

use std::any::Any;
use std::num::NonZero;
use std::time::Duration;

use actix_web::rt::net::TcpStream;
use rustix::net::sockopt::set_tcp_user_timeout;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The descriptors that are kept free for everything but clients: at most some 100 connections to the database, the gateway's
/// connections, the log, the listener, and each worker's own.
const RESERVED: u64 = 256;

/// The most client connections of a process. Each may hold a body of 64 KiB and as much of an answer, so they stay near a
/// gigabyte. One process serves fewer clients at once.
const MOST: u64 = 10_000;

/// How long the kernel keeps data that a client does not take, before it ends the connection. A phone that changes its cell is
/// back within ten seconds. A client that is cut off may send again under its key.
const UNREAD_FOR: Duration = Duration::from_secs(20);

/// The most client connections of one worker. Raises the process's soft limit of descriptors to the hard limit first, because
/// many systems set the soft limit to 1,024. More clients wait in the listener's queue until a connection ends.
pub(super) fn most(workers: NonZero<usize>) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    // Without the right to raise it, the soft limit stays as it is.
    let limit = if setrlimit(Resource::Nofile, raised).is_ok() { raised } else { limit };
    // No limit is a limit that nobody reaches.
    let descriptors = limit.current.unwrap_or(u64::MAX);
    // With few descriptors, clients get half of them.
    let clients = descriptors.saturating_sub(RESERVED).max(descriptors / 2).min(MOST);
    usize::try_from(clients).unwrap_or(usize::MAX).div_euclid(workers.get()).max(1)
}

/// Ends the connection if the client takes nothing of its answers for [`UNREAD_FOR`], also if the client's kernel still
/// acknowledges that it is alive.
pub(super) fn limit_unread(connection: &dyn Any) {
    let Some(connection) = connection.downcast_ref::<TcpStream>() else { return };
    let milliseconds = u32::try_from(UNREAD_FOR.as_millis()).unwrap_or(u32::MAX);
    if let Err(error) = set_tcp_user_timeout(connection, milliseconds) {
        log::warn!("a connection has no time limit for unread answers: {error}");
    }
}
