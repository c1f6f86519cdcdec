// SPDX-License-Identifier: MIT OR Apache-2.0
//! r2d2's pool, and its hooks: how a connection is made, tested, watched and closed.
//!
//! Guarantees: every connection has its time limits. If a connection is lost, stale, silent or read-only, work gets no
//! connection that is as old: a new pool of r2d2 takes the place of the old one, whose connections are closed as their
//! work ends. So work that runs again after a fail-over or a migration gets a fresh connection.

use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fmt, mem, thread};

use diesel::ConnectionError;
use diesel::connection::{AnsiTransactionManager, Connection, SimpleConnection, TransactionManager};
use diesel::pg::PgConnection;
use diesel::r2d2::{HandleError, ManageConnection, Pool, PooledConnection};
use idempotency::{CONNECTION_LIMITS, Error, Fault, fault, on_error};
use parking_lot::Mutex;

use super::cause::{Cause, words_of};
use super::server::Server;
use super::threads::Threads;

/// How long work waits for a connection before the answer is 503. A healthy server accepts a connection in
/// milliseconds. Two seconds outlast the first moments of a restart, and clients wait longer than that. r2d2 tries
/// again after pauses of at most half of this.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// How long work waits for a connection once the log has said that none can be made. r2d2 goes on trying, so the wait
/// only decides how soon a client knows.
const CONNECT_WITHIN_WHILE_AWAY: Duration = Duration::from_millis(500);

/// A connection that was idle for longer is tested before its next use: a restart or a firewall may have cut it. After
/// a second of rest, one more round trip costs little.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// How many connections work tests before it gives up. If one was cut, its pool is replaced, so the second is fresh.
const TESTED_AT_MOST: u32 = 2;

/// After this many pieces of work, a connection plans its statements again, and once more each time the number has
/// doubled.
///
/// PostgreSQL keeps the plan of a prepared statement until a table is analyzed, which may take minutes. A plan that was
/// made for an empty table reads all rows of an account to find one: on a fresh database, the last of 4,000 paid orders
/// cost PostgreSQL 5.8 ms each, and 4.4 ms with this. With the doubling, a connection has always made its plans after
/// at least half of its work so far.
const FIRST_PLANS_SERVE: u32 = 64;

/// The connections for one kind of work.
pub(super) struct Connections {
    manager: Manager,
    size: u32,
    /// The pool of the newest epoch that work has asked for.
    pool: Mutex<(u64, Pool<Manager>)>,
}

impl Connections {
    /// At most `size` connections of an epoch. None is made before work needs it.
    pub fn new(url: &Arc<str>, server: &Arc<Server>, threads: &Arc<Threads>, size: u32) -> Self {
        let manager = Manager {
            url: Arc::clone(url),
            server: Arc::clone(server),
            threads: Arc::clone(threads),
            epoch: server.epoch(),
        };
        let pool = Mutex::new((manager.epoch, pool(manager.clone(), size)));
        Self { manager, size, pool }
    }

    /// A connection that has just been made, used or tested. Blocks for a few seconds at most, unless the server is silent.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub fn open(&self) -> Result<PooledConnection<Manager>, Error> {
        for _ in 0..TESTED_AT_MOST {
            let mut session = self.take()?;
            if session.answers() {
                return Ok(session);
            }
        }
        Err(self.manager.server.no_connection())
    }

    fn take(&self) -> Result<PooledConnection<Manager>, Error> {
        let pool = self.current();
        if let Some(idle) = pool.try_get() {
            return Ok(idle);
        }
        let is_away = self.manager.server.outages.away().is_some();
        let within = if is_away { CONNECT_WITHIN_WHILE_AWAY } else { CONNECT_WITHIN };
        pool.get_timeout(within).map_err(|_| self.manager.server.no_connection())
    }

    /// The pool of the server's epoch.
    fn current(&self) -> Pool<Manager> {
        let mut current = self.pool.lock();
        let epoch = self.manager.server.epoch();
        if current.0 == epoch {
            return current.1.clone();
        }
        let fresh = pool(Manager { epoch, ..self.manager.clone() }, self.size);
        let old = mem::replace(&mut *current, (epoch, fresh.clone()));
        // Closing connections takes a moment each.
        drop(current);
        drop(old);
        fresh
    }
}

fn pool(manager: Manager, size: u32) -> Pool<Manager> {
    Pool::builder()
        .max_size(size)
        .min_idle(Some(0))
        .connection_timeout(CONNECT_WITHIN)
        // `Session::answers` does it, and only after a rest.
        .test_on_check_out(false)
        // A connection stays until a fault shows that it is useless.
        .idle_timeout(None)
        .max_lifetime(None)
        .error_handler(Box::new(Failed(Arc::clone(&manager.server))))
        .build_unchecked(manager)
}

/// How r2d2 makes connections and knows which to close.
#[derive(Clone)]
pub(super) struct Manager {
    url: Arc<str>,
    server: Arc<Server>,
    threads: Arc<Threads>,
    epoch: u64,
}

impl ManageConnection for Manager {
    type Connection = Session;
    type Error = ConnectionError;

    /// Connects on one of the pool's threads: a pooler may accept the connection and then never answer, and r2d2 has
    /// only three threads.
    fn connect(&self) -> Result<Session, ConnectionError> {
        let url = Arc::clone(&self.url);
        let made = self.threads.run_within(CONNECT_WITHIN, move || establish(&url));
        let silent = || ConnectionError::BadConnection("timeout expired: the server does not answer".to_owned());
        let mut conn = made.ok_or_else(silent)??;
        let (server, epoch, met) = (Arc::clone(&self.server), self.epoch, Arc::default());
        watch(&mut conn, &server, epoch, &met);
        Ok(Session { conn, server, epoch, met, works: 0, used: Instant::now() })
    }

    fn is_valid(&self, _: &mut Session) -> Result<(), ConnectionError> {
        Ok(())
    }

    fn has_broken(&self, session: &mut Session) -> bool {
        session.used = Instant::now();
        let is_old = session.epoch != self.server.epoch();
        is_old || thread::panicking() || AnsiTransactionManager::is_broken_transaction_manager(&mut session.conn)
    }
}

fn establish(url: &str) -> Result<PgConnection, ConnectionError> {
    let mut conn = PgConnection::establish(url)?;
    conn.batch_execute(CONNECTION_LIMITS).map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(conn)
}

/// Hears from r2d2 when a connection can't be made.
struct Failed(Arc<Server>);

impl fmt::Debug for Failed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Failed")
    }
}

impl HandleError<ConnectionError> for Failed {
    fn handle_error(&self, error: ConnectionError) {
        self.0.could_not_connect(&error.to_string());
    }
}

/// A connection and its state.
pub(super) struct Session {
    conn: PgConnection,
    server: Arc<Server>,
    epoch: u64,
    /// The fault of the server that the work has met.
    met: Arc<Mutex<Option<Fault>>>,
    works: u32,
    used: Instant,
}

impl Session {
    /// Whether the connection still answers after a rest. If not, r2d2 closes it when it goes back.
    fn answers(&mut self) -> bool {
        *self.met.lock() = None;
        let answers = self.used.elapsed() <= TRUSTED_FOR || self.conn.batch_execute("SELECT 1").is_ok();
        if !answers {
            AnsiTransactionManager::transaction_manager_status_mut(&mut self.conn).set_in_error();
        }
        answers
    }

    /// Runs work.
    pub fn run<R>(&mut self, work: impl FnOnce(&mut PgConnection) -> R) -> R {
        self.works = self.works.wrapping_add(1);
        if self.works >= FIRST_PLANS_SERVE && self.works.is_power_of_two() {
            // If this fails, the connection is dead, and the work reports the fault.
            let _ = self.conn.batch_execute("DISCARD PLANS");
        }
        let result = work(&mut self.conn);
        if self.met.lock().is_none() {
            self.server.served();
        }
        result
    }
}

/// Reports to [`Server`] the first statement of each work that fails because of the server, and the first that spoils the
/// connection. Later statements, such as the ROLLBACK, fail too and are not reported. [`Server`] knows of the fault before
/// the work can run again.
fn watch(conn: &mut PgConnection, server: &Arc<Server>, epoch: u64, met: &Arc<Mutex<Option<Fault>>>) {
    let (server, met) = (Arc::clone(server), Arc::clone(met));
    on_error(conn, move |error| {
        let Some(cause) = Cause::of(error) else { return };
        let (fault, before) = (fault(error), *met.lock());
        if before == Some(fault) || before == Some(Fault::Reconnect) {
            return;
        }
        *met.lock() = Some(fault);
        server.met(cause, || words_of(error));
        match (fault, cause) {
            (Fault::Reconnect, Cause::ReadOnly) => server.found_read_only(epoch),
            (Fault::Reconnect, _) => server.close_up_to(epoch),
            _ => {}
        }
    });
}
