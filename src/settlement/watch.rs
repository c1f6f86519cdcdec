//! The background: what is due is looked for each second, and settled. A pass does so once, for a command or a test.
//!
//! Guarantees: hanging calls don't hold up other settlements. A look never waits for the calls of an earlier look, and
//! settlements that keep failing leave half of the calls to others.

use std::sync::Arc;
use std::time::Duration;

use diesel::pg::PgConnection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::lease::{self, Taken};
use super::settle::Unsettled;
use super::{Outside, Settler};
use crate::idempotency::Database;

/// Between two looks for what is due. An index answers the look, so it may be often; it bounds how late a retry is.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// From this attempt on a settlement counts as one that keeps failing: it may use half of the calls at once, so that the
/// other half is there for first retries, however much hangs.
const KEEPS_FAILING: i32 = 3;

/// The account of work that is no account's own: looking for what is due.
const NOBODY: Uuid = Uuid::nil();

/// What one pass did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pass {
    /// Leases taken.
    pub taken: usize,
    /// Outcomes recorded.
    pub settled: usize,
}

type Attempt<E> = JoinHandle<Result<bool, Unsettled<E>>>;

impl<O: Outside, D: Database> Settler<O, D> {
    /// Looks for what is due each second, for as long as the process lives. A look never waits for the calls of an earlier
    /// look.
    pub async fn watch(self) {
        let mut failing = false;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            // What finds no free call is due again at the next look.
            let end = self.begin_pass(false, false).await;
            // An outage fails every look. The first failure is news, and the pool tells how long the outage lasts.
            if let Err(error) = &end
                && !failing
            {
                log::warn!("can't look for what is to be settled: {error}");
            }
            failing = end.is_err();
        }
    }

    /// Settles once what is due, and what is parked too if `resume` says so, and waits for all of it.
    ///
    /// # Errors
    /// Where the database can't be asked.
    pub async fn pass(&self, resume: bool) -> Result<Pass, O::Error> {
        let mut pass = Pass::default();
        for work in self.begin_pass(resume, true).await? {
            match work.await {
                Ok(Ok(false)) => {}
                Ok(Ok(true)) => {
                    pass.taken += 1;
                    pass.settled += 1;
                }
                Ok(Err(_)) | Err(_) => pass.taken += 1,
            }
        }
        Ok(pass)
    }

    /// Begins a task for each settlement that is due, as far as calls are free. `waits`: each task waits for a free call.
    async fn begin_pass(&self, resume: bool, waits: bool) -> Result<Vec<Attempt<O::Error>>, O::Error> {
        let due = self.db.run(NOBODY, move |conn| lease::due(conn, resume).map_err(O::Error::from)).await?;
        let mut begun = Vec::with_capacity(due.len());
        for due in due {
            let Some(permits) = self.permits(due.attempts, waits).await else { continue };
            let this = self.clone();
            begun.push(self.spawn(async move {
                let end = this.take_and_settle(due.account_id, due.reference, resume).await;
                drop(permits);
                end
            }));
        }
        Ok(begun)
    }

    /// The right to make one call; none where no call is free, unless this `waits` for one.
    async fn permits(&self, attempts: i32, waits: bool) -> Option<Vec<OwnedSemaphorePermit>> {
        let gates: &[_] = if attempts < KEEPS_FAILING { &[&self.calls] } else { &[&self.failing, &self.calls] };
        let mut permits = Vec::with_capacity(gates.len());
        for gate in gates {
            let gate: Arc<Semaphore> = Arc::clone(gate);
            permits.push(if waits { gate.acquire_owned().await.ok()? } else { gate.try_acquire_owned().ok()? });
        }
        Some(permits)
    }

    /// Whether an outcome was recorded; false where there was nothing to take.
    async fn take_and_settle(
        &self,
        account_id: Uuid,
        reference: String,
        resume: bool,
    ) -> Result<bool, Unsettled<O::Error>> {
        let take = move |conn: &mut PgConnection| {
            lease::take(conn, account_id, &reference, resume, &O::LIMITS, O::KEY_LIFETIME).map_err(Unsettled::from)
        };
        match self.db.run(account_id, take).await? {
            Taken::Lease(lease) => self.settle(*lease).await.map(|_| true),
            Taken::Parked { location, request_id } => {
                self.note_parked(&location, request_id);
                Ok(false)
            }
            Taken::Gone => Ok(false),
        }
    }
}
