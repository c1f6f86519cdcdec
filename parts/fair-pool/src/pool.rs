// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Pool`]: the connections, the readiness check, and the log of outages, behind one handle.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use diesel::QueryResult;
use diesel::pg::PgConnection;
use idempotency::{Database, Error, Failure, Observer, SingleFlight, fault};
use uuid::Uuid;

use super::cause::Cause;
use super::outage::Outages;
use super::readiness::Readiness;
use super::runner::Runner;
use super::server::Server;
use super::threads::Threads;
use super::turns::Refusals;
use super::url::with_client_limits;

/// How long a piece of work may take. Each of its statements ends after 5 s, unless the database is silent. With
/// two seconds for its turn, the caller has an answer after at most ten, within the 11 s in which a request with a key
/// is answered.
const WORK_WITHIN: Duration = Duration::from_secs(8);

/// The pauses before a read runs again. After a restart of the server, the first run meets a dead connection, and the
/// second run gets a fresh one, which takes some milliseconds. Two more runs cover a server that is still starting.
const READ_AGAIN_AFTER: [Duration; 3] =
    [Duration::from_millis(10), Duration::from_millis(20), Duration::from_millis(40)];

/// A read that took longer does not run again: one more run may take ten seconds, and the client must have an answer
/// within 12 s.
const READ_AGAIN_WITHIN: Duration = Duration::from_secs(2);

/// While a cause lasts, the pool checks every second whether it is over. Readiness shares each check for a second, so a
/// shorter pause would find nothing new.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// How often the database is checked if nobody asks about readiness. Prometheus scrapes every 5 s or less often.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A handle to the database. Clones share the connections.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

struct Shared {
    runner: Runner,
    readiness: Readiness,
    single_flight: SingleFlight,
    observer: Option<Arc<dyn Observer>>,
}

/// How to set up a pool.
pub struct Settings<'a> {
    /// A URL, or libpq's `key=value` list. The pool adds [its limits](crate::with_client_limits).
    pub database_url: &'a str,
    /// What PostgreSQL's `pg_stat_activity` calls the connections.
    pub application_name: &'a str,
    /// How many connections work may use at once. Readiness has one more. Work that is given up keeps its connection
    /// until it ends, and so does work whose connection is as old as one that was lost. So for a while there may be up to
    /// 11 × (`size` + 1).
    pub size: u32,
    /// Whether the database has every migration that this program knows, for readiness. `|_| Ok(true)` if there
    /// are no migrations.
    pub is_migrated: fn(&mut PgConnection) -> QueryResult<bool>,
    /// Observes each step of a request with a key.
    pub observer: Option<Arc<dyn Observer>>,
}

/// The load of the pool at this moment.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// The number of pieces of work that run.
    pub busy: usize,
    /// The number of pieces of work that wait for their turn.
    pub queued: usize,
    /// The number of threads that still run work that was given up.
    pub given_up: usize,
    /// The work that got no turn since the start.
    pub refusals: Refusals,
}

impl Pool {
    /// Starts a pool without connections. Work connects when it finds none.
    ///
    /// # Errors
    /// If the operating system can't start a thread, or `size` is zero.
    pub fn start(settings: Settings) -> std::io::Result<Self> {
        let Settings { database_url, application_name, size, is_migrated, observer } = settings;
        if size == 0 {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "a pool needs a connection"));
        }
        let url = with_client_limits(database_url, application_name).into();
        let server = Arc::new(Server::new());
        let threads = Arc::new(Threads::start(size as usize + 1)?);
        let runner = Runner::new(size, WORK_WITHIN, &url, &server, &threads);
        let readiness = Readiness::new(&url, &server, &threads, is_migrated);
        let single_flight = SingleFlight::default();
        let shared = Arc::new(Shared { runner, readiness, single_flight, observer });
        threads.spawn(watch(Arc::downgrade(&shared)));
        Ok(Self(shared))
    }

    /// Whether the database could serve at the last check, at most some seconds ago. It returns at once, so that a
    /// scrape of the metrics does not wait for a silent database.
    #[must_use]
    pub fn was_ready(&self) -> bool {
        self.0.readiness.was_ready()
    }

    /// How busy the pool is.
    #[must_use]
    pub fn load(&self) -> Load {
        let Runner { turns, threads, .. } = &self.0.runner;
        let (busy, queued) = turns.load();
        Load { busy, queued, given_up: threads.given_up(), refusals: turns.refusals() }
    }

    /// Like [`Database::run`], for work that only reads. After a lost connection or another transient fault, the work
    /// runs again.
    ///
    /// # Errors
    /// As [`Database::run`].
    pub async fn read<T: Send + 'static, E: Failure>(
        &self,
        account_id: Uuid,
        work: impl Fn(&mut PgConnection) -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<T, E> {
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

    /// Whether the database can serve, and if not, why. All who ask within a second share one check.
    ///
    /// # Errors
    /// Why not.
    pub async fn check(&self) -> Result<(), Cause> {
        self.0.readiness.check().await
    }

    /// The causes that last, and how many requests were refused for each.
    #[must_use]
    pub fn outages(&self) -> &Outages {
        &self.0.runner.server.outages
    }

    /// Waits until the running work has ended, for at most six seconds: a statement may take five. Work that comes later is refused.
    /// Blocks.
    pub fn close(&self) {
        self.0.runner.threads.close();
    }
}

/// Checks whether outages are over, and looks up who holds a lock, until the pool is dropped.
async fn watch(shared: Weak<Shared>) {
    let mut looked = Instant::now();
    loop {
        tokio::time::sleep(WATCH_EVERY).await;
        let Some(shared) = shared.upgrade() else { return };
        let (server, readiness) = (&shared.runner.server, &shared.readiness);
        if server.outages.owes_lock(Instant::now()) {
            readiness.tell_lock().await;
        }
        if !server.outages.on().is_empty() || looked.elapsed() >= LOOK_EVERY {
            let _ = readiness.check().await;
            looked = Instant::now();
        }
        server.end_outages();
    }
}

impl Database for Pool {
    /// Runs `work` on a thread when the account's turn comes. Work that has begun runs to its end, even if the caller
    /// is dropped.
    ///
    /// # Errors
    /// - The error of `work`.
    /// - [`Error::Overloaded`]: at once if the account's part of the queue is full, or after two seconds without a
    ///   turn.
    /// - [`Error::Unreachable`]: there is no connection, or the database did not answer in time. In the second case,
    ///   nobody knows whether the work was committed.
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
        self.0.runner.run(account_id, work)
    }

    fn single_flight(&self) -> &SingleFlight {
        &self.0.single_flight
    }

    fn observer(&self) -> Option<Arc<dyn Observer>> {
        self.0.observer.clone()
    }
}
