//! The database: connections, the threads that use them, and migrations.
//!
//! Guarantees:
//! - At most `pool_size` statements at a time, and one more for readiness, which waits behind no work.
//! - Work waits for a connection for at most two seconds ([`QUEUE_WAIT`]), and the queue is bounded: what does not get its
//!   turn in time is refused and never begun. Work that has begun runs to its end, also when the request that sent it is
//!   gone.
//! - One account can't take all connections, nor the whole queue: see `queue.rs` for the rule.
//! - A panic in the work is caught. A connection that is dead, stale or read-only is closed: see `connection.rs`.
//!
//! It does not retry, except for reads: the work knows whether it may run twice.
//!
//! Each thread keeps one connection for as long as it is sound. That saves the check-out and its `SELECT 1` on each
//! request; a connection is tried before use only when it has been idle.

mod connection;
mod migrate;
mod outage;
mod queue;

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use diesel::pg::PgConnection;
use tokio::sync::oneshot;
use uuid::Uuid;

pub use self::connection::with_client_limits;
use self::connection::{Server, Session};
pub use self::migrate::{MIGRATIONS, MigrateError, migrate};
use self::queue::{Queue, Refused};
use crate::error::ApiError;
use crate::idempotency::{Database, Error, Flights, fault};
use crate::logging;

/// How long work waits in the queue. A client that hears 503 after two seconds still has time for another try; what has
/// waited longer has met a stuck database or a stuck account, and more of it would only make the queue longer.
pub const QUEUE_WAIT: Duration = Duration::from_secs(2);

/// Work that may wait for each connection: at a millisecond a transaction some 60 ms of waiting. A longer queue only lets
/// clients time out in it.
const QUEUE_PER_CONNECTION: usize = 64;

/// How often a read runs again: after a restart of the server the first one finds out, the second one has a connection.
const READ_AGAIN: usize = 3;

/// The first pause before a read runs again, which each further one doubles: a connection takes some milliseconds to make.
const READ_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// The account of work that is no account's own: the settler's looks, sweeps, authentication. It shares as an account does.
pub const NOBODY: Uuid = Uuid::nil();

/// Runs with a connection, or hears why there is none.
type Work = Box<dyn FnOnce(Result<&mut Session, Error>) + Send>;

/// A handle to the database; clones share it.
#[derive(Clone)]
pub struct Db {
    server: Arc<Server>,
    pool: Arc<Threads>,
    /// One thread and its connection, kept free for looks.
    lookout: Arc<Threads>,
    flights: Flights,
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
    /// Starts `size` threads, and one for readiness; each connects when it first has work.
    ///
    /// # Errors
    /// [`StartError`] where no thread is to be had.
    pub fn start(database_url: &str, size: u32) -> Result<Self, StartError> {
        let server = Arc::new(Server::new(database_url));
        let pool = Arc::new(Threads::start("db", size, &server)?);
        let lookout = Arc::new(Threads::start("db-look", 1, &server)?);
        Ok(Self { server, pool, lookout, flights: Flights::default() })
    }

    /// How busy the pool is.
    #[must_use]
    pub fn load(&self) -> Load {
        let (busy, queued) = self.pool.queue.load();
        Load { busy, queued }
    }

    /// Runs `work` on one of the threads, when it is the account's turn. Once begun it runs to its end even if the caller is
    /// dropped; a panic in it is caught.
    ///
    /// # Errors
    /// What `work` fails with; [`Error::Overloaded`] at once where the account's part of the queue is full, and after
    /// [`QUEUE_WAIT`]; [`Error::Unreachable`] where no connection is to be had; [`Error::Panicked`].
    pub async fn run<T, E>(
        &self,
        account_id: Uuid,
        work: impl FnOnce(&mut PgConnection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.run_on(&self.pool, account_id, work).await
    }

    /// As [`Db::run`], over a connection that no other work uses: for a look at whether the database can serve.
    ///
    /// # Errors
    /// As [`Db::run`].
    pub async fn look<T, E>(
        &self,
        work: impl FnOnce(&mut PgConnection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.run_on(&self.lookout, NOBODY, work).await
    }

    async fn run_on<T, E>(
        &self,
        threads: &Threads,
        account_id: Uuid,
        work: impl FnOnce(&mut PgConnection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (sender, mut answer) = oneshot::channel();
        let request = logging::request();
        let work: Work = Box::new(move |session| {
            let work = |conn: &mut PgConnection| logging::within(request, || work(conn));
            let outcome = match session {
                Ok(session) => session.run(work).unwrap_or_else(|| Err(Error::Panicked.into())),
                Err(error) => Err(error.into()),
            };
            // Nobody may be waiting any more; the work is done all the same.
            let _ = sender.send(outcome);
        });
        let ticket = match threads.queue.push(account_id, work) {
            Ok(ticket) => ticket,
            Err(Refused::Full) => return Err(self.no_turn().into()),
            Err(Refused::Closed) => return Err(Error::Unreachable("the pool is closed".into()).into()),
        };
        let ended = match tokio::time::timeout(QUEUE_WAIT, &mut answer).await {
            Ok(ended) => ended,
            Err(_) if threads.queue.withdraw(&ticket).is_some() => return Err(self.no_turn().into()),
            Err(_) => answer.await,
        };
        ended.unwrap_or_else(|_| Err(Error::Panicked.into()))
    }

    /// Why work did not get its turn: the threads may all be waiting for a connection themselves.
    fn no_turn(&self) -> Error {
        if self.server.is_unreachable() {
            Error::Unreachable("no connection within the time that work may wait".into())
        } else {
            Error::Overloaded
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
                Err(error) if error.database_error().is_some_and(|error| fault(error).runs_again()) => {
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
        self.pool.close();
        self.lookout.close();
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

/// A queue and the threads that empty it. Dropped, it ends them.
struct Threads {
    queue: Arc<Queue<Work>>,
    handles: Mutex<Vec<JoinHandle<()>>>,
}

impl Threads {
    fn start(name: &str, size: u32, server: &Arc<Server>) -> Result<Self, StartError> {
        let size = size as usize;
        let queue = Arc::new(Queue::new(size, size * QUEUE_PER_CONNECTION));
        let threads = Self { queue: Arc::clone(&queue), handles: Mutex::default() };
        let handles = (0..size).map(|number| {
            let (queue, server) = (Arc::clone(&queue), Arc::clone(server));
            thread::Builder::new().name(format!("{name}-{number}")).spawn(move || serve(&queue, &server))
        });
        let handles = handles.collect::<Result<Vec<_>, _>>()?;
        *threads.handles.lock().unwrap_or_else(PoisonError::into_inner) = handles;
        Ok(threads)
    }

    fn close(&self) {
        self.queue.close();
        for thread in std::mem::take(&mut *self.handles.lock().unwrap_or_else(PoisonError::into_inner)) {
            // A thread's panics are caught, so there is nothing to learn from its end.
            let _ = thread.join();
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// One thread's life: take work, have a sound connection, do it.
fn serve(queue: &Queue<Work>, server: &Arc<Server>) {
    let mut kept: Option<Session> = None;
    let mut done = None;
    while let Some(turn) = queue.next(done) {
        done = Some(turn.account_id);
        if turn.since.elapsed() >= QUEUE_WAIT {
            // The request that sent it is gone, or just about to withdraw it.
            (turn.work)(Err(Error::Overloaded));
            continue;
        }
        match server.session(kept.take()) {
            Ok(mut session) => {
                (turn.work)(Ok(&mut session));
                kept = session.is_fit().then_some(session);
            }
            Err(error) => (turn.work)(Err(error)),
        }
    }
}
