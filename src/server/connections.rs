//! The limits of client connections: how many there may be, how long a client may read nothing, and how much memory it
//! may take meanwhile.
//!
//! A client may send many requests on one connection without waiting for an answer. If it does not read the answers, actix keeps
//! what it has read of the requests, and what it can't write of the answers. [`limit_sent_ahead`] and [`with_body`] bound both.

use std::any::Any;
use std::convert::Infallible;
use std::net::TcpListener;
use std::num::NonZero;
use std::time::Duration;

use actix_web::body::{BodySize, BodyStream, BoxBody, MessageBody};
use actix_web::dev::ServiceResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_LENGTH, HeaderValue};
use actix_web::rt::net::TcpStream;
use actix_web::web::Bytes;
use futures_util::stream;
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_tcp_user_timeout};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The descriptors kept free for everything but clients: 121 connections to the database at most (with `DB_POOL_SIZE` at
/// its default), 320 to the gateway (256 of requests, 64 of the resolver), the log, the listener, and each worker's own.
const RESERVED: u64 = 512;

/// The most client connections of a process. A client that reads its answers holds a body of 64 KiB and as much of an
/// answer, so all of them together stay near a gigabyte. One process can't serve this many at once.
const MOST: u64 = 10_000;

/// How long the kernel keeps data that a client does not take before it ends the connection. A phone that changes cells
/// is back within ten seconds. A client that is cut off may send again under its key.
const UNREAD_FOR: Duration = Duration::from_secs(20);

/// How many bytes the kernel accepts from a client before the server reads them. actix reads up to 128 KiB at once, and
/// keeps each request that it finds, some 7 kB for one of 40 bytes, until the client has read the answers before it:
/// 5 MB a connection with this limit, 17 MB without. The longest body, 64 KiB, takes four round trips.
const SENT_AHEAD: usize = 16 * 1024;

/// The most client connections of one worker. Raises the process's soft limit of descriptors to the hard limit first, because
/// many systems set the soft limit to 1,024. More clients wait in the listener's queue until a connection ends.
pub(super) fn most(workers: NonZero<usize>) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    // Without the right to raise it, the soft limit stays as it is.
    let limit = if setrlimit(Resource::Nofile, raised).is_ok() { raised } else { limit };
    // No limit at all is as good as a very large one.
    let descriptors = limit.current.unwrap_or(u64::MAX);
    // With few descriptors, clients get half of them.
    let clients = descriptors.saturating_sub(RESERVED).max(descriptors / 2).min(MOST);
    usize::try_from(clients).unwrap_or(usize::MAX).div_euclid(workers.get()).max(1)
}

/// Limits how much the kernel reads ahead on each connection that the listener accepts.
pub(super) fn limit_sent_ahead(listener: &TcpListener) -> std::io::Result<()> {
    Ok(set_socket_recv_buffer_size(listener, SENT_AHEAD)?)
}

/// Ends the connection if the client takes nothing of its answers for [`UNREAD_FOR`], even if its kernel still
/// acknowledges that it is alive.
pub(super) fn limit_unread(connection: &dyn Any) {
    let Some(connection) = connection.downcast_ref::<TcpStream>() else { return };
    let milliseconds = u32::try_from(UNREAD_FOR.as_millis()).unwrap_or(u32::MAX);
    if let Err(error) = set_tcp_user_timeout(connection, milliseconds) {
        log::warn!("a connection has no time limit for unread answers: {error}");
    }
}

/// Gives an answer without a body an empty one. actix waits for the client to take a body before it goes on to the next
/// request, but does not wait after an answer without one: a client that sent `OPTIONS` and read nothing filled the
/// memory.
pub(super) fn with_body(response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
    response.map_body(|head, body| {
        if !matches!(body.size(), BodySize::None | BodySize::Sized(0)) {
            return body;
        }
        // An empty body has no chunks and no end marker.
        head.no_chunking(true);
        if !matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            head.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        BoxBody::new(BodyStream::new(stream::empty::<Result<Bytes, Infallible>>()))
    })
}
