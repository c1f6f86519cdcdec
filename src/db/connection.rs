//! A thread's connection: how it is made, how long it is trusted, and when it is closed.
//!
//! Guarantees: every connection has its time limits; a connection that met [`Fault::Reconnect`](crate::idempotency::Fault)
//! is closed, and so is every connection made before that, each before its next use. So work that runs again after a
//! fail-over or a migration gets a fresh connection, whichever thread takes it.
//!
//! Not cheap: while the server only reads, each write that fails closes the connections of all threads. In return, no
//! connection is still read-only after the fail-over.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use diesel::connection::{AnsiTransactionManager, Connection, SimpleConnection, TransactionManager};
use diesel::pg::PgConnection;

use super::outage::{Extent, Outage};
use crate::idempotency::{CONNECTION_LIMITS, Error, watched};

/// How long work waits for a connection before the answer is 503. A healthy server connects in milliseconds; two seconds
/// outlast a restart's first moment and stay below what clients wait.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// Between two tries to connect: short at first, since a restart takes moments, then few.
const CONNECT_AGAIN_AFTER: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// An idle connection may have been cut by a restart or a firewall. After a second of rest one round trip to find out
/// costs nothing that anybody waits for.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// Work that a connection does before it plans its statements afresh, as it does whenever it has done twice as much as the
/// last time. PostgreSQL keeps the plan of a prepared statement until a table is analyzed, up to minutes later: one that was
/// made for an empty table reads all of an account's rows to find one. At least half of the work that a connection has seen
/// was then done when its plans were made, so no table has outgrown them.
const FIRST_PLANS_SERVE: u32 = 64;

/// How libpq finds out that the server's host is gone, and how long it tries to connect (in seconds, the user timeout in
/// milliseconds). The mirror image of [`CONNECTION_LIMITS`], which makes the server notice that we are gone.
const CLIENT_LIMITS: [(&str, &str); 6] = [
    ("connect_timeout", "2"),
    ("keepalives_idle", "5"),
    ("keepalives_interval", "1"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "8000"),
    ("application_name", "payments"),
];

/// What all threads know of the server.
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

    /// Whether the last try to connect failed.
    pub fn is_unreachable(&self) -> bool {
        lock(&self.unreachable).is_on()
    }

    /// The connection that the thread kept, if it is still to be trusted; else a fresh one.
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

    /// Tries for [`CONNECT_WITHIN`] since the server was first found unreachable. Later in an outage, one try has to do.
    #[expect(clippy::disallowed_methods, reason = "a database thread, which has nothing to do without a connection")]
    fn connect(self: &Arc<Self>) -> Result<Session, Error> {
        let (min, max) = CONNECT_AGAIN_AFTER;
        let mut pauses = ExponentialBuilder::new().with_min_delay(min).with_max_delay(max).without_max_times().build();
        loop {
            // Read before the connection is made: if a fault comes in between, the fresh connection is closed in vain, but no
            // old connection is kept.
            let epoch = self.epoch.load(Ordering::Relaxed);
            let cause = match establish(&self.url) {
                Ok(conn) => {
                    self.tell_reached();
                    return Ok(Session { conn, epoch, works: 0, used: Instant::now(), server: Arc::clone(self) });
                }
                Err(cause) => cause,
            };
            let lasted = self.tell_unreachable(&cause);
            let pause = pauses.next().unwrap_or(max);
            if lasted + pause > CONNECT_WITHIN {
                return Err(Error::Unreachable(cause));
            }
            thread::sleep(pause);
        }
    }

    /// Closes the connections of this epoch and of earlier ones, each before its next use.
    fn reconnect(&self, epoch: u64, why: &str) {
        self.epoch.fetch_max(epoch + 1, Ordering::Relaxed);
        let Extent { faults, is_news, .. } = lock(&self.reconnects).fault(Instant::now());
        if is_news {
            log::warn!("database connections are made afresh (number {faults}): {why}");
        }
    }

    fn tell_unreachable(&self, cause: &str) -> Duration {
        let Extent { lasted, faults, is_news } = lock(&self.unreachable).fault(Instant::now());
        if is_news && faults == 1 {
            log::error!("the database can't be reached: {cause}");
        } else if is_news {
            log::error!("the database can't be reached for {} s now, {faults} tries: {cause}", lasted.as_secs());
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
    // Counting does not panic, so a poisoned count is a whole count.
    outage.lock().unwrap_or_else(PoisonError::into_inner)
}

fn establish(url: &str) -> Result<PgConnection, String> {
    let mut conn = PgConnection::establish(url).map_err(|error| error.to_string())?;
    conn.batch_execute(CONNECTION_LIMITS).map_err(|error| error.to_string())?;
    Ok(conn)
}

/// A connection, and what is known of it.
pub(super) struct Session {
    conn: PgConnection,
    epoch: u64,
    works: u32,
    used: Instant,
    server: Arc<Server>,
}

impl Session {
    /// Runs work. None where it panicked.
    pub fn run<R>(&mut self, work: impl FnOnce(&mut PgConnection) -> R) -> Option<R> {
        self.works = self.works.wrapping_add(1);
        if self.works >= FIRST_PLANS_SERVE && self.works.is_power_of_two() {
            // If it fails, the connection is dead, and the work tells.
            let _ = self.conn.batch_execute("DISCARD PLANS");
        }
        self.watch(|conn| catch_unwind(AssertUnwindSafe(|| work(conn))).ok())
    }

    /// Whether the connection may do more work: it is as new as it has to be, and has no transaction left open.
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
        // Before the result is sent: the work that runs again finds no older connection.
        if let Some(why) = why {
            self.server.reconnect(self.epoch, &why);
        }
        result
    }
}

/// The URL (or `key=value` list) with `CLIENT_LIMITS`, where it doesn't say otherwise.
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
