// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs work: in the account's turn, on a thread of tokio, with a connection of r2d2.
//!
//! A database may accept and acknowledge everything and never answer: a paused pooler, a hanging disk, a stopped
//! server. libpq waits for it without limit, and `statement_timeout` runs on the server. So work that has not ended in
//! time is *given up*: its turn goes to other work, which gets a new connection. The thread stays with its connection
//! until libpq returns.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use diesel::pg::PgConnection;
use idempotency::Error;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout_at};
use uuid::Uuid;

use super::cause::Cause;
use super::connections::{Connections, Use};
use super::server::Server;
use super::threads::Threads;
use super::turns::{Turn, Turns};

/// Runs one kind of work.
pub(super) struct Runner {
    pub turns: Turns,
    pub server: Arc<Server>,
    pub threads: Arc<Threads>,
    connections: Arc<Connections>,
    within: Duration,
}

impl Runner {
    /// At most `size` pieces of work run at once, and each is given up after `within`.
    pub fn new(size: u32, within: Duration, url: &Arc<str>, server: &Arc<Server>, threads: &Arc<Threads>) -> Self {
        let (server, threads) = (Arc::clone(server), Arc::clone(threads));
        let connections = Arc::new(Connections::new(url, &server, &threads, size));
        Self { turns: Turns::new(size as usize), server, threads, connections, within }
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
        let slot = Slot::of(turn);
        let _caller = Caller { runner: self, slot: Arc::clone(&slot), until };
        let connections = Arc::clone(&self.connections);
        let job = self.threads.handle.spawn_blocking(move || {
            // The connection goes back before the turn, and both before the caller has the result.
            let job = Job(slot);
            let mut session = connections.open(|pool| job.0.uses(pool))?;
            if !job.0.may_begin() {
                return Err(Cause::Silent.error("the work was given up before it began").into());
            }
            session.run(work)
        });
        match timeout_at(until, job).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(end)) if end.is_panic() => Err(Error::Panicked.into()),
            Ok(Err(_)) => Err(Error::Unreachable("the pool is closed".into()).into()),
            Err(_) => Err(Cause::Silent.error("the work did not end in time").into()),
        }
    }
}

/// What a piece of work holds until it ends.
struct Slot(Mutex<Option<Held>>);

struct Held {
    place: Place,
    /// The pool that the work takes its connection from. None before its thread has begun.
    pool: Option<Arc<Use>>,
}

enum Place {
    Turn(#[expect(dead_code, reason = "gives the turn back when dropped")] Turn),
    /// The work was given up. Only its thread is left.
    Thread(#[expect(dead_code, reason = "counts the thread until it is dropped")] OwnedSemaphorePermit),
}

impl Slot {
    fn of(turn: Turn) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some(Held { place: Place::Turn(turn), pool: None }))))
    }

    /// Notes the pool from which the work takes its connection, unless it was given up.
    fn uses(&self, pool: &Arc<Use>) {
        if let Some(held) = &mut *self.0.lock()
            && matches!(held.place, Place::Turn(_))
        {
            held.pool = Some(Arc::clone(pool));
        }
    }

    /// Whether the work was not given up before it began.
    fn may_begin(&self) -> bool {
        self.0.lock().as_ref().is_some_and(|held| matches!(held.place, Place::Turn(_)))
    }

    /// If the work still runs, frees its turn. Beyond the bound, the work keeps its turn until there is a permit. Returns whether
    /// it was given up.
    async fn give_up(&self, may_give_up: Arc<Semaphore>) -> bool {
        if self.0.lock().is_none() {
            return false;
        }
        // The semaphore is never closed.
        let Ok(permit) = may_give_up.acquire_owned().await else { return false };
        let mut held = self.0.lock();
        let Some(held) = &mut *held else { return false };
        held.place = Place::Thread(permit);
        if let Some(pool) = &held.pool {
            pool.given_up.fetch_add(1, Ordering::Relaxed);
        }
        true
    }
}

/// A piece of work on its thread.
struct Job(Arc<Slot>);

impl Drop for Job {
    fn drop(&mut self) {
        let held = self.0.0.lock().take();
        if let Some(Held { place: Place::Thread(_), pool: Some(pool) }) = &held {
            pool.given_up.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The caller of work, who waits for it or has left.
struct Caller<'a> {
    runner: &'a Runner,
    slot: Arc<Slot>,
    until: Instant,
}

impl Drop for Caller<'_> {
    /// Work that still runs when its time is up is given up, even if the caller left earlier.
    fn drop(&mut self) {
        if self.slot.0.lock().is_none() {
            return;
        }
        let (slot, until, within) = (Arc::clone(&self.slot), self.until, self.runner.within);
        let (server, may_give_up) = (Arc::clone(&self.runner.server), Arc::clone(&self.runner.threads.may_give_up));
        self.runner.threads.spawn(async move {
            sleep_until(until).await;
            if slot.give_up(may_give_up).await {
                server.met_silence(within);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_given_up_once_and_beyond_the_bound_it_keeps_its_turn() {
        let (turns, may_give_up) = (Turns::new(1), Arc::new(Semaphore::new(0)));
        let slot = Slot::of(turns.take(Uuid::nil()).await.unwrap());

        let give_up = slot.give_up(Arc::clone(&may_give_up));
        tokio::pin!(give_up);
        assert!(futures_util::poll!(&mut give_up).is_pending());
        assert_eq!(turns.load(), (1, 0));

        may_give_up.add_permits(1);
        assert!(give_up.await);
        assert_eq!((turns.load(), may_give_up.available_permits()), ((0, 0), 0));
        drop(Job(Arc::clone(&slot)));
        assert_eq!((slot.give_up(Arc::clone(&may_give_up)).await, may_give_up.available_permits()), (false, 1));
    }
}
