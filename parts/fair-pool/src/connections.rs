// SPDX-License-Identifier: MIT OR Apache-2.0
//! r2d2's pool, and its hooks: how a connection is made, tested, watched and closed.
//!
//! Guarantees: every connection has its time limits. If a connection is lost, stale or read-only, or half of them are
//! silent, work gets none that is as old: for the next work, a new pool of r2d2 takes the place of the old one, whose idle
//! connections are closed then, and the others when their work ends. So work that runs again after a fail-over or a
//! migration gets a fresh connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};
use std::{mem, thread};

use diesel::ConnectionError;
use diesel::connection::{AnsiTransactionManager, Connection, SimpleConnection, TransactionManager};
use diesel::pg::PgConnection;
use diesel::r2d2::{ManageConnection, NopErrorHandler, Pool, PooledConnection};
use idempotency::{CONNECTION_LIMITS, Error, Fault, fault, on_error};
use parking_lot::Mutex;
use scheduled_thread_pool::{OnPoolDropBehavior, ScheduledThreadPool};

use super::cause::{Cause, words_of};
use super::server::Server;
use super::threads::Threads;

/// How long work waits for a connection before the answer is 503. A healthy server accepts a connection in
/// milliseconds. Two seconds outlast the first moments of a restart, and clients wait longer than that. r2d2 tries
/// again after pauses of at most half of this, so work that comes when the server is back gets a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// How long one attempt to connect may take. libpq gives each address of the host two seconds, so the second address gets
/// its turn. A connection that comes too late for its work serves the next.
const ATTEMPT_WITHIN: Duration = Duration::from_secs(5);

/// How often work that waits for a connection looks whether another pool has taken the place of the one that it waits
/// in. A healthy server makes a connection in less.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A connection that was idle for longer is tested before its next use: a restart or a firewall may have cut it. After
/// a second of rest, one more round trip costs little.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// After this many pieces of work, a connection plans its statements again, and once more each time the number has
/// doubled.
///
/// PostgreSQL keeps the plan of a prepared statement until a table is analyzed, which may take minutes. A plan that was
/// made for an empty table reads all rows of an account to find one: on a fresh database, the last of 4,000 paid orders
/// cost PostgreSQL 5.8 ms each, and 4.4 ms with this. With the doubling, a connection has always made its plans after
/// at least half of its work so far.
const FIRST_PLANS_SERVE: u32 = 64;

/// How many threads of r2d2 make the connections for one kind of work. Each waits for one at a time.
const CONNECTING: u32 = 3;

/// The connections for one kind of work.
pub(super) struct Connections {
    current: Mutex<Arc<Generation>>,
}

/// How a pool is used.
#[derive(Default)]
pub(super) struct Use {
    /// How many pieces of work wait for a connection.
    waiting: AtomicUsize,
    /// Whether the last attempt to connect failed.
    failed: AtomicBool,
    /// How many were given up and keep their connections, which the pool counts.
    pub given_up: AtomicUsize,
    /// Whether another pool has taken the place of this one.
    is_replaced: AtomicBool,
}

/// A pool of r2d2, and what its manager knows.
struct Generation {
    manager: Manager,
    pool: Pool<Manager>,
}

impl Connections {
    /// At most `size` connections of a generation, apart from those of work that was given up.
    pub fn new(url: &Arc<str>, server: &Arc<Server>, threads: &Arc<Threads>, size: u32) -> Self {
        let connecting = ScheduledThreadPool::builder()
            .num_threads(CONNECTING.min(size) as usize)
            .thread_name_pattern("connect-{}")
            .on_drop_behavior(OnPoolDropBehavior::DiscardPendingScheduled)
            .build();
        let manager = Manager {
            url: Arc::clone(url),
            server: Arc::clone(server),
            threads: Arc::clone(threads),
            connecting: Arc::new(connecting),
            epoch: server.epoch(),
            size,
            in_use: Arc::default(),
        };
        Self { current: Mutex::new(Arc::new(Generation::of(manager))) }
    }

    /// A connection that has just been made, used or tested. Blocks for a few seconds at most, unless the server is silent.
    /// `uses` gets the [`Use`] of each pool that it takes from.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub fn open(&self, uses: impl Fn(&Arc<Use>)) -> Result<PooledConnection<Manager>, Error> {
        let until = Instant::now() + CONNECT_WITHIN;
        loop {
            let generation = self.current();
            let Generation { manager, pool } = &*generation;
            uses(&manager.in_use);
            // r2d2 tests it, which may end this generation.
            if let Some(idle) = pool.try_get() {
                return Ok(idle);
            }
            if manager.threads.is_closed() {
                return Err(Error::Unreachable("the pool is closed".to_owned()));
            }
            if !manager.is_over() {
                manager.in_use.waiting.fetch_add(1, Ordering::Relaxed);
                let made = pool.get_timeout(LOOK_EVERY);
                manager.in_use.waiting.fetch_sub(1, Ordering::Relaxed);
                if let Ok(made) = made {
                    return Ok(made);
                }
            }
            if Instant::now() >= until {
                return Err(manager.server.no_connection());
            }
        }
    }

    /// The pool, or a new one if the connections of the old one are useless.
    fn current(&self) -> Arc<Generation> {
        let mut current = self.current.lock();
        if !current.manager.is_over() {
            return Arc::clone(&current);
        }
        let fresh = Arc::new(Generation::of(current.manager.next()));
        let old = mem::replace(&mut *current, Arc::clone(&fresh));
        drop(current);
        // From now on, also if work that was given up ends.
        old.manager.in_use.is_replaced.store(true, Ordering::Relaxed);
        // Work that still runs keeps its pool, and r2d2 would keep the idle connections with it. None of them is valid any
        // more, so r2d2 closes them here.
        drop(old.pool.try_get());
        fresh
    }
}

impl Generation {
    fn of(manager: Manager) -> Self {
        let pool = Pool::builder()
            // Work that was given up keeps its connection, and other work has its turn. There are fewer than half.
            .max_size(manager.size + (manager.size - 1) / 2)
            .min_idle(Some(0))
            .thread_pool(Arc::clone(&manager.connecting))
            .connection_timeout(CONNECT_WITHIN)
            // A connection stays until a fault shows that it is useless.
            .idle_timeout(None)
            .max_lifetime(None)
            // `connect` and `watch` report what failed.
            .error_handler(Box::new(NopErrorHandler))
            .build_unchecked(manager.clone());
        Self { manager, pool }
    }
}

/// r2d2's hooks.
#[derive(Clone)]
pub(super) struct Manager {
    url: Arc<str>,
    server: Arc<Server>,
    threads: Arc<Threads>,
    connecting: Arc<ScheduledThreadPool>,
    epoch: u64,
    size: u32,
    in_use: Arc<Use>,
}

impl Manager {
    fn next(&self) -> Self {
        Self { epoch: self.server.epoch(), in_use: Arc::default(), ..self.clone() }
    }

    /// Whether work gets no connection of this pool any more. So it is if work that was given up holds half of them: the
    /// others may be silent too, and what is left may be too little.
    fn is_over(&self) -> bool {
        self.in_use.is_replaced.load(Ordering::Relaxed)
            || self.epoch != self.server.epoch()
            || 2 * self.in_use.given_up.load(Ordering::Relaxed) >= self.size as usize
    }
}

impl ManageConnection for Manager {
    type Connection = Session;
    type Error = diesel::r2d2::Error;

    /// Connects on one of the pool's threads: a pooler may accept the connection and then never answer, and r2d2 has few
    /// threads.
    fn connect(&self) -> Result<Session, Self::Error> {
        let Use { waiting, failed, .. } = &*self.in_use;
        // r2d2 goes on trying after the work has left, which would keep an outage alive that nobody meets.
        let nobody_waits = failed.load(Ordering::Relaxed) && waiting.load(Ordering::Relaxed) == 0;
        if self.is_over() || nobody_waits {
            return Err(NOT_NEEDED);
        }
        let url = Arc::clone(&self.url);
        let made = self.threads.run_within(ATTEMPT_WITHIN, move || establish(&url));
        failed.store(!matches!(made, Ok(Ok(_))), Ordering::Relaxed);
        if self.is_over() || made.as_ref().is_err_and(|end| *end == RecvTimeoutError::Disconnected) {
            return Err(NOT_NEEDED);
        }
        let silent = |_| Err(ConnectionError::BadConnection("timeout expired: the server does not answer".to_owned()));
        let mut conn = made.unwrap_or_else(silent).map_err(|error| {
            self.server.could_not_connect(&error.to_string());
            Self::Error::ConnectionError(error)
        })?;
        let met = Arc::default();
        watch(&mut conn, self, &met);
        Ok(Session { conn, manager: self.clone(), met, works: 0, used: Instant::now() })
    }

    /// Called before each use, on the work's thread. Tests a connection that has rested.
    fn is_valid(&self, session: &mut Session) -> Result<(), Self::Error> {
        if self.is_over() {
            return Err(NOT_NEEDED);
        }
        *session.met.lock() = None;
        if session.used.elapsed() > TRUSTED_FOR {
            session.conn.batch_execute("SELECT 1").map_err(Self::Error::QueryError)?;
        }
        Ok(())
    }

    /// Called after each use. r2d2 then closes the connection.
    fn has_broken(&self, session: &mut Session) -> bool {
        self.is_over()
            || thread::panicking()
            || AnsiTransactionManager::is_broken_transaction_manager(&mut session.conn)
    }
}

/// The connection is not needed any more. Not a fault of the server.
const NOT_NEEDED: diesel::r2d2::Error =
    diesel::r2d2::Error::QueryError(diesel::result::Error::BrokenTransactionManager);

fn establish(url: &str) -> Result<PgConnection, ConnectionError> {
    let mut conn = PgConnection::establish(url)?;
    conn.batch_execute(CONNECTION_LIMITS).map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(conn)
}

/// A connection and its state.
pub(super) struct Session {
    conn: PgConnection,
    manager: Manager,
    /// The fault of the server that the work has met.
    met: Arc<Mutex<Option<Fault>>>,
    works: u32,
    used: Instant,
}

impl Session {
    /// Runs work.
    pub fn run<R>(&mut self, work: impl FnOnce(&mut PgConnection) -> R) -> R {
        self.works = self.works.wrapping_add(1);
        if self.works >= FIRST_PLANS_SERVE && self.works.is_power_of_two() {
            // If this fails, the connection is dead, and `watch` has reported it.
            let _ = self.conn.batch_execute("DISCARD PLANS");
        }
        let result = work(&mut self.conn);
        if self.met.lock().is_none() {
            self.manager.server.served();
        }
        self.used = Instant::now();
        result
    }
}

/// Reports to [`Server`] the first statement of each work that fails because of the server, and the first that spoils the
/// connection. Later statements, such as the ROLLBACK, fail too and are not reported. [`Server`] knows of the fault before
/// the work can run again.
fn watch(conn: &mut PgConnection, manager: &Manager, met: &Arc<Mutex<Option<Fault>>>) {
    let (server, epoch, met) = (Arc::clone(&manager.server), manager.epoch, Arc::clone(met));
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
