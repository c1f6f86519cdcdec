//! The database: connections, the threads that use them, and migrations.
//!
//! Guarantees: at most `pool_size` statements at a time; a bounded queue, and an immediate refusal when it is full; work
//! that was accepted runs to its end, also when the request that sent it is gone. It does not retry: the work knows
//! whether it may run twice.
//!
//! Each thread keeps one connection for as long as it is sound. That saves the check-out and its `SELECT 1` on each
//! request; a connection is tried before use only when it has been idle, or when another one was found dead.

mod migrate;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use diesel::connection::SimpleConnection;
use diesel::pg::PgConnection;
use diesel::r2d2::{ConnectionManager, CustomizeConnection, HandleError, Pool, PooledConnection};
use tokio::sync::oneshot;
use uuid::Uuid;

pub use self::migrate::{MIGRATIONS, MigrateError, migrate};
use crate::error::ApiError;
use crate::idempotency::{CONNECTION_LIMITS, Database, Error, Fault, Flights, fault};
use crate::logging;

/// How long to wait for a connection before the answer is 503. A healthy server connects in milliseconds; two seconds
/// outlast a restart's first moment and stay below what clients wait.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// An idle connection may have been cut by a restart or a firewall. After a second of rest one round trip to find out
/// costs nothing that anybody waits for.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// Work that may wait for each connection: at a millisecond a transaction some 60 ms of waiting. A longer queue only lets
/// clients time out in it.
const QUEUE_PER_CONNECTION: usize = 64;

/// Work that a connection does before it plans its statements afresh, as it does whenever it has done twice as much as the
/// last time. PostgreSQL keeps the plan of a prepared statement until a table is analyzed, up to minutes later: one that was
/// made for an empty table reads all of an account's rows to find one. At least half of the work that a connection has seen
/// was then done when its plans were made, so no table has outgrown them.
const FIRST_PLANS_SERVE: u32 = 64;

/// How often a read runs again: after a restart of the server the first one finds out, the second one has a connection.
const READ_AGAIN: usize = 3;

/// The first pause before a read runs again, which each further one doubles: a connection takes some milliseconds to make.
const READ_AGAIN_AFTER: Duration = Duration::from_millis(10);

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

/// The account of work that is no account's own: the settler's looks, sweeps, authentication.
pub const NOBODY: Uuid = Uuid::nil();

type Connection = PooledConnection<ConnectionManager<PgConnection>>;

type Work = Box<dyn FnOnce(Result<&mut PgConnection, Error>) -> bool + Send>;

/// What a thread takes off the queue.
enum Item {
    /// Runs with a connection, or is told why there is none. Returns whether it failed.
    Work(Work),
    Stop,
}

/// A handle to the database; clones share it.
#[derive(Clone)]
pub struct Db {
    queue: Sender<Item>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
    gauges: Arc<Gauges>,
    flights: Flights,
}

#[derive(Debug, Default)]
struct Gauges {
    /// Threads at work.
    busy: AtomicUsize,
    /// Connections found dead so far. When it rises, every thread tries its own before it uses it.
    deaths: AtomicU64,
}

/// What the pool is doing right now.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Threads, each with a connection, that are at work.
    pub busy: usize,
    /// Work that waits for a thread.
    pub queued: usize,
}

/// Why the pool did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The operating system gave no thread.
    #[error("can't start a database thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl Db {
    /// Starts `size` threads; each connects when it first has work.
    ///
    /// # Errors
    /// [`StartError`] where no thread is to be had.
    pub fn start(database_url: &str, size: u32) -> Result<Self, StartError> {
        let gauges = Arc::new(Gauges::default());
        let pool = Pool::builder()
            .max_size(size)
            .min_idle(Some(0))
            .test_on_check_out(true)
            .error_handler(Box::new(Deaths(Arc::clone(&gauges))))
            .connection_timeout(CONNECT_WITHIN)
            // A connection lives as long as its thread keeps it.
            .max_lifetime(None)
            .idle_timeout(None)
            .connection_customizer(Box::new(Limits))
            .build_unchecked(ConnectionManager::new(with_client_limits(database_url)));
        let (queue, items) = bounded(size as usize * QUEUE_PER_CONNECTION);
        let threads = (0..size)
            .map(|number| {
                let (pool, items, gauges) = (pool.clone(), items.clone(), Arc::clone(&gauges));
                thread::Builder::new().name(format!("db-{number}")).spawn(move || serve(&pool, &items, &gauges))
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { queue, threads: Arc::new(Mutex::new(threads)), gauges, flights: Flights::default() })
    }

    /// How busy the pool is.
    #[must_use]
    pub fn load(&self) -> Load {
        Load { busy: self.gauges.busy.load(Ordering::Relaxed), queued: self.queue.len() }
    }

    /// Runs `work` on one of the threads. It runs to its end even if the caller is dropped; a panic in it is caught.
    ///
    /// # Errors
    /// What `work` fails with; [`Error::Overloaded`] at once where the queue is full, [`Error::Unreachable`] where no
    /// connection is to be had, [`Error::Panicked`].
    pub async fn run<T, E>(
        &self,
        account_id: Uuid,
        work: impl FnOnce(&mut PgConnection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (sender, answer) = oneshot::channel();
        let request = logging::request();
        let item = Item::Work(Box::new(move |conn| {
            let outcome = match conn {
                Ok(conn) => catch_unwind(AssertUnwindSafe(|| logging::within(request, || work(conn))))
                    .unwrap_or_else(|_| Err(Error::Panicked.into())),
                Err(error) => Err(error.into()),
            };
            let failed = outcome.is_err();
            // Nobody may be waiting any more; the work is done all the same.
            let _ = sender.send(outcome);
            failed
        }));
        match self.queue.try_send(item) {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(Error::Panicked.into())),
            Err(TrySendError::Full(_)) => Err(Error::Overloaded.into()),
            Err(TrySendError::Disconnected(_)) => Err(Error::Unreachable("the pool is closed".into()).into()),
        }
    }

    /// As [`Db::run`] for work that only reads: a lost connection or another passing fault runs it again.
    ///
    /// # Errors
    /// As [`Db::run`].
    pub async fn read<T: Send + 'static>(
        &self,
        account_id: Uuid,
        work: impl Fn(&mut PgConnection) -> Result<T, ApiError> + Send + Sync + 'static,
    ) -> Result<T, ApiError> {
        let work = Arc::new(work);
        let mut pauses = ExponentialBuilder::new().with_min_delay(READ_AGAIN_AFTER).with_max_times(READ_AGAIN).build();
        loop {
            let again = Arc::clone(&work);
            match self.run(account_id, move |conn| again(conn)).await {
                Err(error) if error.database_error().is_some_and(|error| fault(error) == Fault::RunAgain) => {
                    match pauses.next() {
                        Some(pause) => tokio::time::sleep(pause).await,
                        None => return Err(error),
                    }
                }
                end => return end,
            }
        }
    }

    /// Waits until all accepted work has ended, and ends the threads. Blocks.
    pub fn close(&self) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for _ in &threads {
            // Fails only where every thread has ended already.
            let _ = self.queue.send(Item::Stop);
        }
        for thread in threads {
            // A thread's panics are caught, so there is nothing to learn from its end.
            let _ = thread.join();
        }
    }
}

impl Database for Db {
    fn run<T, E>(
        &self,
        account_id: Uuid,
        work: impl FnOnce(&mut PgConnection) -> Result<T, E> + Send + 'static,
    ) -> impl Future<Output = Result<T, E>> + Send
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.run(account_id, work)
    }

    fn flights(&self) -> &Flights {
        &self.flights
    }
}

/// One thread's life: take work, have a sound connection, do it.
fn serve(pool: &Pool<ConnectionManager<PgConnection>>, items: &Receiver<Item>, gauges: &Gauges) {
    let mut kept: Option<Connection> = None;
    let mut works: u32 = 0;
    let mut used = Instant::now();
    let mut deaths = 0;
    while let Ok(Item::Work(work)) = items.recv() {
        gauges.busy.fetch_add(1, Ordering::Relaxed);
        let known = gauges.deaths.load(Ordering::Relaxed);
        if deaths != known || used.elapsed() > TRUSTED_FOR {
            // In doubt it goes back to the pool, which tries a connection before it gives it out, and closes a dead one.
            kept = None;
            deaths = known;
        }
        if kept.is_none() {
            works = 0;
        }
        match kept.take().map_or_else(|| pool.get(), Ok) {
            Ok(mut conn) => {
                logging::DATABASE.works();
                works = works.wrapping_add(1);
                if works >= FIRST_PLANS_SERVE && works.is_power_of_two() {
                    // Should it fail, the connection is dead, and the work will tell.
                    let _ = conn.batch_execute("DISCARD PLANS");
                }
                // A failure may have been the connection's, so it is tried at once: should it be dead, the other threads
                // learn that before they use theirs. A business failure pays a round trip for that doubt.
                let failed = work(Ok(&mut conn));
                kept = Some(conn);
                if failed {
                    drop(kept.take());
                    kept = pool.get().ok();
                }
            }
            Err(error) => {
                work(Err(Error::Unreachable(error.to_string())));
            }
        }
        used = Instant::now();
        gauges.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts what r2d2 says of connections: found dead, or not to be had.
#[derive(Debug)]
struct Deaths(Arc<Gauges>);

impl HandleError<diesel::r2d2::Error> for Deaths {
    fn handle_error(&self, error: diesel::r2d2::Error) {
        self.0.deaths.fetch_add(1, Ordering::Relaxed);
        log::debug!("a database connection is not to be used: {error}");
    }
}

/// Sets the limits of every new connection.
#[derive(Debug)]
struct Limits;

impl CustomizeConnection<PgConnection, diesel::r2d2::Error> for Limits {
    fn on_acquire(&self, conn: &mut PgConnection) -> Result<(), diesel::r2d2::Error> {
        conn.batch_execute(CONNECTION_LIMITS).map_err(diesel::r2d2::Error::QueryError)
    }
}

/// The URL (or `key=value` list) with [`CLIENT_LIMITS`], where it doesn't say otherwise.
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
