//! Settling: learning what became of a charge or refund at the gateway, and recording it.
//!
//! Guarantees: the gateway is called with no transaction open; one holder of a lease at a time calls it; the outcome is
//! recorded once, with the final reply, in one transaction that checks the lease (a fence: a holder that slept past its
//! lease writes nothing); work goes on when the client leaves, and what a crash interrupts is taken up when its lease ends.
//! It does not guarantee an end: while the gateway is away a charge stays processing, and past `MAX_ATTEMPTS` leases it is
//! parked until `payments settle` resumes it.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::pg::PgConnection;
use futures_util::{StreamExt, stream};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::lease::{LEASE, Lease, MAX_ATTEMPTS, Taken, What, due, give_back, load, take};
use super::refunds;
use crate::crash::crash_point;
use crate::db::{Db, NOBODY};
use crate::error::ApiError;
use crate::gateway::{Gateway, LEARN_BUDGET, Outcome, StillUnknown, learn};
use crate::idempotency::{self, Answer, Origin, Policy, Reply, SettleError, fault};

/// How long a handler waits for the outcome before it answers 202. Clients give up after some ten seconds; a call may take
/// 4 s, so most outcomes are in by then.
const HANDLER_BUDGET: Duration = Duration::from_secs(6);

/// How long recording an outcome may take: a handful of statements, and some waiting for locks.
const CONCLUDE_WITHIN: Duration = Duration::from_secs(5);

const _: () = assert!(
    LEASE.as_millis() > LEARN_BUDGET.as_millis() + CONCLUDE_WITHIN.as_millis(),
    "a lease must outlast everything its holder may spend"
);

/// Between two looks for what is due. An index answers it, so it may be often; it bounds how late a retry is.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Calls to the gateway at once: it may be just recovering, and so may we.
const CALLS_AT_ONCE: usize = 8;

/// How often recording is run again after a deadlock or a lost connection; the lease ends soon after.
const CONCLUDE_ATTEMPTS: u32 = 3;

/// The final reply, as it was recorded.
#[derive(Clone, Debug)]
pub(crate) struct Settled {
    reply: Reply,
    expires_at: Option<DateTime<Utc>>,
}

/// Why a lease did not end in an outcome.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unsettled {
    /// Somebody else has the charge, or has settled it.
    #[error("the lease is lost")]
    LostLease,
    #[error(transparent)]
    Unknown(#[from] StillUnknown),
    #[error("not recorded within {} s", CONCLUDE_WITHIN.as_secs())]
    TooSlow,
    #[error(transparent)]
    Record(#[from] SettleError),
    #[error(transparent)]
    Database(#[from] diesel::result::Error),
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl From<idempotency::Error> for Unsettled {
    fn from(error: idempotency::Error) -> Self {
        Self::Api(error.into())
    }
}

impl From<serde_json::Error> for Unsettled {
    fn from(error: serde_json::Error) -> Self {
        Self::Api(error.into())
    }
}

impl Unsettled {
    fn runs_again(&self) -> bool {
        let error = match self {
            Self::Database(error) | Self::Record(SettleError::Database(error)) => Some(error),
            Self::Api(error) => error.database_error(),
            _ => None,
        };
        error.is_some_and(|error| fault(error).runs_again())
    }
}

/// What settling has done since the process started.
#[derive(Debug, Default)]
pub struct Counts {
    /// Outcomes recorded.
    pub settled: AtomicU64,
    /// Attempts that ended without one.
    pub unknown: AtomicU64,
    /// Charges and refunds parked.
    pub parked: AtomicU64,
}

/// Settles, in the foreground of a request and in the background of every replica. Clones share everything.
#[derive(Clone)]
pub struct Settler {
    db: Db,
    gateway: Arc<dyn Gateway>,
    runtime: tokio::runtime::Handle,
    tasks: TaskTracker,
    counts: Arc<Counts>,
}

/// What one pass did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pass {
    /// Leases taken.
    pub taken: usize,
    /// Outcomes recorded.
    pub settled: usize,
}

impl Settler {
    /// Works on the current runtime, which must outlive the server's workers: their tasks end with them.
    #[must_use]
    pub fn new(db: Db, gateway: Arc<dyn Gateway>) -> Self {
        let runtime = tokio::runtime::Handle::current();
        Self { db, gateway, runtime, tasks: TaskTracker::new(), counts: Arc::default() }
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Waits until all that was begun has ended: at most a lease's time.
    pub async fn drain(&self) {
        self.tasks.close();
        let _ = tokio::time::timeout(LEASE, self.tasks.wait()).await;
    }

    /// For the request that makes a charge or refund, by the transaction `first`: settles it and answers with the final
    /// reply, or with its 202 when the budget ends. From the beginning the work goes on when the client leaves: a request
    /// that was dropped between its commit and its call would leave the charge alone until the lease ends.
    ///
    /// # Errors
    /// What `first` fails with.
    pub(crate) async fn carry(
        &self,
        first: impl Future<Output = Result<Answer, ApiError>> + Send + 'static,
        what: What,
        account_id: Uuid,
        id: Uuid,
    ) -> Result<Answer, ApiError> {
        let this = self.clone();
        let whole = self.spawn(async move { Ok(this.finish(first.await?, what, account_id, id).await) });
        whole.await.unwrap_or_else(|error| Err(ApiError::internal(error)))
    }

    /// Settles what a request has just made. Any other answer stays as it is.
    async fn finish(&self, answer: Answer, what: What, account_id: Uuid, id: Uuid) -> Answer {
        if answer.origin == Origin::Replayed || !answer.reply.is_provisional() {
            return answer;
        }
        crash_point("after-commit-1");
        let this = self.clone();
        let work = self.spawn(async move {
            let lease =
                this.db.run(account_id, move |conn| load(conn, what, account_id, id).map_err(Unsettled::from)).await?;
            // The first lease was taken with the insert; a higher attempt means that it ran out before this began.
            if lease.attempt == 1 { this.settle(lease).await } else { Err(Unsettled::LostLease) }
        });
        match tokio::time::timeout(HANDLER_BUDGET, work).await {
            Ok(Ok(Ok(settled))) => Answer { reply: settled.reply, expires_at: settled.expires_at, ..answer },
            // Unknown so far. The settler goes on, and a retry learns more.
            _ => answer,
        }
    }

    fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.tasks.spawn_on(work, &self.runtime)
    }

    /// Looks for what is due, for as long as the process lives.
    pub async fn run(self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if let Err(error) = self.pass(false).await {
                log::warn!("can't look for what is to be settled: {error}");
            }
        }
    }

    /// Settles once what is due, and what is parked too if `resume` says so.
    ///
    /// # Errors
    /// Where the database can't be asked.
    pub async fn pass(&self, resume: bool) -> Result<Pass, ApiError> {
        let due = self.db.run(NOBODY, move |conn| due(conn, resume).map_err(ApiError::from)).await?;
        let work = due.into_iter().map(|(what, account_id, id)| {
            let this = self.clone();
            self.spawn(async move {
                let taken = this
                    .db
                    .run(account_id, move |conn| take(conn, what, account_id, id, resume).map_err(Unsettled::from));
                match taken.await? {
                    Taken::Lease(lease) => this.settle(lease).await.map(Some),
                    Taken::Parked => {
                        this.note_parked(what, id);
                        Ok(None)
                    }
                    Taken::Gone => Ok(None),
                }
            })
        });
        let mut pass = Pass::default();
        let mut ends = stream::iter(work).buffer_unordered(CALLS_AT_ONCE);
        while let Some(end) = ends.next().await {
            match end {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(_))) => {
                    pass.taken += 1;
                    pass.settled += 1;
                }
                Ok(Err(_)) | Err(_) => pass.taken += 1,
            }
        }
        Ok(pass)
    }

    async fn settle(&self, lease: Lease) -> Result<Settled, Unsettled> {
        let (what, id, attempt) = (lease.what, lease.id, lease.attempt);
        let end = self.learn_and_record(lease).await;
        match &end {
            Ok(settled) => {
                self.counts.settled.fetch_add(1, Ordering::Relaxed);
                log::info!("{what:?} {id} settled at attempt {attempt}: {}", settled.reply.status);
            }
            Err(error) => {
                self.counts.unknown.fetch_add(1, Ordering::Relaxed);
                log::warn!("{what:?} {id} not settled at attempt {attempt}: {error}");
            }
        }
        end
    }

    async fn learn_and_record(&self, lease: Lease) -> Result<Settled, Unsettled> {
        crash_point("before-call");
        let learnt = learn(&*self.gateway, &lease.call, lease.look_first).await;
        crash_point("after-call");
        let recorded = match learnt {
            Ok(outcome) => {
                let recorded = tokio::time::timeout(CONCLUDE_WITHIN, self.record(lease.clone(), outcome)).await;
                recorded.unwrap_or(Err(Unsettled::TooSlow))
            }
            Err(unknown) => Err(unknown.into()),
        };
        match recorded {
            Ok(settled) => {
                crash_point("after-commit-2");
                Ok(settled)
            }
            Err(error) => {
                // An outcome that can't be recorded counts as an attempt, too: it ends up parked, in sight of a person, and
                // not sent again every lease for ever.
                self.release(lease).await?;
                Err(error)
            }
        }
    }

    /// The second transaction. It runs again where that helps; should a lost COMMIT have happened, the fence says so and
    /// the record has the reply.
    async fn record(&self, lease: Lease, outcome: Outcome) -> Result<Settled, Unsettled> {
        let mut attempts = 1;
        loop {
            let (lease, outcome) = (lease.clone(), outcome.clone());
            match self.db.run(lease.address.account_id, move |conn| conclude(conn, &lease, &outcome)).await {
                Err(error) if error.runs_again() && attempts < CONCLUDE_ATTEMPTS => attempts += 1,
                end => return end,
            }
        }
    }

    /// Gives the lease back: due again after a pause, or parked.
    async fn release(&self, lease: Lease) -> Result<(), Unsettled> {
        let (what, id) = (lease.what, lease.id);
        let parked =
            self.db.run(lease.address.account_id, move |conn| give_back(conn, &lease).map_err(Unsettled::from)).await?;
        if parked {
            self.note_parked(what, id);
        }
        Ok(())
    }

    fn note_parked(&self, what: What, id: Uuid) {
        self.counts.parked.fetch_add(1, Ordering::Relaxed);
        log::error!("{what:?} {id} is parked after {MAX_ATTEMPTS} attempts: `payments settle` resumes it");
    }
}

fn conclude(conn: &mut PgConnection, lease: &Lease, outcome: &Outcome) -> Result<Settled, Unsettled> {
    let concluded = conn.build_transaction().read_committed().run(|conn| {
        let settled = match lease.what {
            What::Charge => super::conclude(conn, lease, outcome),
            What::Refund => refunds::conclude(conn, lease, outcome),
        }?;
        crash_point("before-commit-2");
        Ok(settled)
    });
    match concluded {
        // Settled already, perhaps by this very lease: then the record is final and has the reply.
        Err(Unsettled::LostLease) => match idempotency::find(conn, &lease.address)? {
            Some(record) if !record.reply.is_provisional() => {
                Ok(Settled { reply: record.reply, expires_at: record.expires_at })
            }
            _ => Err(Unsettled::LostLease),
        },
        end => end,
    }
}

/// Puts the final reply into the record; part of both `conclude`s, after their rows are locked.
pub(crate) fn settle_record(
    conn: &mut PgConnection,
    lease: &Lease,
    policy: &Policy,
    reply: Reply,
) -> Result<Settled, Unsettled> {
    let expires_at = idempotency::settle(conn, &lease.address, &reply, policy.ttl(reply.status))?;
    Ok(Settled { reply, expires_at })
}
