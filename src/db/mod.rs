//! The database: connections, the work that uses them, and migrations.
//!
//! The pool is r2d2's. r2d2 alone knows no accounts, tests a connection at each use or never, and waits for a silent database
//! without end. What it lacks stands before it or in its hooks, and whoever copies can take or leave each file:
//!
//! | file | what it adds |
//! |---|---|
//! | `turns.rs` | Accounts take turns: one account takes neither all connections nor the whole queue. Work waits for at most two seconds, without a thread, and is else refused and never begins. |
//! | `pool.rs` | The caller has an answer 8 s after its turn (`WORK_WITHIN`), whatever the database does. Work that has begun runs to its end, even if the client has left. A panic in the work is caught. |
//! | `connection.rs` | Closes a connection that is dead, stale or read-only, and tries one that has rested. |
//! | `server.rs` | One connection that turns out to be useless closes all that are as old. While none can be made, the process tries twice a second. |
//! | `cause.rs`, `outage.rs`, `holder.rs` | The log says why the database does not serve, once for each cause, and who holds a lock. |
//! | `readiness.rs` | Readiness has a connection that no work uses, so it waits behind no work. |
//!
//! Not done here: work does not run again, except for reads. Only the work knows whether it may run twice.

mod cause;
mod connection;
mod holder;
mod jsonb;
mod migrate;
mod outage;
mod pool;
mod readiness;
mod server;
mod turns;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use diesel::pg::PgConnection;
use uuid::Uuid;

pub use self::cause::{Cause, Standing, one_line};
pub use self::jsonb::Jsonb;
pub use self::migrate::{MigrateError, Migrations, migrate, unknown_migrations};
pub use self::outage::Outages;
use self::pool::{Connections, Threads};
use self::readiness::Readiness;
use self::server::Server;
pub use self::server::with_client_limits;
pub use self::turns::Refusals;
use crate::http::ApiError;
use crate::process::failpoint::InsideTheCrate;
use idempotency::{Database, Error, Failure as _, Observed, SingleFlight, fault};

/// How long a piece of work may take. Each of its statements ends after 5 s, unless the database is silent. Together with the
/// wait for a turn, a request has its answer after ten seconds.
const WORK_WITHIN: Duration = Duration::from_secs(8);

/// The pauses before a read runs again. After a restart of the server, the first run meets a dead connection, and the second run gets
/// a fresh one, which takes some milliseconds. Two more runs cover a server that is still starting.
const READ_AGAIN_AFTER: [Duration; 3] =
    [Duration::from_millis(10), Duration::from_millis(20), Duration::from_millis(40)];

/// A read that took longer does not run again: its client should have an answer after at most 12 s.
const READ_AGAIN_WITHIN: Duration = Duration::from_secs(2);

/// While something is wrong, the program looks every second whether it is over. It is as often as readiness looks at most.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// The account of work that belongs to no account: the resolver's looks, sweeps, authentication. It takes turns as any account.
pub const NOBODY: Uuid = Uuid::nil();

/// The account of work that only takes notes, such as gauges. Authentication must not wait for it: if it were [`NOBODY`]'s, a look
/// that a silent database holds would keep [`NOBODY`] from the last free connection of a small pool.
pub const NOTES: Uuid = Uuid::from_u128(1);

/// How often the database is looked at if nobody asks about readiness. Prometheus scrapes every 5 s or more rarely.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A handle to the database. Clones share the connections.
#[derive(Clone)]
pub struct Db(Arc<Shared>);

struct Shared {
    connections: Connections,
    server: Arc<Server>,
    readiness: Readiness,
    threads: Arc<Threads>,
    single_flight: SingleFlight,
    observer: Observed,
}

/// The load of the pool at this moment.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// The number of pieces of work that run.
    pub busy: usize,
    /// The number of pieces of work that wait for their turn.
    pub queued: usize,
    /// The number of threads that the database never answered.
    pub given_up: usize,
    /// The work that got no turn since the start.
    pub refusals: Refusals,
}

impl Db {
    /// Makes a pool of at most `size` connections, and one more for readiness. Work connects when it finds no connection.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub fn start(database_url: &str, size: u32) -> std::io::Result<Self> {
        // Only a debug build has failpoints.
        let failpoints = cfg!(debug_assertions).then(|| Arc::new(InsideTheCrate) as _);
        Self::start_observed(database_url, size, failpoints)
    }

    /// As [`Db::start`], with somebody who hears of each step of a request with a key.
    ///
    /// # Errors
    /// As [`Db::start`].
    pub fn start_observed(database_url: &str, size: u32, observer: Observed) -> std::io::Result<Self> {
        let server = Arc::new(Server::new(database_url));
        let threads = Arc::new(Threads::start(size as usize + 1)?);
        let connections = Connections::new(size, WORK_WITHIN, &server, &threads);
        let readiness = Readiness::new(&server, &threads);
        let single_flight = SingleFlight::default();
        let shared = Arc::new(Shared { connections, server, readiness, threads, single_flight, observer });
        shared.threads.spawn(watch(Arc::downgrade(&shared)));
        Ok(Self(shared))
    }

    /// Whether the database could serve when it was last looked at, at most some seconds ago. A scrape of the metrics does not
    /// wait for a silent database.
    #[must_use]
    pub fn was_ready(&self) -> bool {
        self.0.readiness.was_ready()
    }

    /// How busy the pool is.
    #[must_use]
    pub fn load(&self) -> Load {
        let turns = &self.0.connections.turns;
        let (busy, queued) = turns.load();
        Load { busy, queued, given_up: self.0.threads.given_up(), refusals: turns.refusals() }
    }

    /// As [`Database::run`], for work that only reads. After a lost connection or another transient fault, the work runs again.
    ///
    /// # Errors
    /// As [`Database::run`].
    pub async fn read<T: Send + 'static>(
        &self,
        account_id: Uuid,
        work: impl Fn(&mut PgConnection) -> Result<T, ApiError> + Send + Sync + 'static,
    ) -> Result<T, ApiError> {
        let (work, began) = (Arc::new(work), Instant::now());
        for pause in READ_AGAIN_AFTER {
            let again = Arc::clone(&work);
            match self.run(account_id, move |conn| again(conn)).await {
                Err(error)
                    if error.database_error().is_some_and(|error| fault(error).runs_again())
                        && began.elapsed() < READ_AGAIN_WITHIN =>
                {
                    tokio::time::sleep(pause).await;
                }
                end => return end,
            }
        }
        self.run(account_id, move |conn| work(conn)).await
    }

    /// Whether the database can serve. All who ask within a second share one look.
    pub async fn standing(&self) -> Standing {
        self.0.readiness.standing().await
    }

    /// What fails now, and how many requests it has refused.
    #[must_use]
    pub fn outages(&self) -> &Outages {
        &self.0.server.outages
    }

    /// Waits until the running work has ended, for at most as long as a statement may take, and ends the threads. Blocks.
    pub fn close(&self) {
        self.0.threads.close();
    }
}

/// Looks whether what is wrong is over, and who holds a lock, until the pool is dropped.
async fn watch(shared: Weak<Shared>) {
    let mut looked = Instant::now();
    loop {
        tokio::time::sleep(WATCH_EVERY).await;
        let Some(shared) = shared.upgrade() else { return };
        let Shared { server, readiness, .. } = &*shared;
        if server.outages.owes_lock(Instant::now()) {
            readiness.tell_lock().await;
        }
        if !server.outages.on().is_empty() || looked.elapsed() >= LOOK_EVERY {
            let _ = readiness.standing().await;
            looked = Instant::now();
        }
        server.end_outages();
    }
}

/// No code that may panic runs under the locks of this module, so what they guard is right even if one is poisoned.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Database for Db {
    /// Runs `work` on a thread when the account's turn comes. Work that has begun runs to its end, even if the caller is dropped.
    ///
    /// # Errors
    /// - The error of `work`.
    /// - [`Error::Overloaded`]: at once if the account's part of the queue is full, or after two seconds without a turn.
    /// - [`Error::Unreachable`]: there is no connection, or the database did not answer in time. In that case nobody knows whether
    ///   the work was committed.
    /// - [`Error::Panicked`]: `work` panicked.
    fn run<T, E>(
        &self,
        account_id: Uuid,
        work: impl FnOnce(&mut PgConnection) -> Result<T, E> + Send + 'static,
    ) -> impl Future<Output = Result<T, E>> + Send
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.0.connections.run(account_id, work)
    }

    fn single_flight(&self) -> &SingleFlight {
        &self.0.single_flight
    }

    fn observer(&self) -> Observed {
        self.0.observer.clone()
    }
}
