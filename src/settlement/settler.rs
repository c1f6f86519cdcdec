//! Settling: in the foreground of the request that made the call necessary, and in the background of every replica.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::HttpResponse;
use chrono::{DateTime, Utc};
use diesel::pg::PgConnection;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::learn::{Sending, StillUnknown, learn};
use super::lease::{self, Lease, Taken};
use super::{Begun, Limits, Outside, Step};
use crate::idempotency::{
    self, Address, Answer, Database, Failure, Keyed, Nature, Origin, Policy, Reply, SettleError, fault,
};

/// Between two looks for what is due. An index answers the look, so it may be often; it bounds how late a retry is.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// From this attempt on a settlement counts as one that keeps failing: it may use half of the calls at once, so that the
/// other half is there for first retries, however much hangs.
const KEEPS_FAILING: i32 = 3;

/// How often recording is run after a deadlock or a lost connection; the lease ends soon after.
const RECORD_RUNS: u32 = 3;

/// The longest that a client is asked to wait before it asks for an outcome again: a person may resume what is parked at
/// any time.
const LONGEST_RETRY_AFTER: i64 = 60;

/// The account of work that is no account's own: looking for what is due.
const NOBODY: Uuid = Uuid::nil();

/// What settling has done since the process started.
#[derive(Debug, Default)]
pub struct Counts {
    /// Outcomes recorded.
    pub settled: AtomicU64,
    /// Attempts that ended without one.
    pub unknown: AtomicU64,
    /// Settlements parked.
    pub parked: AtomicU64,
}

/// What one pass did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pass {
    /// Leases taken.
    pub taken: usize,
    /// Outcomes recorded.
    pub settled: usize,
}

/// Settles. Clones share everything.
#[derive(Clone)]
pub struct Settler<O, D> {
    outside: O,
    db: D,
    runtime: Handle,
    tasks: TaskTracker,
    counts: Arc<Counts>,
    calls: Arc<Semaphore>,
    /// Of those calls, what settlements that keep failing may use.
    failing: Arc<Semaphore>,
}

/// The final reply, as it was recorded.
struct Settled {
    reply: Reply,
    expires_at: Option<DateTime<Utc>>,
}

/// Why a lease did not end in an outcome.
#[derive(Debug)]
enum Unsettled<E> {
    /// Somebody else has the settlement, or has ended it.
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
            Self::LostLease => "the lease is lost".to_owned(),
            Self::Unknown(unknown) => unknown.to_string(),
            Self::TooSlow => "the outcome was not recorded in time".to_owned(),
            Self::Record(error) => format!("the outcome can't be recorded: {error}"),
            Self::Failed(error) => format!("the outcome can't be recorded: {error:?}"),
        }
    }
}

impl<O: Outside, D: Database> Settler<O, D> {
    /// Works on the current runtime, which must outlive the server's workers: their tasks end with them.
    #[must_use]
    pub fn new(outside: O, db: D) -> Self {
        const { assert!(O::LIMITS.is_sound(), "a lease must outlast all that its holder may spend") };
        let calls = O::LIMITS.calls_at_once;
        Self {
            outside,
            db,
            runtime: Handle::current(),
            tasks: TaskTracker::new(),
            counts: Arc::default(),
            calls: Arc::new(Semaphore::new(calls)),
            failing: Arc::new(Semaphore::new(calls / 2)),
        }
    }

    /// What the service supplied.
    #[must_use]
    pub fn outside(&self) -> &O {
        &self.outside
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Waits until all that was begun has ended: at most a lease's time.
    pub async fn drain(&self) {
        self.tasks.close();
        let _ = tokio::time::timeout(O::LIMITS.lease, self.tasks.wait()).await;
    }

    /// Runs a request that makes a call necessary: the first transaction, the call, the second transaction. Answers with
    /// the final reply, or with 202 when [`Limits::handler`] ends. The work goes on when the client leaves: else a request
    /// that was dropped between its COMMIT and its call would leave the settlement alone until the lease ends.
    ///
    /// # Errors
    /// As [`Policy::run`], and [`idempotency::Error::KeyExpired`] for a key that made a settlement whose record is gone.
    pub async fn run<T, F>(
        &self,
        policy: Policy,
        account_id: Uuid,
        request: Keyed<T>,
        body: F,
    ) -> Result<HttpResponse, O::Error>
    where
        T: Send + Sync + 'static,
        F: Fn(&mut PgConnection, &T) -> Result<Begun<O::Call>, O::Error> + Send + Sync + 'static,
    {
        let this = self.clone();
        let whole = self.spawn(async move { this.begin_and_settle(policy, account_id, request, body).await });
        let answer = whole.await.unwrap_or_else(|_| Err(idempotency::Error::Panicked.into()))?;
        Ok(answer.into_response())
    }

    async fn begin_and_settle<T, F>(
        &self,
        policy: Policy,
        account_id: Uuid,
        request: Keyed<T>,
        body: F,
    ) -> Result<Answer, O::Error>
    where
        T: Send + Sync + 'static,
        F: Fn(&mut PgConnection, &T) -> Result<Begun<O::Call>, O::Error> + Send + Sync + 'static,
    {
        let address = request.address(account_id, &policy)?;
        let begun: Arc<Mutex<Option<Lease>>> = Arc::default();
        let first_transaction = {
            let (address, request_id, begun) = (address.clone(), request.instance, Arc::clone(&begun));
            move |conn: &mut PgConnection, new: &T| {
                let begun_by_body = body(conn, new);
                let (lease, reply) = begin::<O>(conn, &address, request_id, begun_by_body)?;
                *begun.lock().unwrap_or_else(PoisonError::into_inner) = Some(lease);
                Ok::<_, O::Error>(reply)
            }
        };
        let answer = policy.answer(&self.db, account_id, request, first_transaction).await?;
        if !answer.reply.is_provisional() {
            return Ok(answer);
        }
        if answer.origin == Origin::Replayed {
            return Ok(self.as_it_is_now(answer, address).await);
        }
        self.outside.reached(Step::Begun);
        let own = begun.lock().unwrap_or_else(PoisonError::into_inner).take();
        let this = self.clone();
        let work = {
            let (address, origin) = (address.clone(), answer.origin);
            self.spawn(async move {
                let lease = match (origin, own) {
                    (Origin::Fresh, Some(lease)) => lease,
                    // A lost COMMIT: which of the body's runs was committed, the row knows.
                    _ => this.first_lease(address).await?,
                };
                this.settle(lease).await
            })
        };
        match tokio::time::timeout(O::LIMITS.handler, work).await {
            Ok(Ok(Ok(settled))) => Ok(Answer { reply: settled.reply, expires_at: settled.expires_at, ..answer }),
            // Unknown so far. The settler goes on, and a retry learns more.
            _ => Ok(self.as_it_is_now(answer, address).await),
        }
    }

    /// A 202 with the resource as it is now, and with a Retry-After that grows as the settlement waits. Should the outcome
    /// be there by now, it is the answer.
    async fn as_it_is_now(&self, answer: Answer, address: Address) -> Answer {
        let outside = self.outside.clone();
        let look = self.db.run(address.account_id, move |conn| now::<O>(conn, &outside, &address));
        match look.await {
            Ok(Some(Now::Final { reply, expires_at })) => Answer { reply, expires_at, ..answer },
            Ok(Some(Now::Pending { body, retry_after })) => {
                Answer { reply: Reply { body, ..answer.reply }, retry_after, ..answer }
            }
            // The stored 202 is true, too, if older.
            Ok(None) | Err(_) => answer,
        }
    }

    async fn first_lease(&self, address: Address) -> Result<Lease, Unsettled<O::Error>> {
        let found = self
            .db
            .run(address.account_id, move |conn| lease::first_lease(conn, &address)?.ok_or(Unsettled::LostLease));
        found.await
    }

    fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.tasks.spawn_on(work, &self.runtime)
    }

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
                log::warn!("can't look for what is to be settled: {error:?}");
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

    /// Begins a task for each settlement that is due, as far as calls are free. `waits`: the task waits for a free call.
    async fn begin_pass(&self, resume: bool, waits: bool) -> Result<Vec<Attempt<O::Error>>, O::Error> {
        let due = self.db.run(NOBODY, move |conn| lease::due(conn, resume).map_err(O::Error::from)).await?;
        let mut begun = Vec::with_capacity(due.len());
        for due in due {
            let gate = if due.attempts >= KEEPS_FAILING { Some(Arc::clone(&self.failing)) } else { None };
            let permits = if waits {
                let failing = match gate {
                    Some(gate) => gate.acquire_owned().await.ok(),
                    None => None,
                };
                (Arc::clone(&self.calls).acquire_owned().await.ok(), failing)
            } else {
                let failing = match gate.map(Semaphore::try_acquire_owned) {
                    Some(Err(_)) => continue,
                    Some(Ok(permit)) => Some(permit),
                    None => None,
                };
                let Ok(call) = Arc::clone(&self.calls).try_acquire_owned() else { break };
                (Some(call), failing)
            };
            let this = self.clone();
            begun.push(self.spawn(async move {
                let end = this.take_and_settle(due.account_id, due.reference, resume).await;
                drop(permits);
                end
            }));
        }
        Ok(begun)
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

    async fn settle(&self, lease: Lease) -> Result<Settled, Unsettled<O::Error>> {
        let Lease { location, request_id, attempt, .. } = lease.clone();
        let end = self.learn_and_record(lease).await;
        match &end {
            Ok(settled) => {
                self.counts.settled.fetch_add(1, Ordering::Relaxed);
                log::info!("settled {location} status={} attempt={attempt} request={request_id}", settled.reply.status);
            }
            Err(error) => {
                self.counts.unknown.fetch_add(1, Ordering::Relaxed);
                let reason = error.reason();
                log::warn!("not settled {location} attempt={attempt} request={request_id}: {reason}");
            }
        }
        end
    }

    async fn learn_and_record(&self, lease: Lease) -> Result<Settled, Unsettled<O::Error>> {
        let recorded = match serde_json::from_value::<O::Call>(lease.call.clone()) {
            Ok(call) => {
                self.outside.reached(Step::Sending);
                let learnt = learn(&self.outside, &lease.reference, &call, lease.sending).await;
                self.outside.reached(Step::Called);
                match learnt {
                    Ok(outcome) => {
                        let record = self.record(lease.clone(), call, outcome);
                        let recorded = tokio::time::timeout(O::LIMITS.record, record).await;
                        recorded.unwrap_or(Err(Unsettled::TooSlow))
                    }
                    Err(unknown) => Err(Unsettled::Unknown(unknown)),
                }
            }
            // A release that can't read the calls of the one before: a defect, and a person must look.
            Err(error) => Err(Unsettled::Failed(diesel::result::Error::DeserializationError(error.into()).into())),
        };
        match recorded {
            Ok(settled) => {
                self.outside.reached(Step::Recorded);
                Ok(settled)
            }
            Err(error) => {
                // An outcome that can't be recorded counts as an attempt, too: it ends up parked, in sight of a person, and
                // not sent again every lease for ever.
                self.give_back(lease, &error).await?;
                Err(error)
            }
        }
    }

    /// The second transaction. It runs again where that helps; if a lost COMMIT happened, the fence says so, and the record
    /// has the reply.
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

    fn note_parked(&self, location: &str, request_id: Uuid) {
        self.counts.parked.fetch_add(1, Ordering::Relaxed);
        let attempts = O::LIMITS.max_attempts;
        log::error!(
            "parked {location} request={request_id} after {attempts} attempts: a person must look, then resume"
        );
    }
}

type Attempt<E> = JoinHandle<Result<bool, Unsettled<E>>>;

/// The end of the first transaction: the settlement beside the business rows, and the 202.
///
/// A late retry is looked for only where the body failed or the settlement is there already: a request that begins has no
/// round trip to spare. So a late retry hears that its key is expired, and not what its body found.
fn begin<O: Outside>(
    conn: &mut PgConnection,
    address: &Address,
    request_id: Uuid,
    body: Result<Begun<O::Call>, O::Error>,
) -> Result<(Lease, Reply), O::Error> {
    let Begun { call, location, body } = match body {
        Ok(begun) => begun,
        Err(error) if matches!(error.nature(), Nature::Database(_)) => return Err(error),
        Err(error) => return Err(late(conn, address)?.unwrap_or(error)),
    };
    let call = serde_json::to_value(call).map_err(|e| diesel::result::Error::SerializationError(e.into()))?;
    if !lease::begin(conn, address, request_id, &call, &location, O::LIMITS.lease)? {
        return Err(late(conn, address)?.unwrap_or_else(|| idempotency::Error::InFlight.into()));
    }
    let reply = Reply {
        status: 202,
        content_type: Some("application/json".to_owned()),
        location: Some(location.clone()),
        body,
    };
    let lease = Lease {
        address: address.clone(),
        reference: address.reference(),
        request_id,
        location,
        call,
        attempt: 1,
        sending: Sending::default(),
        earlier_unanswered_at: None,
    };
    Ok((lease, reply))
}

fn late<E: Failure>(conn: &mut PgConnection, address: &Address) -> Result<Option<E>, E> {
    let location = lease::location(conn, address)?;
    Ok(location.map(|location| idempotency::Error::KeyExpired { location }.into()))
}

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

enum Now {
    Final { reply: Reply, expires_at: Option<DateTime<Utc>> },
    Pending { body: actix_web::web::Bytes, retry_after: u64 },
}

fn now<O: Outside>(conn: &mut PgConnection, outside: &O, address: &Address) -> Result<Option<Now>, O::Error> {
    let Some((call, progress)) = lease::open(conn, address)? else {
        let record = idempotency::find(conn, address)?.filter(|record| !record.reply.is_provisional());
        return Ok(record.map(|record| Now::Final { reply: record.reply, expires_at: record.expires_at }));
    };
    let call = serde_json::from_value(call).map_err(|e| diesel::result::Error::DeserializationError(e.into()))?;
    let body = outside.pending(conn, address.account_id, &call)?;
    let seconds = if progress.parked {
        LONGEST_RETRY_AFTER
    } else if progress.attempts == 1 {
        // The request's own work: most of it ends within moments.
        1
    } else {
        (progress.next_attempt_at - Utc::now()).num_seconds() + 1
    };
    Ok(Some(Now::Pending { body, retry_after: seconds.clamp(1, LONGEST_RETRY_AFTER).unsigned_abs() }))
}

/// 2 s, 4 s, 8 s .. 10 min, with up to a quarter more, so that what failed together does not return together.
fn pause_after(attempt: i32, limits: &Limits) -> Duration {
    let doublings = u32::try_from(attempt - 1).unwrap_or(0).min(16);
    let pause = (limits.first_backoff * 2_u32.pow(doublings)).min(limits.max_backoff);
    pause.mul_f64(1.0 + fastrand::f64() / 4.0)
}
