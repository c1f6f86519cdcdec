// SPDX-License-Identifier: MIT OR Apache-2.0
//! `r2d2` with slots for connections, tokio's blocking threads, and the turns in front of both.
//!
//! A database may accept and acknowledge everything and never answer: a paused pooler, a hanging disk, a stopped
//! server. libpq waits for it without limit, and `statement_timeout` runs on the server. So r2d2 hands out a *slot*.
//! The work takes the connection out of its slot, or connects. If the work has not ended in time, it is *given up*: the
//! slot goes back empty, r2d2 replaces it, and the next work connects. The thread stays with its connection until libpq
//! returns. No statement and no connect runs in r2d2's own threads.

use std::convert::Infallible;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use diesel::pg::PgConnection;
use diesel::r2d2::{ManageConnection, Pool, PooledConnection};
use idempotency::Error;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout_at};
use uuid::Uuid;

use super::cause::Cause;
use super::connection::Session;
use super::server::Server;
use super::turns::{Turn, Turns};

/// How many silences of the database may leave threads behind. Each leaves at most one thread for each connection,
/// since later work fails to connect. A thread that is never released means that a whole network went away, and an
/// operator acts long before that has happened eight times. Beyond this bound, work keeps its turn until its thread
/// returns.
const SILENCES: usize = 8;

/// How long [`Threads::close`] waits for running work. A statement ends after 5 s.
const CLOSE_WITHIN: Duration = Duration::from_secs(6);

/// The manager of r2d2's pool.
struct Slots;

impl ManageConnection for Slots {
    type Connection = Option<Session>;
    type Error = Infallible;

    fn connect(&self) -> Result<Option<Session>, Infallible> {
        Ok(None)
    }

    /// The work itself tests the connection.
    fn is_valid(&self, _: &mut Option<Session>) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, slot: &mut Option<Session>) -> bool {
        !slot.as_mut().is_some_and(Session::is_fit)
    }
}

/// The threads of all pools. They are tokio's, on a runtime that runs nothing else.
pub(super) struct Threads {
    runtime: Mutex<Option<Runtime>>,
    handle: Handle,
    most_given_up: usize,
    /// A thread whose work was given up holds a permit until it returns.
    may_give_up: Arc<Semaphore>,
}

impl Threads {
    pub fn start(connections: usize) -> std::io::Result<Self> {
        let most_given_up = SILENCES * connections;
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(connections + most_given_up)
            .thread_name("db")
            .enable_time()
            .build()?;
        let handle = runtime.handle().clone();
        let may_give_up = Arc::new(Semaphore::new(most_given_up));
        Ok(Self { runtime: Mutex::new(Some(runtime)), handle, most_given_up, may_give_up })
    }

    /// Runs a task until it ends or the pool is closed.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(task);
    }

    /// How many threads still run work that was given up.
    pub fn given_up(&self) -> usize {
        self.most_given_up - self.may_give_up.available_permits()
    }

    /// Waits until the running work has ended, for at most [`CLOSE_WITHIN`]. Blocks.
    pub fn close(&self) {
        if let Some(runtime) = self.runtime.lock().take() {
            runtime.shutdown_timeout(CLOSE_WITHIN);
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.lock().take() {
            runtime.shutdown_background();
        }
    }
}

/// Connections for one kind of work.
pub(super) struct Connections {
    pub turns: Turns,
    pub server: Arc<Server>,
    pub threads: Arc<Threads>,
    pool: Pool<Slots>,
    within: Duration,
}

impl Connections {
    /// At most `size` connections. Work is given up after `within`.
    pub fn new(size: u32, within: Duration, server: &Arc<Server>, threads: &Arc<Threads>) -> Self {
        Self {
            turns: Turns::new(size as usize),
            pool: Pool::builder().max_size(size).test_on_check_out(false).build_unchecked(Slots),
            server: Arc::clone(server),
            threads: Arc::clone(threads),
            within,
        }
    }

    pub async fn run<T, E>(
        &self,
        account_id: Uuid,
        work: impl FnOnce(&mut PgConnection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let turn = self.turns.take(account_id).await;
        let turn = turn.ok_or_else(|| self.server.no_turn(|| self.turns.load_of(account_id)))?;
        let until = Instant::now() + self.within;
        let held = Arc::new(Mutex::new(Some(Held::Place { slot: None, turn })));
        let mut job = Job { session: None, held: Arc::clone(&held) };
        let (pool, server) = (self.pool.clone(), Arc::clone(&self.server));
        let job = self.threads.handle.spawn_blocking(move || {
            job.open(&pool, &server)?.run(work)
            // The job ends here: its connection and its turn go back before the caller has the result.
        });
        let _caller = Caller { pool: self, held, until };
        match timeout_at(until, job).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(end)) if end.is_panic() => Err(Error::Panicked.into()),
            Ok(Err(_)) => Err(Error::Unreachable("the pool is closed".into()).into()),
            Err(_) => Err(Cause::Silent.error("the work did not end in time").into()),
        }
    }
}

/// What a piece of work holds until it ends.
#[expect(clippy::large_enum_variant, reason = "there is one for each piece of work, and it is on the heap")]
enum Held {
    /// The slot is declared first, so that it goes back before the turn.
    Place {
        slot: Option<PooledConnection<Slots>>,
        #[expect(dead_code, reason = "gives the turn back when dropped")]
        turn: Turn,
    },
    /// The work was given up. Only its thread is left.
    Thread(#[expect(dead_code, reason = "counts the thread until it is dropped")] OwnedSemaphorePermit),
}

/// If the work still runs, frees its slot and its turn, as far as permits allow. Returns whether it still runs.
fn give_up(held: &Mutex<Option<Held>>, may_give_up: &Arc<Semaphore>) -> bool {
    let mut held = held.lock();
    if held.is_some()
        && let Ok(permit) = Arc::clone(may_give_up).try_acquire_owned()
    {
        *held = Some(Held::Thread(permit));
    }
    held.is_some()
}

/// The caller of work, who waits for it or has left.
struct Caller<'a> {
    pool: &'a Connections,
    held: Arc<Mutex<Option<Held>>>,
    until: Instant,
}

impl Drop for Caller<'_> {
    /// Work that still runs when its time is up is given up, even if the caller left earlier.
    fn drop(&mut self) {
        if self.held.lock().is_none() {
            return;
        }
        let (held, until, within) = (Arc::clone(&self.held), self.until, self.pool.within);
        let (server, may_give_up) = (Arc::clone(&self.pool.server), Arc::clone(&self.pool.threads.may_give_up));
        self.pool.threads.spawn(async move {
            sleep_until(until).await;
            if give_up(&held, &may_give_up) {
                server.met_silence(within);
            }
        });
    }
}

/// A piece of work on its thread.
struct Job {
    session: Option<Session>,
    held: Arc<Mutex<Option<Held>>>,
}

impl Job {
    /// The connection of the slot if it is still good, else a new one.
    fn open(&mut self, pool: &Pool<Slots>, server: &Arc<Server>) -> Result<&mut Session, Error> {
        // Does not wait: there is a slot for each turn.
        let mut pooled = pool.get().map_err(|error| Error::Unreachable(error.to_string()))?;
        let kept = pooled.take();
        match &mut *self.held.lock() {
            Some(Held::Place { slot, .. }) => *slot = Some(pooled),
            _ => return Err(Cause::Silent.error("no thread came in time")),
        }
        Ok(self.session.insert(Session::open(server, kept)?))
    }
}

impl Drop for Job {
    /// Puts the connection back, except after a panic. r2d2 closes it if it is not fit for more work.
    fn drop(&mut self) {
        let session = self.session.take().filter(|_| !thread::panicking());
        let mut held = self.held.lock().take();
        if let Some(Held::Place { slot: Some(slot), .. }) = &mut held {
            **slot = session;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_given_up_once_and_beyond_the_bound_it_keeps_its_turn() {
        let (turns, may_give_up) = (Turns::new(1), Arc::new(Semaphore::new(0)));
        let turn = turns.take(Uuid::nil()).await;
        let held = Mutex::new(turn.map(|turn| Held::Place { slot: None, turn }));

        assert!(give_up(&held, &may_give_up));
        assert_eq!(turns.load(), (1, 0));

        may_give_up.add_permits(1);
        assert!(give_up(&held, &may_give_up));
        assert_eq!((turns.load(), may_give_up.available_permits()), ((0, 0), 0));
        *held.lock() = None;
        assert_eq!((give_up(&held, &may_give_up), may_give_up.available_permits()), (false, 1));
    }
}
