// SPDX-License-Identifier: MIT OR Apache-2.0
//! The background: each second the resolver looks for external calls that are due, and resolves them. `run_once` does this once, for
//! a command or a test.
//!
//! Guarantees: a look never waits for the calls of an earlier look. `concurrency.rs` says how many calls a look may begin.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

use super::lease::{self, Taken};
use super::resolve::{Step, Unresolved};
use crate::{ExternalSystem, Resolver};
use idempotency::{Database, Failure as _, Fault, fault};

/// The pause between two looks. An external call waits for up to this long after it is due. An index answers the look, so the
/// look is cheap.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often the log reports that looks fail. In an outage every look fails, and a line for each would bury the rest of
/// the log. A single line would be missed, and a resolver that lacks a privilege on the table would look idle.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// The account that the look runs under, since it belongs to none.
const NOBODY: Uuid = Uuid::nil();

/// What one run did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resolutions {
    /// Leases taken.
    pub taken: usize,
    /// Outcomes recorded.
    pub resolved: usize,
    /// Leases that the database refused. These calls are unchanged.
    pub not_taken: usize,
}

type Task<E> = JoinHandle<Result<bool, Unresolved<E>>>;

impl<O: ExternalSystem, D: Database> Resolver<O, D> {
    /// Looks every second while the process lives.
    pub async fn run_in_background(self) {
        self.run_in_background_for(|_| true).await;
    }

    /// Like [`Resolver::run_in_background`], for a process that leaves some external calls to other processes.
    /// `is_mine` gets a reference, and says whether this process resolves that external call.
    pub async fn run_in_background_for(self, is_mine: impl Fn(&str) -> bool + Send + Sync) {
        let mut told: Option<Instant> = None;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            // An external call that finds every slot taken stays due, and the next look takes it.
            let end = self.begin_due(false, false, &is_mine).await;
            match end {
                Ok(_) => told = None,
                Err(error) if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) => {
                    log::warn!("can't look for what is to be resolved: {error}");
                    told = Some(Instant::now());
                }
                Err(_) => {}
            }
        }
    }

    /// Resolves what is due, at most 200 external calls, or with `resume` everything that is due or parked, and waits until all of
    /// it has ended.
    ///
    /// # Errors
    /// The look failed.
    pub async fn run_once(&self, resume: bool) -> Result<Resolutions, O::Error> {
        let mut done = Resolutions::default();
        for work in self.begin_due(resume, true, &|_| true).await? {
            match work.await {
                Ok(Ok(false)) => {}
                Ok(Err(Unresolved::NotTaken(_))) => done.not_taken += 1,
                Ok(Ok(true)) => {
                    done.taken += 1;
                    done.resolved += 1;
                }
                Ok(Err(_)) | Err(_) => done.taken += 1,
            }
        }
        Ok(done)
    }

    /// Spawns a task for each external call that is due and finds a free slot. With `waits`, each one waits for a slot.
    async fn begin_due(
        &self,
        resume: bool,
        waits: bool,
        is_mine: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<Vec<Task<O::Error>>, O::Error> {
        let due = self.db.run(NOBODY, move |conn| lease::due(conn, resume).map_err(O::Error::from)).await?;
        let mut begun = Vec::with_capacity(due.len());
        for due in due.into_iter().filter(|due| is_mine(&due.reference)) {
            let slot = if waits {
                Some(self.slots.begin(due.account_id, due.attempts).await)
            } else {
                self.slots.try_begin(due.account_id, due.attempts)
            };
            let Some(slot) = slot else { continue };
            let this = self.clone();
            begun.push(self.spawn(async move {
                let end = this.take_and_resolve(due.account_id, due.reference, resume).await;
                drop(slot);
                end
            }));
        }
        Ok(begun)
    }

    /// Whether an outcome was recorded. False if there was no lease to take.
    async fn take_and_resolve(
        &self,
        account_id: Uuid,
        reference: String,
        resume: bool,
    ) -> Result<bool, Unresolved<O::Error>> {
        let named = reference.clone();
        let taken = self.db.run(account_id, move |conn| {
            let taken = lease::take(conn, account_id, &named, resume, &O::LIMITS, O::KEY_LIFETIME);
            taken.map_err(O::Error::from)
        });
        let taken = taken.await.map_err(|error| {
            let is_defect = error.database_error().is_some_and(|error| fault(error) == Fault::Other);
            // In an outage this happens every second for each due call, and the pool's owner logs the cause.
            let level = if is_defect { log::Level::Warn } else { log::Level::Debug };
            log::log!(level, "can't take a lease on external call {reference}: {error}");
            if is_defect {
                self.counts.unknown.fetch_add(1, Ordering::Relaxed);
            }
            Unresolved::NotTaken(error)
        })?;
        match taken {
            Taken::Lease(lease) => {
                lease.reached(&self.system, Step::Leased);
                self.resolve(*lease).await.map(|_| true)
            }
            Taken::Parked(row) => {
                self.note_parked(&row);
                Ok(false)
            }
            Taken::Gone => Ok(false),
        }
    }
}
