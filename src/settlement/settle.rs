//! Settling under a lease: the outcome is learnt and recorded, or the lease is given back.
//!
//! Guarantees: only the holder of the lease records the outcome. The outcome's business writes and the final reply commit
//! together. If there is no outcome, or if the outcome can't be recorded, the settlement is due again after a pause, and
//! parked after enough attempts.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::pg::PgConnection;
use uuid::Uuid;

use super::learn::{StillUnknown, learn};
use super::lease::{self, Lease};
use super::{Limits, Outside, Settler, Step};
use crate::idempotency::{self, Database, Failure, Nature, Reply, SettleError, fault};

/// Runs of the second transaction at most, after a deadlock or a lost connection. All runs together must end within
/// `Limits::record`. A third run rarely helps if a second one did not.
const RECORD_RUNS: u32 = 3;

/// The final reply, as it was recorded.
pub(super) struct Settled {
    pub reply: Reply,
    pub expires_at: Option<DateTime<Utc>>,
}

/// Why a lease did not end in an outcome.
#[derive(Debug)]
pub(super) enum Unsettled<E> {
    /// No lease: the database failed.
    NotTaken(E),
    /// Another holder has the settlement, or has ended it.
    LostLease,
    Unknown(StillUnknown),
    TooSlow,
    Record(SettleError),
    Failed(E),
}

impl<E: From<idempotency::Error>> From<idempotency::Error> for Unsettled<E> {
    fn from(error: idempotency::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl<E: Failure> From<diesel::result::Error> for Unsettled<E> {
    fn from(error: diesel::result::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl<E: Failure> Unsettled<E> {
    fn runs_again(&self) -> bool {
        let error = match self {
            Self::Record(SettleError::Database(error)) => Some(error),
            Self::Failed(error) => match error.nature() {
                Nature::Database(error) => Some(error),
                Nature::Final | Nature::Transient => None,
            },
            _ => None,
        };
        error.is_some_and(|error| fault(error).runs_again())
    }

    fn reason(&self) -> String {
        match self {
            Self::NotTaken(error) => format!("no lease was taken: {error}"),
            Self::LostLease => "the lease is lost".to_owned(),
            Self::Unknown(unknown) => unknown.to_string(),
            Self::TooSlow => "the outcome was not recorded in time".to_owned(),
            Self::Record(error) => format!("the outcome can't be recorded: {error}"),
            Self::Failed(error) => format!("the outcome can't be recorded: {error}"),
        }
    }
}

impl<O: Outside, D: Database> Settler<O, D> {
    /// Learns the outcome and records it, or gives the lease back.
    pub(super) async fn settle(&self, lease: Lease) -> Result<Settled, Unsettled<O::Error>> {
        let Lease { location, request_id, attempt, .. } = lease.clone();
        match self.learn_and_record(&lease).await {
            Ok(settled) => {
                self.outside.reached(Step::Recorded);
                self.counts.settled.fetch_add(1, Ordering::Relaxed);
                log::info!("settled {location} status={} attempt={attempt} request={request_id}", settled.reply.status);
                Ok(settled)
            }
            Err(error) => {
                self.counts.unknown.fetch_add(1, Ordering::Relaxed);
                let reason = error.reason();
                log::warn!("not settled {location} attempt={attempt} request={request_id}: {reason}");
                // If an outcome can't be recorded, this is an attempt too. So the settlement ends up parked, in sight of a
                // person, and is not sent again for ever.
                if let Err(failure) = self.give_back(lease, &error).await {
                    log::warn!("can't give back the lease of {location}, which ends by itself: {}", failure.reason());
                }
                Err(error)
            }
        }
    }

    async fn learn_and_record(&self, lease: &Lease) -> Result<Settled, Unsettled<O::Error>> {
        // A release that can't read the calls of the one before is a defect, and a person must look.
        let call: O::Call = serde_json::from_value(lease.call.clone())
            .map_err(|error| diesel::result::Error::DeserializationError(error.into()))?;
        // A holder that was suspended must not send. Its sending would begin later than `unanswered_at` says, and a later
        // refusal would count too early.
        if lease.taken_at.elapsed() + O::LIMITS.learn > O::LIMITS.lease {
            return Err(Unsettled::LostLease);
        }
        self.outside.reached(Step::Sending);
        let learnt = learn(&self.outside, &lease.reference, &call, lease.sending).await;
        self.outside.reached(Step::Called);
        let outcome = learnt.map_err(Unsettled::Unknown)?;
        let recorded = tokio::time::timeout(O::LIMITS.record, self.record(lease.clone(), call, outcome)).await;
        recorded.unwrap_or(Err(Unsettled::TooSlow))
    }

    /// Runs the second transaction, and runs it again after a deadlock or a lost connection. If the answer to COMMIT was lost
    /// and COMMIT did happen, the fence refuses the next run, and the record has the reply.
    async fn record(&self, lease: Lease, call: O::Call, outcome: O::Outcome) -> Result<Settled, Unsettled<O::Error>> {
        let work = Arc::new((self.outside.clone(), lease, call, outcome));
        let mut runs = 1;
        loop {
            let (account_id, work) = (work.1.address.account_id, Arc::clone(&work));
            let recorded = self.db.run(account_id, move |conn| {
                let (outside, lease, call, outcome) = &*work;
                conclude(conn, outside, lease, call, outcome)
            });
            match recorded.await {
                Err(error) if error.runs_again() && runs < RECORD_RUNS => runs += 1,
                end => return end,
            }
        }
    }

    /// The settlement is due again after a pause, or parked after enough attempts. If the lease is lost, nothing happens.
    async fn give_back(&self, lease: Lease, error: &Unsettled<O::Error>) -> Result<(), Unsettled<O::Error>> {
        let limits = O::LIMITS;
        let (unanswered, asked) = match error {
            Unsettled::Unknown(unknown) => (unknown.unanswered, unknown.error.retry_after()),
            // There was an outcome.
            _ => (false, None),
        };
        let pause = pause_after(lease.attempt, &limits).max(asked.unwrap_or_default().min(limits.max_backoff));
        let park = lease.attempt >= limits.max_attempts;
        let (location, request_id) = (lease.location.clone(), lease.request_id);
        let given_back = self.db.run(lease.address.account_id, move |conn| {
            lease::give_back(conn, &lease, pause, unanswered, park).map_err(Unsettled::<O::Error>::from)
        });
        if given_back.await? && park {
            self.note_parked(&location, request_id);
        }
        Ok(())
    }

    pub(super) fn note_parked(&self, location: &str, request_id: Uuid) {
        self.counts.parked.fetch_add(1, Ordering::Relaxed);
        let attempts = O::LIMITS.max_attempts;
        log::error!(
            "parked {location} request={request_id} after {attempts} attempts: a person must look, then resume"
        );
    }
}

/// The second transaction: the fence, the service's writes, and the final reply in the place of the 202.
fn conclude<O: Outside>(
    conn: &mut PgConnection,
    outside: &O,
    lease: &Lease,
    call: &O::Call,
    outcome: &O::Outcome,
) -> Result<Settled, Unsettled<O::Error>> {
    let concluded = conn.build_transaction().read_committed().run(|conn| {
        if !lease::holds(conn, lease)? {
            return Err(Unsettled::LostLease);
        }
        let reply = outside.conclude(conn, lease.address.account_id, call, outcome).map_err(Unsettled::Failed)?;
        lease::close(conn, lease)?;
        let ttl = outside.policy(call).ttl(reply.status);
        let expires_at = idempotency::settle(conn, &lease.address, &reply, ttl).map_err(Unsettled::Record)?;
        outside.reached(Step::Concluded);
        Ok(Settled { reply, expires_at })
    });
    match concluded {
        // If the settlement is settled, perhaps by this very lease, the record has the final reply.
        Err(Unsettled::LostLease) => match idempotency::find(conn, &lease.address)? {
            Some(record) if !record.reply.is_provisional() => {
                Ok(Settled { reply: record.reply, expires_at: record.expires_at })
            }
            _ => Err(Unsettled::LostLease),
        },
        end => end,
    }
}

/// 2 s, 4 s, 8 s .. 10 min, and at random up to a quarter more, so that settlements that failed together don't return
/// together.
fn pause_after(attempt: i32, limits: &Limits) -> Duration {
    let doublings = u32::try_from(attempt - 1).unwrap_or(0).min(16);
    let pause = (limits.first_backoff * 2_u32.pow(doublings)).min(limits.max_backoff);
    pause.mul_f64(1.0 + fastrand::f64() / 4.0)
}
