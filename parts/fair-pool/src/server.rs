// SPDX-License-Identifier: MIT OR Apache-2.0
//! What all work knows about the server: how to connect to it, which of its connections are good, and what is wrong with it.
//!
//! Guarantees: while no connection can be made, the whole process tries to connect at most twice a second, whatever the number of
//! requests. If a connection is lost or has stale plans, it and all older connections are closed, each before its next use. So
//! work that runs again after a fail-over or a migration gets a fresh connection on any thread.
//!
//! The price: a server that turns out to be read-only costs each thread its connection every two seconds. In return, no
//! connection is still read-only after the fail-over.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use diesel::connection::{Connection, SimpleConnection};
use diesel::pg::PgConnection;
use parking_lot::{Condvar, Mutex};

use super::cause::{Cause, Standing, one_line};
use super::outage::{Line, Outages};
use idempotency::{CONNECTION_LIMITS, Error};

/// How long work waits for a connection before the answer is 503. A healthy server connects in milliseconds. Two seconds
/// outlast the first moment of a restart, and clients wait longer than two seconds.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// The shortest and the longest pause between two tries to connect. Between them, a pause is twice as long as the outage so far,
/// because a restart takes moments.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// Once in this time a read-only server closes the connections that it found read-only. Connections as young as this tell the
/// truth, and the reads go on over them. When the server takes writes again, readiness notices within a second and closes all.
const READ_ONLY_CLOSES_EVERY: Duration = Duration::from_secs(2);

/// A server that has answered within this time is not silent. While it may be, readiness looks every second.
const ANSWERS: Duration = Duration::from_secs(2);

/// libpq's limits: how long it tries to connect, and how soon it notices that the server's host is gone. In seconds, but
/// `tcp_user_timeout` in milliseconds. The counterpart is [`CONNECTION_LIMITS`]: the server notices that this process is gone.
const CLIENT_LIMITS: [(&str, &str); 5] = [
    ("connect_timeout", "2"),
    ("keepalives_idle", "5"),
    ("keepalives_interval", "1"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "8000"),
];

/// What all work knows about the server.
pub(super) struct Server {
    url: String,
    /// Connections of an earlier epoch are closed before their next use.
    epoch: AtomicU64,
    pub outages: Outages,
    /// When work last ended well.
    served: Mutex<Instant>,
    closed: Mutex<Option<Closed>>,
    /// Wakes the work that waits for `closed` to change.
    opened: Condvar,
    read_only: Mutex<ReadOnly>,
}

/// What is known of a time in which the server takes no writes.
#[derive(Default)]
struct ReadOnly {
    /// It has not been seen to be over.
    lasts: bool,
    /// When it last closed the connections.
    closed: Option<Instant>,
}

/// The last try to connect failed.
struct Closed {
    since: Instant,
    /// Nobody tries before.
    until: Instant,
    /// When the last try that failed was begun.
    tried: Instant,
    cause: Cause,
    words: String,
}

impl Server {
    pub fn new(database_url: &str, application_name: &str) -> Self {
        Self {
            url: with_client_limits(database_url, application_name),
            epoch: AtomicU64::new(0),
            outages: Outages::default(),
            served: Mutex::new(Instant::now()),
            closed: Mutex::default(),
            opened: Condvar::new(),
            read_only: Mutex::default(),
        }
    }

    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// Why work did not get its turn. If the database is away, all work waits for a connection. `load` says who has how many.
    pub fn no_turn(&self, load: impl FnOnce() -> String) -> Error {
        if let Some((cause, words)) = self.outages.away() {
            return cause.error(&words);
        }
        self.met(Cause::Queue, load);
        Error::Overloaded
    }

    /// A piece of work met the cause.
    pub fn met(&self, cause: Cause, words: impl FnOnce() -> String) {
        if let Some(line) = self.outages.met(cause, Instant::now(), words) {
            line.tell();
        }
    }

    /// A piece of work ended, and no statement of it failed for a reason of the server.
    pub fn served(&self) {
        *self.served.lock() = Instant::now();
    }

    /// Work was given up after this time, with its connection.
    pub fn met_silence(&self, after: Duration) {
        // After a silence, its connections may stay silent for good.
        let cause = if self.served.lock().elapsed() < ANSWERS { Cause::ConnectionLost } else { Cause::Silent };
        self.met(cause, || format!("work was given up after {} s, with its connection", after.as_secs()));
    }

    /// Writes the lines of what is over.
    pub fn end_outages(&self) {
        self.outages.end(Instant::now()).iter().for_each(Line::tell);
    }

    /// A fresh connection and its epoch. Work tries until [`CONNECT_WITHIN`] after the first failure. Later in an outage, it waits for one try.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub fn connect(&self) -> Result<(PgConnection, u64), Error> {
        let came = Instant::now();
        let mut has_tried = false;
        loop {
            if let Err((cause, words)) = self.until_try_is_due(came) {
                let error = cause.error(&words);
                if !has_tried {
                    self.met(cause, || words);
                }
                return Err(error);
            }
            has_tried = true;
            let began = Instant::now();
            // The epoch is read before the connection is made. If a fault comes in between, a fresh connection is closed
            // needlessly. In the other order, an old connection could be kept.
            let epoch = self.epoch();
            match establish(&self.url) {
                Ok(conn) => {
                    *self.closed.lock() = None;
                    self.opened.notify_all();
                    return Ok((conn, epoch));
                }
                Err(words) => self.failed(&words, began),
            }
        }
    }

    /// Waits for the right to try. Who tries sets the time of the next try, so that nobody else tries before.
    ///
    /// # Errors
    /// Why not, if a try failed that was begun since the work came, and the time of trying on is over.
    fn until_try_is_due(&self, came: Instant) -> Result<(), (Cause, String)> {
        let mut closed = self.closed.lock();
        loop {
            let Some(last) = &mut *closed else { return Ok(()) };
            let now = Instant::now();
            if last.tried >= came && last.until > last.since + CONNECT_WITHIN {
                return Err((last.cause, last.words.clone()));
            }
            if now >= last.until {
                last.until = now + (2 * (now - last.since)).clamp(PAUSES.0, PAUSES.1);
                return Ok(());
            }
            let until = last.until;
            self.opened.wait_until(&mut closed, until);
        }
    }

    fn failed(&self, words: &str, began: Instant) {
        let (cause, words, now) = (Cause::of_connecting(words), one_line(words), Instant::now());
        {
            let mut closed = self.closed.lock();
            let first = || Closed { since: now, until: now + PAUSES.0, tried: began, cause, words: String::new() };
            let last = closed.get_or_insert_with(first);
            (last.cause, last.words, last.tried) = (cause, words.clone(), last.tried.max(began));
        }
        self.opened.notify_all();
        self.met(cause, || words);
    }

    /// Closes the connections of this epoch and of earlier epochs, each before its next use.
    pub fn close_up_to(&self, epoch: u64) {
        self.epoch.fetch_max(epoch + 1, Ordering::Relaxed);
    }

    /// A connection of this epoch turned out to be read-only. It is closed, with all others, unless they are too young.
    pub fn found_read_only(&self, epoch: u64) {
        let mut read_only = self.read_only.lock();
        read_only.lasts = true;
        if epoch == self.epoch() && read_only.closed.is_none_or(|closed| closed.elapsed() >= READ_ONLY_CLOSES_EVERY) {
            read_only.closed = Some(Instant::now());
            self.close_up_to(epoch);
        }
    }

    /// Readiness has looked. If the server takes writes and was read-only before, the connections of that time are closed.
    pub fn looked(&self, standing: Standing) {
        let mut read_only = self.read_only.lock();
        match standing {
            Err(Cause::ReadOnly) => read_only.lasts = true,
            Ok(()) if read_only.lasts => {
                *read_only = ReadOnly::default();
                self.close_up_to(self.epoch());
            }
            _ => {}
        }
        drop(read_only);
        if let Err(cause) = standing {
            self.met(cause, || "as readiness found".to_owned());
        }
    }
}

fn establish(url: &str) -> Result<PgConnection, String> {
    let mut conn = PgConnection::establish(url).map_err(|error| error.to_string())?;
    conn.batch_execute(CONNECTION_LIMITS).map_err(|error| error.to_string())?;
    Ok(conn)
}

/// Adds libpq's limits and the name to the URL, or to the `key=value` list: how long it tries to connect, and how soon it notices
/// that the server's host is gone. What the text already has stays as it is. The pool does this for its own connections. The name
/// is one word of letters, digits, `-` and `_`.
#[must_use]
pub fn with_client_limits(database_url: &str, application_name: &str) -> String {
    let is_url = database_url.starts_with("postgres://") || database_url.starts_with("postgresql://");
    let mut text = database_url.to_owned();
    for (name, value) in CLIENT_LIMITS.into_iter().chain([("application_name", application_name)]) {
        if !database_url.contains(name) {
            let separator = match (is_url, text.contains('?')) {
                // libpq takes no empty parameter.
                (true, true) if text.ends_with(['?', '&']) => "",
                (true, true) => "&",
                (true, false) => "?",
                (false, _) => " ",
            };
            text.extend([separator, name, "=", value]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_a_read_only_time_are_closed_every_two_seconds_and_when_the_server_takes_writes() {
        let server = Server::new("postgres://", "tests");
        server.found_read_only(0);
        assert_eq!(server.epoch(), 1);
        server.found_read_only(1);
        assert_eq!(server.epoch(), 1, "it is too young");
        for (standing, epoch) in [(Ok(()), 2), (Ok(()), 2), (Err(Cause::ReadOnly), 2), (Ok(()), 3)] {
            server.looked(standing);
            assert_eq!(server.epoch(), epoch, "{standing:?}");
        }
    }

    #[test]
    fn a_look_at_a_read_only_server_keeps_no_write_from_closing_the_connections() {
        let server = Server::new("postgres://", "tests");
        server.looked(Err(Cause::ReadOnly));
        server.found_read_only(0);
        assert_eq!(server.epoch(), 1);
    }
}
