//! A connection of the pool: when it is made, trusted and closed.
//!
//! Guarantees: every connection has its time limits. If a connection meets
//! [`Fault::Reconnect`](idempotency::Fault), this connection and all older connections are closed, each before its next
//! use. So work that runs again after a fail-over or a migration gets a fresh connection on any thread.
//!
//! The price: while the server is read-only, each failed write closes the connections of all threads. In return, no connection
//! is still read-only after the fail-over.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use diesel::connection::{AnsiTransactionManager, Connection, SimpleConnection, TransactionManager};
use diesel::pg::PgConnection;

use super::outage::{Extent, Outage};
use idempotency::{CONNECTION_LIMITS, Error, watched};

/// How long work waits for a connection before the answer is 503. A healthy server connects in milliseconds. Two seconds
/// outlast the first moment of a restart, and clients wait longer than two seconds.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// The shortest and the longest pause between two tries to connect. Short at first, because a restart takes moments.
const CONNECT_AGAIN_AFTER: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// A connection that was idle for longer is tried before its next use: a restart or a firewall may have cut it. After a second
/// of rest, one more round trip costs little.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// After so many pieces of work, a connection plans its statements again. It does this once more each time the number has
/// doubled.
///
/// PostgreSQL keeps the plan of a prepared statement until a table is analyzed, which may take minutes. A plan for an empty
/// table reads all rows of an account to find one row: the last of 4,000 paid orders on a fresh database cost PostgreSQL 5.8 ms
/// each, and 4.4 ms with this. With the doubling, a connection has done at least half of its work before its last plans.
const FIRST_PLANS_SERVE: u32 = 64;

/// libpq's limits: how long it tries to connect, and how soon it notices that the server's host is gone. In seconds, but
/// `tcp_user_timeout` in milliseconds. The counterpart is [`CONNECTION_LIMITS`]: the server notices that this process is gone.
const CLIENT_LIMITS: [(&str, &str); 6] = [
    ("connect_timeout", "2"),
    ("keepalives_idle", "5"),
    ("keepalives_interval", "1"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "8000"),
    ("application_name", "payments"),
];

/// The log's words for a database that can't be connected to, and for one that accepts and does not answer.
const AWAY: &str = "the database can't be reached";
const SILENT: &str = "the database does not answer";

/// What all work knows about the server.
pub(super) struct Server {
    url: String,
    /// Connections of an earlier epoch are closed before their next use.
    epoch: AtomicU64,
    unreachable: Mutex<Outage>,
    reconnects: Mutex<Outage>,
}

impl Server {
    pub fn new(database_url: &str) -> Self {
        Self {
            url: with_client_limits(database_url),
            epoch: AtomicU64::new(0),
            unreachable: Mutex::default(),
            reconnects: Mutex::default(),
        }
    }

    /// Why work did not get its turn. If the database is away, all work waits for a connection.
    pub fn no_turn(&self) -> Error {
        if lock(&self.unreachable).is_on() {
            Error::Unreachable("no connection within the time that work may wait".into())
        } else {
            Error::Overloaded
        }
    }

    /// The connection that was kept, if it is still good, else a fresh connection.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub fn session(self: &Arc<Self>, kept: Option<Session>) -> Result<Session, Error> {
        if let Some(mut session) = kept
            && session.is_current()
            && (session.used.elapsed() <= TRUSTED_FOR || session.answers())
        {
            return Ok(session);
        }
        self.connect()
    }

    /// Tries until [`CONNECT_WITHIN`] after the server was first found unreachable. Later in an outage, there is only one try.
    #[expect(clippy::disallowed_methods, reason = "a database thread, which has nothing to do without a connection")]
    fn connect(self: &Arc<Self>) -> Result<Session, Error> {
        let (min, max) = CONNECT_AGAIN_AFTER;
        let mut pauses = ExponentialBuilder::new().with_min_delay(min).with_max_delay(max).without_max_times().build();
        loop {
            // The epoch is read before the connection is made. If a fault comes in between, a fresh connection is closed in
            // vain. In the other order, an old connection could be kept.
            let epoch = self.epoch.load(Ordering::Relaxed);
            let cause = match establish(&self.url) {
                Ok(conn) => {
                    self.tell_reached();
                    return Ok(Session { conn, epoch, works: 0, used: Instant::now(), server: Arc::clone(self) });
                }
                Err(cause) => cause,
            };
            let is_silent = cause.contains("timeout expired");
            let lasted = self.tell_unreachable(if is_silent { SILENT } else { AWAY }, &cause);
            let pause = pauses.next().unwrap_or(max);
            if lasted + pause > CONNECT_WITHIN {
                return Err(Error::Unreachable(cause));
            }
            thread::sleep(pause);
        }
    }

    /// Closes the connections of this epoch and of earlier epochs, each before its next use.
    fn reconnect(&self, epoch: u64, why: &str) {
        self.epoch.fetch_max(epoch + 1, Ordering::Relaxed);
        let Extent { faults, is_news, .. } = lock(&self.reconnects).fault(Instant::now());
        if is_news {
            log::warn!("database connections are made anew (number {faults}): {why}");
        }
    }

    /// Work was given up.
    pub fn tell_silent(&self, after: Duration) {
        self.tell_unreachable(SILENT, &format!("work was given up after {} s, with its connection", after.as_secs()));
    }

    fn tell_unreachable(&self, what: &str, cause: &str) -> Duration {
        let Extent { lasted, faults, is_news } = lock(&self.unreachable).fault(Instant::now());
        if is_news && faults == 1 {
            log::error!("{what}: {cause}");
        } else if is_news {
            log::error!("{what}, for {} s now, {faults} tries: {cause}", lasted.as_secs());
        }
        lasted
    }

    fn tell_reached(&self) {
        if let Some(Extent { lasted, faults, .. }) = lock(&self.unreachable).end(Instant::now()) {
            log::warn!("the database is reached again, after {:.1} s and {faults} tries", lasted.as_secs_f64());
        }
    }
}

fn lock(outage: &Mutex<Outage>) -> MutexGuard<'_, Outage> {
    // Counting does not panic, so the count is right even if the lock is poisoned.
    outage.lock().unwrap_or_else(PoisonError::into_inner)
}

fn establish(url: &str) -> Result<PgConnection, String> {
    let mut conn = PgConnection::establish(url).map_err(|error| error.to_string())?;
    conn.batch_execute(CONNECTION_LIMITS).map_err(|error| error.to_string())?;
    Ok(conn)
}

/// A connection and its state.
pub(super) struct Session {
    conn: PgConnection,
    epoch: u64,
    works: u32,
    used: Instant,
    server: Arc<Server>,
}

impl Session {
    /// Runs work.
    pub fn run<R>(&mut self, work: impl FnOnce(&mut PgConnection) -> R) -> R {
        self.works = self.works.wrapping_add(1);
        if self.works >= FIRST_PLANS_SERVE && self.works.is_power_of_two() {
            // If this fails, the connection is dead, and the work reports the fault.
            let _ = self.conn.batch_execute("DISCARD PLANS");
        }
        self.watch(work)
    }

    /// Whether the connection may do more work: no later fault closes it, and no transaction is open.
    pub fn is_fit(&mut self) -> bool {
        self.used = Instant::now();
        self.is_current() && !AnsiTransactionManager::is_broken_transaction_manager(&mut self.conn)
    }

    fn is_current(&self) -> bool {
        self.epoch == self.server.epoch.load(Ordering::Relaxed)
    }

    /// One round trip, to find out whether the connection was cut.
    fn answers(&mut self) -> bool {
        self.watch(|conn| conn.batch_execute("SELECT 1")).is_ok()
    }

    fn watch<R>(&mut self, work: impl FnOnce(&mut PgConnection) -> R) -> R {
        let (result, why) = watched(&mut self.conn, work);
        // Before the result is sent, so that the work that runs again finds no old connection.
        if let Some(why) = why {
            self.server.reconnect(self.epoch, &why);
        }
        result
    }
}

/// Adds `CLIENT_LIMITS` to the URL, or to the `key=value` list. A limit that the text already has stays as it is.
#[must_use]
pub fn with_client_limits(database_url: &str) -> String {
    let is_url = database_url.starts_with("postgres://") || database_url.starts_with("postgresql://");
    let mut text = database_url.to_owned();
    for (name, value) in CLIENT_LIMITS {
        if !database_url.contains(name) {
            let separator = match (is_url, text.contains('?')) {
                (true, true) => '&',
                (true, false) => '?',
                (false, _) => ' ',
            };
            text.push(separator);
            text.extend([name, "=", value]);
        }
    }
    text
}
