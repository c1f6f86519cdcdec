// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs work: in the account's turn, on a thread of tokio, with a connection of r2d2.
//!
//! A database may accept and acknowledge everything and never answer: a paused pooler, a hanging disk, a stopped
//! server. libpq waits for it without limit, and `statement_timeout` runs on the server. So work that has not ended in
//! time is *given up*: its turn goes to other work, which gets a new connection. The thread stays with its connection
//! until libpq returns.

use std::sync::Arc;
use std::time::Duration;

use diesel::pg::PgConnection;
use idempotency::Error;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout_at};
use uuid::Uuid;

use super::cause::Cause;
use super::connections::Connections;
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
        let held = Held(Arc::new(Mutex::new(Some(Place::Turn(turn)))));
        let _caller = Caller { runner: self, held: held.clone(), until };
        let connections = Arc::clone(&self.connections);
        let job = self.threads.handle.spawn_blocking(move || {
            // Until the end. The connection goes back before the turn, and both before the caller has the result.
            let held = EndsWith(held);
            let mut session = connections.open()?;
            if !held.0.is_turn() {
                return Err(Cause::Silent.error("no thread came in time").into());
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

/// What a piece of work holds until it ends. Its caller has a clone.
#[derive(Clone)]
struct Held(Arc<Mutex<Option<Place>>>);

enum Place {
    Turn(#[expect(dead_code, reason = "gives the turn back when dropped")] Turn),
    /// The work was given up. Only its thread is left.
    Thread(#[expect(dead_code, reason = "counts the thread until it is dropped")] OwnedSemaphorePermit),
}

impl Held {
    fn is_turn(&self) -> bool {
        matches!(*self.0.lock(), Some(Place::Turn(_)))
    }

    /// If the work still runs, frees its turn, as far as permits allow. Returns whether it still runs.
    fn give_up(&self, may_give_up: &Arc<Semaphore>) -> bool {
        let mut held = self.0.lock();
        if held.is_some()
            && let Ok(permit) = Arc::clone(may_give_up).try_acquire_owned()
        {
            *held = Some(Place::Thread(permit));
        }
        held.is_some()
    }
}

/// The end of a piece of work.
struct EndsWith(Held);

impl Drop for EndsWith {
    fn drop(&mut self) {
        let held = self.0.0.lock().take();
        drop(held);
    }
}

/// The caller of work, who waits for it or has left.
struct Caller<'a> {
    runner: &'a Runner,
    held: Held,
    until: Instant,
}

impl Drop for Caller<'_> {
    /// Work that still runs when its time is up is given up, even if the caller left earlier.
    fn drop(&mut self) {
        if self.held.0.lock().is_none() {
            return;
        }
        let (held, until, within) = (self.held.clone(), self.until, self.runner.within);
        let (server, may_give_up) = (Arc::clone(&self.runner.server), Arc::clone(&self.runner.threads.may_give_up));
        self.runner.threads.spawn(async move {
            sleep_until(until).await;
            if held.give_up(&may_give_up) {
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
        let turn = turns.take(Uuid::nil()).await;
        let held = Held(Arc::new(Mutex::new(turn.map(Place::Turn))));

        assert!(held.give_up(&may_give_up));
        assert_eq!(turns.load(), (1, 0));

        may_give_up.add_permits(1);
        assert!(held.give_up(&may_give_up));
        assert_eq!((turns.load(), may_give_up.available_permits()), ((0, 0), 0));
        drop(EndsWith(held.clone()));
        assert_eq!((held.give_up(&may_give_up), may_give_up.available_permits()), (false, 1));
    }
}
