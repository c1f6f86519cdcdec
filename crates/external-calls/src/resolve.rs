// SPDX-License-Identifier: MIT OR Apache-2.0
//! Resolving under a lease: the holder finds and records the outcome, or gives the lease back.
//!
//! Guarantees: only the holder of the lease records the outcome. The outcome's business writes and the final reply commit
//! together. If there is no outcome, or if the outcome can't be recorded, the external call is due again after a pause, and
//! parked after enough attempts.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use diesel::pg::PgConnection;

use super::lease::{self, Lease, Return, Row};
use super::outcome::{Next, Sending, Sent, StillUnknown, find_outcome};
use crate::{ExternalSystem, Limits, MadeBy, Resolver};
use idempotency::{self, Answer, Database, Failure, Fault, FinalizeError, Reply, fault};

/// The most runs of the second transaction, after deadlocks or lost connections. Together they must end within
/// `Limits::record`. A third run rarely helps if a second did not.
const RECORD_RUNS: u32 = 3;

/// The steps between which a crash makes a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The request has come, and is about to claim its key.
    Received,
    /// The first transaction has claimed the key, and its body is about to run.
    Claimed,
    /// The first transaction is committed.
    Begun,
    /// The resolver has taken a lease.
    Leased,
    /// The call is about to be sent, or only looked up.
    Sending,
    /// The call has ended, with or without an outcome.
    Called,
    /// Everything in the second transaction is written, but not committed.
    Applied,
    /// The second transaction is committed.
    Recorded,
    /// There was no outcome, or it could not be recorded. The lease is given back, or was already lost.
    GivenBack,
    /// The request is about to be answered, with a new reply or an earlier one. A request that fails takes no such step.
    Answering,
}

impl Lease {
    /// Tells the service of a step under this lease.
    pub(super) fn reached(&self, system: &impl ExternalSystem, step: Step) {
        system.reached(&self.row.made_by, Some(self.row.attempts), step);
    }
}

/// The final reply, as it was recorded.
pub(super) struct Resolved {
    reply: Reply,
    expires_at: Option<DateTime<Utc>>,
}

impl Resolved {
    /// Reads the final reply from the record, if it is there.
    pub fn find(conn: &mut PgConnection, made_by: &MadeBy) -> QueryResult<Option<Self>> {
        let record = idempotency::find(conn, &made_by.address())?.filter(|record| !record.reply.is_provisional());
        Ok(record.map(|record| Self { reply: record.reply, expires_at: record.expires_at }))
    }

    /// The final reply in place of a 202.
    pub fn instead_of(self, stored: &Answer) -> Answer {
        Answer { reply: self.reply, expires_at: self.expires_at, ..*stored }
    }
}

/// Why a lease did not end in an outcome.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unresolved<E> {
    /// The database failed.
    #[error("no lease was taken: {0}")]
    NotTaken(E),
    /// Another holder has the external call, or has ended it.
    #[error("the lease is lost")]
    LostLease,
    #[error(transparent)]
    Unknown(StillUnknown),
    #[error("the outcome was not recorded in time")]
    TooSlow,
    #[error("the outcome can't be recorded: {0}")]
    Record(FinalizeError),
    #[error("the outcome can't be recorded: {0}")]
    Failed(E),
    /// The call would be closed, and the record would stay provisional for good.
    #[error("the outcome can't be recorded: its reply is a 202, which is not final")]
    NotFinal,
    /// The pool had no connection, or no answer in time.
    #[error("the outcome can't be recorded: {0}")]
    NoDatabase(E),
}

impl<E: From<idempotency::Error>> From<idempotency::Error> for Unresolved<E> {
    fn from(error: idempotency::Error) -> Self {
        match error {
            idempotency::Error::Overloaded | idempotency::Error::Unreachable(_) => Self::NoDatabase(error.into()),
            defect => Self::Failed(defect.into()),
        }
    }
}

impl<E: Failure> From<diesel::result::Error> for Unresolved<E> {
    fn from(error: diesel::result::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl<E: Failure> Unresolved<E> {
    fn runs_again(&self) -> bool {
        let error = match self {
            Self::Record(FinalizeError::Database(error)) => Some(error),
            Self::Failed(error) => error.database_error(),
            _ => None,
        };
        error.is_some_and(|error| fault(error).runs_again())
    }

    /// Whether the end says nothing about the external system: the database is down, or another holder goes on.
    fn is_ours(&self) -> bool {
        match self {
            Self::TooSlow | Self::NoDatabase(_) | Self::LostLease => true,
            Self::Record(FinalizeError::Database(error)) => fault(error) != Fault::Other,
            Self::Failed(error) => error.database_error().is_some_and(|error| fault(error) != Fault::Other),
            _ => false,
        }
    }
}

impl<O: ExternalSystem, D: Database> Resolver<O, D> {
    /// Finds the outcome and records it, or gives the lease back.
    pub(super) async fn resolve(&self, lease: Lease) -> Result<Resolved, Unresolved<O::Error>> {
        let Row { location, made_by: MadeBy { request_id, .. }, attempts: attempt, .. } = &lease.row;
        match self.find_and_record(&lease).await {
            Ok(resolved) => {
                lease.reached(&self.system, Step::Recorded);
                self.counts.resolved.fetch_add(1, Ordering::Relaxed);
                log::info!(
                    "resolved {location} status={} attempt={attempt} request={request_id}",
                    resolved.reply.status
                );
                Ok(resolved)
            }
            Err(error) => {
                if !error.is_ours() {
                    self.counts.unknown.fetch_add(1, Ordering::Relaxed);
                }
                log::warn!("not resolved {location} attempt={attempt} request={request_id}: {error}");
                // An outcome that can't be recorded counts as an attempt too, so that the external call ends up parked,
                // where a person sees it, instead of being sent again for ever.
                match self.give_back(lease.clone(), &error).await {
                    Ok(()) => lease.reached(&self.system, Step::GivenBack),
                    Err(failure) => {
                        log::warn!("can't give back the lease of {location}, which ends by itself: {failure}");
                    }
                }
                Err(error)
            }
        }
    }

    async fn find_and_record(&self, lease: &Lease) -> Result<Resolved, Unresolved<O::Error>> {
        let row = &lease.row;
        let call: O::Call = lease::parsed(row.call.clone())?;
        // Too little of the lease is left.
        if lease.taken_at.elapsed() + O::LIMITS.find_outcome > O::LIMITS.lease {
            return Err(Unresolved::LostLease);
        }
        lease.reached(&self.system, Step::Sending);
        let last_sent = row.unanswered_at.unwrap_or(row.created_at);
        let sent = Sent {
            reference: row.made_by.reference.clone(),
            outside_id: row.outside_id.clone(),
            since: row.created_at,
            until: last_sent + O::LIMITS.refusal_counts_after,
        };
        let found = find_outcome(
            &self.system,
            &sent,
            &call,
            Sending { send_until: Some(lease.taken_at + O::LIMITS.lease), ..lease.sending },
        )
        .await;
        lease.reached(&self.system, Step::Called);
        let outcome = found.map_err(Unresolved::Unknown)?;
        let recorded = tokio::time::timeout(O::LIMITS.record, self.record(lease.clone(), call, outcome)).await;
        recorded.unwrap_or(Err(Unresolved::TooSlow))
    }

    /// Runs the second transaction, and runs it again after a deadlock or a lost connection. If the answer to COMMIT was lost
    /// and COMMIT did happen, the next run finds the reply in the record.
    async fn record(&self, lease: Lease, call: O::Call, outcome: O::Outcome) -> Result<Resolved, Unresolved<O::Error>> {
        let work = Arc::new((self.system.clone(), lease, call, outcome));
        let mut runs = 1;
        loop {
            let (account_id, work) = (work.1.row.made_by.account_id, Arc::clone(&work));
            let recorded = self.db.run(account_id, move |conn| {
                let (outside, lease, call, outcome) = &*work;
                apply(conn, outside, lease, call, outcome)
            });
            match recorded.await {
                Err(error) if error.runs_again() && runs < RECORD_RUNS => runs += 1,
                end => return end,
            }
        }
    }

    /// The external call is due again after a pause, or parked after enough attempts. If the lease is lost, nothing happens.
    async fn give_back(&self, lease: Lease, error: &Unresolved<O::Error>) -> Result<(), Unresolved<O::Error>> {
        let limits = O::LIMITS;
        let (unanswered, next, asked) = match error {
            Unresolved::Unknown(unknown) => (unknown.unanswered, unknown.next.clone(), unknown.error.retry_after()),
            // The outcome was found and not recorded, or nothing was sent.
            _ => (false, Next::Send, None),
        };
        let pause = pause_after(lease.row.attempts, &limits).max(asked.unwrap_or_default().min(limits.max_backoff));
        let enough = lease.row.counted() >= limits.max_attempts;
        let next = if next == Next::Send && enough { Next::Park } else { next };
        let (row, parks) = (lease.row.clone(), next == Next::Park);
        let given_back = self.db.run(row.made_by.account_id, move |conn| {
            let end = Return { pause, unanswered, next };
            lease::give_back(conn, &lease, end).map_err(Unresolved::<O::Error>::from)
        });
        if given_back.await? && parks {
            self.note_parked(&row);
        }
        Ok(())
    }

    pub(super) fn note_parked(&self, row: &Row) {
        let Row { location, made_by: MadeBy { request_id, .. }, attempts, .. } = row;
        self.counts.parked.fetch_add(1, Ordering::Relaxed);
        log::error!(
            "parked {location} request={request_id} after {attempts} attempts: a person must look, then resume"
        );
    }
}

/// The second transaction: the fence, the service's writes, and the final reply in place of the 202.
fn apply<O: ExternalSystem>(
    conn: &mut PgConnection,
    system: &O,
    lease: &Lease,
    call: &O::Call,
    outcome: &O::Outcome,
) -> Result<Resolved, Unresolved<O::Error>> {
    let made_by = &lease.row.made_by;
    conn.build_transaction().read_committed().run(|conn| {
        match lease::fence(conn, lease)? {
            None => return Err(Unresolved::LostLease),
            // The answer to an earlier COMMIT was lost.
            Some(true) => return Resolved::find(conn, made_by)?.ok_or(Unresolved::LostLease),
            Some(false) => {}
        }
        let reply = system.apply(conn, made_by.account_id, call, outcome).map_err(Unresolved::Failed)?;
        if reply.is_provisional() {
            return Err(Unresolved::NotFinal);
        }
        lease::close(conn, lease)?;
        let ttl = system.policy(call).ttl(reply.status);
        let expires_at = idempotency::finalize(conn, &made_by.address(), &reply, ttl).map_err(Unresolved::Record)?;
        lease.reached(system, Step::Applied);
        Ok(Resolved { reply, expires_at })
    })
}

/// 2 s, 4 s, 8 s .. 10 min, plus a random part of up to a quarter, so that external calls that failed together don't
/// return together.
fn pause_after(attempt: i32, limits: &Limits) -> Duration {
    let doublings = u32::try_from(attempt - 1).unwrap_or(0).min(16);
    let pause = (limits.first_backoff * 2_u32.pow(doublings)).min(limits.max_backoff);
    pause.mul_f64(1.0 + fastrand::f64() / 4.0)
}
