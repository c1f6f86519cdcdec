// SPDX-License-Identifier: MIT OR Apache-2.0
//! What all work shares about the server: how to connect to it, which of its connections are good, and what is wrong
//! with it.
//!
//! Guarantees: while no connection can be opened, the whole process tries to connect at most twice a second, whatever
//! the number of requests. If a connection is lost or has stale plans, it and all older connections are closed, each
//! before its next use. So work that runs again after a fail-over or a migration gets a fresh connection on any thread.
//!
//! The price: a server that turns out to be read-only costs each thread its connection every two seconds. In return, no
//! connection stays read-only after the fail-over.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use diesel::connection::{Connection, SimpleConnection};
use diesel::pg::PgConnection;
use parking_lot::{Condvar, Mutex};

use super::cause::{Cause, Standing, one_line};
use super::outage::{Line, Outages};
use idempotency::{CONNECTION_LIMITS, Error};

/// How long work waits for a connection before the answer is 503. A healthy server accepts a connection in
/// milliseconds. Two seconds outlast the first moments of a restart, and clients wait longer than that.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// The shortest and the longest pause between two tries to connect. Between these bounds, a pause lasts twice as long
/// as the outage so far: a restart may take only moments, so the first pauses are short.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// How often the connections to a read-only server are closed. A connection younger than this still shows the server's
/// state, so reads go on over it. When the server takes writes again, readiness notices within a second and closes all
/// of them.
const READ_ONLY_CLOSES_EVERY: Duration = Duration::from_secs(2);

/// A server that answered within this time does not count as silent. While it may be silent, readiness checks it every
/// second.
const ANSWERS: Duration = Duration::from_secs(2);

/// libpq's limits: how long it tries to connect, and how soon it notices that the server's host is gone. Times are in
/// seconds, except for `tcp_user_timeout`, which is in milliseconds. [`CONNECTION_LIMITS`] is the counterpart, by which
/// the server notices that this process is gone.
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
    /// When work last ended without a fault of the server.
    served: Mutex<Instant>,
    closed: Mutex<Option<Closed>>,
    /// Wakes the work that waits for `closed` to change.
    opened: Condvar,
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

/// What is known after a failed attempt to connect. The next success clears it.
struct Closed {
    since: Instant,
    /// Nobody tries again before this.
    until: Instant,
    /// When the latest failed attempt began.
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

    /// A fresh connection and its epoch. Work tries until [`CONNECT_WITHIN`] after an outage's first failure. Later in
    /// the outage it waits for a single attempt, its own or another's.
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
            // The epoch is read before connecting. If a fault comes in between, a fresh connection is closed
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

    /// Waits until this work may try to connect. It then sets the time of the next attempt, so that nobody else tries
    /// before.
    ///
    /// # Errors
    /// Why the last attempt failed, if that attempt began after the work came, and [`CONNECT_WITHIN`] is over.
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

    /// Closes the connections of this epoch and of earlier ones, each before its next use.
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

/// Adds the name and libpq's time limits to a URL or a `key=value` list: how long libpq tries to connect, and how soon
/// it notices that the server's host is gone. A parameter that the text already has is kept. The pool does this for its
/// own connections. The name must be one word of letters, digits, `-` and `_`.
#[must_use]
pub fn with_client_limits(database_url: &str, application_name: &str) -> String {
    let is_url = database_url.starts_with("postgres://") || database_url.starts_with("postgresql://");
    let mut text = database_url.to_owned();
    for (name, value) in CLIENT_LIMITS.into_iter().chain([("application_name", application_name)]) {
        if !database_url.contains(name) {
            let separator = match (is_url, text.contains('?')) {
                // libpq refuses an empty parameter.
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
    fn connections_to_a_read_only_server_are_closed_every_two_seconds_and_when_it_takes_writes_again() {
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
    fn a_readiness_check_of_a_read_only_server_keeps_no_write_from_closing_the_connections() {
        let server = Server::new("postgres://", "tests");
        server.looked(Err(Cause::ReadOnly));
        server.found_read_only(0);
        assert_eq!(server.epoch(), 1);
    }
}
