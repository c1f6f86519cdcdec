//! The pool: `r2d2` with slots for connections, tokio's blocking threads, and the turns before both.
//!
//! A database may accept and acknowledge everything and never answer: a paused pooler, a hanging disk, a stopped server. libpq
//! waits for it without limit, and `statement_timeout` runs on the server. So r2d2 hands out a *slot*. The work takes the
//! connection out of its slot, or connects. If the work has not ended in time, it is *given up*: the slot goes back empty, r2d2
//! replaces it, and the next work connects. The thread stays with its connection until libpq returns. No statement and no
//! connect runs in r2d2's own threads.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use diesel::pg::PgConnection;
use diesel::r2d2::{ManageConnection, Pool, PooledConnection};
use idempotency::Error;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::{Instant, sleep_until, timeout_at};
use uuid::Uuid;

use super::cause::Cause;
use super::connection::Session;
use super::server::Server;
use super::turns::{Turn, Turns};
use crate::process::logging;

/// How many silences of the database may leave threads behind. A silence leaves at most one thread for each connection, since
/// later work fails to connect. If a thread is never released, the silence took a whole network away; eight are more than an
/// operator watches. After that, work keeps its turn until its thread returns.
const SILENCES: usize = 8;

/// How long the end waits for running work: a statement ends after 5 s.
const CLOSE_WITHIN: Duration = Duration::from_secs(6);

/// The manager of r2d2's pool.
struct Slots;

impl ManageConnection for Slots {
    type Connection = Option<Session>;
    type Error = Infallible;

    fn connect(&self) -> Result<Option<Session>, Infallible> {
        Ok(None)
    }

    /// The work itself tries the connection.
    fn is_valid(&self, _: &mut Option<Session>) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, slot: &mut Option<Session>) -> bool {
        slot.is_none()
    }
}

/// The threads of all pools. They are tokio's, on a runtime that runs nothing else.
pub(super) struct Threads {
    runtime: Mutex<Option<Runtime>>,
    handle: Handle,
    given_up: Arc<GivenUp>,
}

/// Counts the threads whose work was given up.
struct GivenUp {
    count: AtomicUsize,
    most: usize,
}

impl Threads {
    pub fn start(connections: usize) -> std::io::Result<Self> {
        let given_up = GivenUp { count: AtomicUsize::new(0), most: SILENCES * connections };
        let threads = connections + given_up.most;
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(threads)
            .thread_name("db")
            .enable_time()
            .build()?;
        let handle = runtime.handle().clone();
        Ok(Self { runtime: Mutex::new(Some(runtime)), handle, given_up: Arc::new(given_up) })
    }

    /// Runs a task until it ends or the pool is closed.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(task);
    }

    /// How many threads wait for an answer that nobody waits for any more.
    pub fn given_up(&self) -> usize {
        self.given_up.count.load(Ordering::Relaxed)
    }

    /// Waits until the running work has ended, for at most [`CLOSE_WITHIN`]. Blocks.
    pub fn close(&self) {
        if let Some(runtime) = lock(&self.runtime).take() {
            runtime.shutdown_timeout(CLOSE_WITHIN);
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = lock(&self.runtime).take() {
            runtime.shutdown_background();
        }
    }
}

/// Connections for one kind of work.
pub(super) struct Connections {
    pub turns: Turns,
    pool: Pool<Slots>,
    server: Arc<Server>,
    threads: Arc<Threads>,
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
        let turn = turn.map_err(|_| self.server.no_turn(|| self.turns.load_of(account_id)))?;
        let until = Instant::now() + self.within;
        let held = Held(Arc::new(Mutex::new(Some(Place { slot: None, turn }))));
        let request = logging::request();
        let mut job = Job { session: None, held: held.clone(), given_up: Arc::clone(&self.threads.given_up) };
        let (pool, server) = (self.pool.clone(), Arc::clone(&self.server));
        let job = self.threads.handle.spawn_blocking(move || {
            let session = job.open(&pool, &server)?;
            session.run(|conn| logging::within(request, || work(conn)))
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

/// What a piece of work holds, until it ends or is given up. The slot goes back before the turn.
struct Place {
    slot: Option<PooledConnection<Slots>>,
    #[expect(dead_code, reason = "gives the turn back when dropped")]
    turn: Turn,
}

#[derive(Clone)]
struct Held(Arc<Mutex<Option<Place>>>);

impl Held {
    fn lock(&self) -> MutexGuard<'_, Option<Place>> {
        lock(&self.0)
    }

    /// Frees the place of work that still runs. Whether it still runs.
    fn give_up(&self, given_up: &GivenUp) -> bool {
        let mut place = self.lock();
        let runs = place.is_some();
        if runs && given_up.count.load(Ordering::Relaxed) < given_up.most {
            given_up.count.fetch_add(1, Ordering::Relaxed);
            *place = None;
        }
        runs
    }
}

/// The caller of work, who waits for it or has left.
struct Caller<'a> {
    pool: &'a Connections,
    held: Held,
    until: Instant,
}

impl Drop for Caller<'_> {
    /// Work that still runs is given up when its time is over, also if the caller leaves earlier.
    fn drop(&mut self) {
        if self.held.lock().is_none() {
            return;
        }
        let (held, until, within) = (self.held.clone(), self.until, self.pool.within);
        let (server, given_up) = (Arc::clone(&self.pool.server), Arc::clone(&self.pool.threads.given_up));
        self.pool.threads.handle.spawn(async move {
            sleep_until(until).await;
            if held.give_up(&given_up) {
                server.met_silence(within);
            }
        });
    }
}

/// Work on its thread.
struct Job {
    session: Option<Session>,
    held: Held,
    given_up: Arc<GivenUp>,
}

impl Job {
    /// The connection of the slot if it is still good, else a new one.
    fn open(&mut self, pool: &Pool<Slots>, server: &Arc<Server>) -> Result<&mut Session, Error> {
        // Does not wait: there is a slot for each turn.
        let mut slot = pool.get().map_err(|error| Error::Unreachable(error.to_string()))?;
        let kept = slot.take();
        match &mut *self.held.lock() {
            Some(place) => place.slot = Some(slot),
            None => return Err(Cause::Silent.error("no thread came in time")),
        }
        Ok(self.session.insert(Session::open(server, kept)?))
    }
}

impl Drop for Job {
    /// Puts the connection back if it is fit for more work. After a panic it is not.
    fn drop(&mut self) {
        let mut session = self.session.take();
        if session.as_mut().is_some_and(|session| thread::panicking() || !session.is_fit()) {
            session = None;
        }
        let place = self.held.lock().take();
        match place {
            Some(Place { slot: Some(mut slot), .. }) => *slot = session,
            Some(_) => {}
            None => drop(self.given_up.count.fetch_sub(1, Ordering::Relaxed)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that may panic runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_given_up_once_and_beyond_the_bound_it_keeps_its_turn() {
        let turns = Turns::new(1);
        let turn = turns.take(Uuid::nil()).await.ok();
        let held = Held(Arc::new(Mutex::new(turn.map(|turn| Place { slot: None, turn }))));
        let given_up = GivenUp { count: AtomicUsize::new(3), most: 3 };

        assert!(held.give_up(&given_up));
        assert_eq!((turns.load(), given_up.count.load(Ordering::Relaxed)), ((1, 0), 3));

        given_up.count.store(2, Ordering::Relaxed);
        assert_eq!([held.give_up(&given_up), held.give_up(&given_up)], [true, false]);
        assert_eq!((turns.load(), given_up.count.load(Ordering::Relaxed)), ((0, 0), 3));
    }
}
