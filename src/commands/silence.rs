//! Ends a command, or a start, whose database is silent: such a database accepts everything and never answers, and
//! libpq waits for ever.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use diesel::connection::Connection;
use diesel::pg::PgConnection;

use crate::db::with_client_limits;

/// The time between two looks. Most commands end before the first.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long a new connection may take. libpq gives up after two seconds for each address of the host.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// How many silent looks in a row end the process. A loaded server may miss one.
const SILENT_LOOKS: u32 = 2;

/// Ends the watch when it is dropped.
pub type Watch = mpsc::Sender<()>;

/// Ends the process with one line and this code if the database does not answer while the watch lives.
///
/// A migration, an erasure or a sweep may take long, so the watch does not limit the command's time. It asks over a
/// separate connection whether the database answers at all.
pub fn end_if_silent(url: &str, code: u8) -> Watch {
    let (alive, ended) = mpsc::channel();
    let url = with_client_limits(url);
    thread::spawn(move || {
        let mut silent = 0;
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(LOOK_EVERY) {
            silent = if answers(&url) { 0 } else { silent + 1 };
            if silent == SILENT_LOOKS {
                eprintln!("payments: the database does not answer: it accepts connections, and no statement ends");
                #[expect(
                    clippy::disallowed_methods,
                    reason = "the main thread waits in libpq and can't return; nothing is to be drained"
                )]
                std::process::exit(code.into());
            }
        }
    });
    alive
}

/// A refusal is an answer too: the command will meet it.
fn answers(url: &str) -> bool {
    let (sender, looked) = mpsc::channel();
    let url = url.to_owned();
    // Connecting sends a statement, so it needs an answer.
    thread::spawn(move || {
        let refused = PgConnection::establish(&url).err();
        sender.send(refused.is_none_or(|error| !error.to_string().contains("timeout expired")))
    });
    looked.recv_timeout(ANSWERS_WITHIN).unwrap_or(false)
}
