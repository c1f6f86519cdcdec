// SPDX-License-Identifier: MIT OR Apache-2.0
//! What all work shares about the server: which of its connections are good, and what is wrong with it.
//!
//! A fault that spoils a connection ends its epoch: work gets no connection that was made in the epoch any more.
//!
//! The price: a server that turns out to be read-only costs the process its connections every two seconds. In return, no
//! connection stays read-only after the fail-over.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::cause::{Cause, one_line};
use super::outage::{Line, Outages};
use idempotency::Error;

/// How often the connections to a read-only server are closed. A connection younger than this still shows the server's
/// state, so reads go on over it. When the server takes writes again, readiness notices within a second and closes all
/// of them.
const READ_ONLY_CLOSES_EVERY: Duration = Duration::from_secs(2);

/// A server that answered within this time does not count as silent. While it may be silent, readiness checks it every
/// second.
const ANSWERS: Duration = Duration::from_secs(2);

/// What all work knows about the server.
pub(super) struct Server {
    /// Connections of an earlier epoch do no more work.
    epoch: AtomicU64,
    pub outages: Outages,
    /// When work last ended without a fault of the server.
    served: Mutex<Instant>,
    read_only: Mutex<ReadOnly>,
}

/// A period in which the server takes no writes.
#[derive(Default)]
struct ReadOnly {
    /// True until readiness finds that the server takes writes again.
    lasts: bool,
    /// When connections were last closed because of it.
    closed: Option<Instant>,
}

impl Server {
    pub fn new() -> Self {
        Self {
            epoch: AtomicU64::new(0),
            outages: Outages::default(),
            served: Mutex::new(Instant::now()),
            read_only: Mutex::default(),
        }
    }

    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// Why work got no turn. While the database is away, that is the reason: all work waits for a connection. `load`
    /// describes the load, for the log.
    pub fn no_turn(&self, load: impl FnOnce() -> String) -> Error {
        if let Some((cause, words)) = self.outages.away() {
            return cause.error(&words);
        }
        self.met(Cause::Queue, load);
        Error::Overloaded
    }

    /// Records that a piece of work met the cause, and logs it if a line is due.
    pub fn met(&self, cause: Cause, words: impl FnOnce() -> String) {
        if let Some(line) = self.outages.met(cause, Instant::now(), words) {
            line.tell();
        }
    }

    /// Records that a piece of work ended, and that no statement of it failed because of the server.
    pub fn served(&self) {
        *self.served.lock() = Instant::now();
    }

    /// Records that work was given up after this time, with its connection.
    pub fn met_silence(&self, after: Duration) {
        // A connection may stay silent for good after the server answers again.
        let cause = if self.served.lock().elapsed() < ANSWERS { Cause::ConnectionLost } else { Cause::Silent };
        self.met(cause, || format!("work was given up after {} s, with its connection", after.as_secs()));
    }

    /// Logs the causes that are over.
    pub fn end_outages(&self) {
        self.outages.end(Instant::now()).iter().for_each(Line::tell);
    }

    /// Records why a connection could not be made.
    pub fn could_not_connect(&self, words: &str) {
        self.met(Cause::of_connecting(words), || one_line(words));
    }

    /// Why no connection came in time: what r2d2 has reported, or silence, if the server has not even refused.
    pub fn no_connection(&self) -> Error {
        let (cause, words) = self.outages.away().unwrap_or_else(|| {
            let words = "no connection came in time".to_owned();
            self.met(Cause::Silent, || words.clone());
            (Cause::Silent, words)
        });
        cause.error(&words)
    }

    /// Ends this epoch and earlier ones: work gets no connection of them any more.
    pub fn close_up_to(&self, epoch: u64) {
        self.epoch.fetch_max(epoch + 1, Ordering::Relaxed);
    }

    /// Records that a connection of this epoch is read-only. It is closed with all others, unless connections were
    /// closed for this within [`READ_ONLY_CLOSES_EVERY`].
    pub fn found_read_only(&self, epoch: u64) {
        let mut read_only = self.read_only.lock();
        read_only.lasts = true;
        if epoch == self.epoch() && read_only.closed.is_none_or(|closed| closed.elapsed() >= READ_ONLY_CLOSES_EVERY) {
            read_only.closed = Some(Instant::now());
            self.close_up_to(epoch);
        }
    }

    /// Records what readiness found. If the server takes writes and was read-only before, the connections of that
    /// period are closed.
    pub fn looked(&self, ready: Result<(), Cause>) {
        let mut read_only = self.read_only.lock();
        match ready {
            Err(Cause::ReadOnly) => read_only.lasts = true,
            Ok(()) if read_only.lasts => {
                *read_only = ReadOnly::default();
                self.close_up_to(self.epoch());
            }
            _ => {}
        }
        drop(read_only);
        if let Err(cause) = ready {
            self.met(cause, || "as readiness found".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_to_a_read_only_server_are_closed_every_two_seconds_and_when_it_takes_writes_again() {
        let server = Server::new();
        server.found_read_only(0);
        assert_eq!(server.epoch(), 1);
        server.found_read_only(1);
        assert_eq!(server.epoch(), 1, "it is too young");
        for (ready, epoch) in [(Ok(()), 2), (Ok(()), 2), (Err(Cause::ReadOnly), 2), (Ok(()), 3)] {
            server.looked(ready);
            assert_eq!(server.epoch(), epoch, "{ready:?}");
        }
    }

    #[test]
    fn a_readiness_check_of_a_read_only_server_keeps_no_write_from_closing_the_connections() {
        let server = Server::new();
        server.looked(Err(Cause::ReadOnly));
        server.found_read_only(0);
        assert_eq!(server.epoch(), 1);
    }
}
