//! The database: connections, the threads that use them, and migrations.
//!
//! Guarantees:
//! - At most `pool_size` statements run at a time, and one more for readiness. Readiness waits behind no work.
//! - Work waits in the queue for at most two seconds ([`QUEUE_WAIT`]), and the queue is bounded. Work that does not get its turn
//!   in time is refused and never begins. Work that has begun runs to its end, even if the client has left.
//! - One account can't take all connections, nor the whole queue: see `queue.rs` for the rule.
//! - A panic in the work is caught. A connection that is dead, stale or read-only is closed: see `connection.rs`.
//!
//! Not done here: work does not run again, except for reads. Only the work knows whether it may run twice.
//!
//! Each thread keeps one connection while the connection is good. So a request needs no check-out and no `SELECT 1`. A thread
//! tries a connection before use only if the connection was idle.

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
pub use self::migrate::{MigrateError, Migrations, migrate};
use self::queue::{Queue, Refused};
use crate::http::ApiError;
use crate::process::logging;
use idempotency::{Database, Error, Failure as _, SingleFlight, fault};

/// How long work waits in the queue. A client that gets 503 after two seconds still has time for another try. If work waits
/// longer, the database or the account is stuck, and a longer wait only makes the queue longer.
pub const QUEUE_WAIT: Duration = Duration::from_secs(2);

/// The places in the queue for each connection. If a transaction takes a millisecond, work waits some 60 ms. In a longer
/// queue, clients only time out.
const QUEUE_PER_CONNECTION: usize = 64;

/// How often a read runs again. After a restart of the server, the first run meets a dead connection, and the second run gets a
/// fresh one. Two more runs, after 20 and 40 ms, cover a server that is still starting.
const READ_AGAIN: usize = 3;

/// The first pause before a read runs again. Each further pause is twice as long. A new connection takes some milliseconds.
const READ_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// The account of work that belongs to no account: the resolver's looks, sweeps, authentication. The queue treats it as any
/// account.
pub const NOBODY: Uuid = Uuid::nil();

/// Work gets a connection, or the reason why there is none.
type Work = Box<dyn FnOnce(Result<&mut Session, Error>) + Send>;

/// A handle to the database. Clones share the connections.
#[derive(Clone)]
pub struct Db {
    server: Arc<Server>,
    pool: Arc<Threads>,
    /// One thread with its connection, only for [`Db::look`].
    lookout: Arc<Threads>,
    single_flight: SingleFlight,
}

/// The load of the pool at this moment.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// The number of threads at work.
    pub busy: usize,
    /// The number of pieces of work that wait for a thread.
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
    /// Starts `size` threads, and one thread for readiness. A thread connects when it gets its first work.
    ///
    /// # Errors
    /// [`StartError`] if the operating system gives no thread.
    pub fn start(database_url: &str, size: u32) -> Result<Self, StartError> {
        let server = Arc::new(Server::new(database_url));
        let pool = Arc::new(Threads::start("db", size, &server)?);
        let lookout = Arc::new(Threads::start("db-look", 1, &server)?);
        Ok(Self { server, pool, lookout, single_flight: SingleFlight::default() })
    }

    /// How busy the pool is.
    #[must_use]
    pub fn load(&self) -> Load {
        let (busy, queued) = self.pool.queue.load();
        Load { busy, queued }
    }

    /// Runs `work` on one of the threads when the account's turn comes. Work that has begun runs to its end, even if the caller
    /// is dropped.
    ///
    /// # Errors
    /// - The error of `work`.
    /// - [`Error::Overloaded`]: at once if the account's part of the queue is full, or after [`QUEUE_WAIT`] without a turn.
    /// - [`Error::Unreachable`]: there is no connection.
    /// - [`Error::Panicked`]: `work` panicked.
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

    /// As [`Db::run`], over a connection that no other work uses. Readiness asks the database with this function.
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
            // The caller may be gone. The work is done all the same.
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

    /// Why work did not get its turn. If the database is away, all threads wait for a connection.
    fn no_turn(&self) -> Error {
        if self.server.is_unreachable() {
            Error::Unreachable("no connection within the time that work may wait".into())
        } else {
            Error::Overloaded
        }
    }

    /// As [`Db::run`], for work that only reads. After a lost connection or another transient fault, the work runs again.
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

    fn single_flight(&self) -> &SingleFlight {
        &self.single_flight
    }
}

/// A queue and its threads. The threads end when this is dropped.
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
            // The thread catches panics, so the result of `join` tells nothing.
            let _ = thread.join();
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// The loop of one thread: takes work, gets a good connection, and runs the work.
fn serve(queue: &Queue<Work>, server: &Arc<Server>) {
    let mut kept: Option<Session> = None;
    let mut done = None;
    while let Some(turn) = queue.next(done) {
        done = Some(turn.account_id);
        if turn.since.elapsed() >= QUEUE_WAIT {
            // The caller is gone, or is about to withdraw the work.
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
