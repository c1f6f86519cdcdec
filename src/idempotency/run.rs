//! The protocol: claim, replay, guard, body, record, in one transaction; and what happens around it: waiting, single
//! flight, and running the transaction again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use diesel::connection::Connection;
use diesel::pg::PgConnection;
use uuid::Uuid;

use super::ending::{Ending, NoWrite};
use super::fault::{Fault, fault};
use super::fingerprint::Received;
use super::flight::{Follower, Landing, Leader, Seat};
use super::policy::{Failures, Policy};
use super::reply::{Answer, MAX_BODY, Origin, Reply};
use super::request::Keyed;
use super::store::{self, Claim, Claimed, Record, ReplyTooLarge};
use super::{Database, Error, Failure, Nature};

/// How often a transaction runs at most. A deadlock or a lost connection rarely comes twice; five in a row mean that
/// something else is wrong, and the client should come back later.
const MAX_TRANSACTIONS: u32 = 5;

/// Between two runs of a transaction: enough for the other side of a deadlock to end.
fn between_transactions() -> ExponentialBackoff {
    backoff(Duration::from_millis(5), Duration::from_millis(500))
}

/// Between two looks at a key that another process holds: short at first, since most requests take milliseconds, then at
/// most two looks a second for each key and process, whatever the number of duplicates.
fn between_looks() -> ExponentialBackoff {
    backoff(Duration::from_millis(20), Duration::from_millis(500))
}

fn backoff(min: Duration, max: Duration) -> ExponentialBackoff {
    ExponentialBuilder::new().with_min_delay(min).with_max_delay(max).without_max_times().with_jitter().build()
}

/// All that a transaction needs, so that it can run again.
struct Job<T, F> {
    policy: Policy,
    claim: Claim,
    received: Received,
    instance: Uuid,
    request: T,
    body: F,
}

/// How a transaction ended that did not fail.
enum Attempt {
    /// The body ran, and its reply is committed.
    Ran(Record),
    /// A live record stands.
    Stands(Record),
    /// Another transaction holds the key.
    InFlight,
}

impl Policy {
    /// Runs `body` at most once for the key of `request`, and answers.
    ///
    /// `body` runs inside the transaction that holds the key. It is `Fn`, since the transaction runs again after a
    /// deadlock, a serialization failure or a lost connection; what it does outside the database would be done again too.
    ///
    /// # Errors
    /// What `body` failed with, unless the policy stored it, and what [`Error`] names, as the caller's type.
    pub async fn run<D, T, R, E, F>(
        &self,
        db: &D,
        account_id: Uuid,
        request: Keyed<T>,
        body: F,
    ) -> Result<HttpResponse, E>
    where
        D: Database,
        T: Send + Sync + 'static,
        R: Ending,
        E: Failure,
        F: Fn(&mut PgConnection, &T) -> Result<R, E> + Send + Sync + 'static,
    {
        self.answer(db, account_id, request, body).await.map(Answer::into_response)
    }

    /// As [`Policy::run`], but answers with plain data: for endpoints that go on after a provisional reply.
    ///
    /// # Errors
    /// As [`Policy::run`].
    pub async fn answer<D, T, R, E, F>(&self, db: &D, account_id: Uuid, request: Keyed<T>, body: F) -> Result<Answer, E>
    where
        D: Database,
        T: Send + Sync + 'static,
        R: Ending,
        E: Failure,
        F: Fn(&mut PgConnection, &T) -> Result<R, E> + Send + Sync + 'static,
    {
        let deadline = Instant::now() + self.wait;
        let job = Arc::new(self.job(account_id, request, body));
        let address = &job.claim.address;
        let mut looks = between_looks();
        loop {
            let landing = match db.flights().board(address) {
                Seat::Leader(leader) => {
                    let (landing, answer) = lead(db, &job, &leader, deadline).await;
                    leader.land(landing);
                    return answer;
                }
                Seat::Follower(mut follower) => {
                    match tokio::time::timeout_at(deadline.into(), follower.landing()).await {
                        Ok(landing) => landing,
                        Err(_) => return Ok(unlanded(&job.received, &follower)?),
                    }
                }
            };
            match landing {
                // The leader's own patience ended, or its request was dropped: another one leads.
                None | Some(Landing::InFlight) => {}
                Some(Landing::Stored(record)) => {
                    let record = same_request(&job.received, &record)?;
                    if !record.reply.is_provisional() || Instant::now() >= deadline {
                        return Ok(answer_with(record.clone(), Origin::Replayed));
                    }
                    // Who made it provisional is still at it; followers would all look at once.
                    tokio::time::sleep(looks.next().unwrap_or_default()).await;
                }
                Some(Landing::Failed { fingerprint, error }) => {
                    // A failure with another fingerprint stored nothing: the key is free for this request.
                    if fingerprint == job.claim.fingerprint
                        && let Some(error) = error.downcast_ref::<E>()
                    {
                        return Err(error.clone());
                    }
                }
            }
        }
    }

    fn job<T, F>(&self, account_id: Uuid, request: Keyed<T>, body: F) -> Job<T, F> {
        let address = request.address(account_id, self);
        let Keyed { received, body: request, instance, .. } = request;
        let claim = Claim {
            lock: address.lock(),
            address,
            id: Uuid::now_v7(),
            route: self.route,
            fingerprint: received.fingerprint(),
        };
        Job { policy: *self, claim, received, instance, request, body }
    }
}

/// The answer of a follower whose wait ends before the flight does.
fn unlanded(received: &Received, follower: &Follower) -> Result<Answer, Error> {
    let record = follower.seen().ok_or(Error::InFlight)?;
    same_request(received, &record).map(|record| answer_with(record.clone(), Origin::Replayed))
}

/// Goes to the database until there is an answer, and says what the followers get.
async fn lead<D, T, R, E, F>(
    db: &D,
    job: &Arc<Job<T, F>>,
    leader: &Leader,
    deadline: Instant,
) -> (Landing, Result<Answer, E>)
where
    D: Database,
    T: Send + Sync + 'static,
    R: Ending,
    E: Failure,
    F: Fn(&mut PgConnection, &T) -> Result<R, E> + Send + Sync + 'static,
{
    match attempts(db, job, leader, deadline).await {
        Ok(Some((record, origin))) => {
            db.flights().remember(job.claim.lock);
            let answer = match origin {
                Origin::Replayed => same_request(&job.received, &record).map(|_| answer_with(record.clone(), origin)),
                Origin::Fresh | Origin::Recovered => Ok(answer_with(record.clone(), origin)),
            };
            (Landing::Stored(Arc::new(record)), answer.map_err(E::from))
        }
        Ok(None) => (Landing::InFlight, Err(Error::InFlight.into())),
        Err(error) => {
            let landing = Landing::Failed { fingerprint: job.claim.fingerprint, error: Arc::new(error.clone()) };
            (landing, Err(error))
        }
    }
}

/// Runs transactions until one ends with a record to answer with. None where another process holds the key past the deadline.
async fn attempts<D, T, R, E, F>(
    db: &D,
    job: &Arc<Job<T, F>>,
    leader: &Leader,
    deadline: Instant,
) -> Result<Option<(Record, Origin)>, E>
where
    D: Database,
    T: Send + Sync + 'static,
    R: Ending,
    E: Failure,
    F: Fn(&mut PgConnection, &T) -> Result<R, E> + Send + Sync + 'static,
{
    let mut pauses = between_transactions();
    let mut looks = between_looks();
    let mut failed = 0;
    loop {
        let attempt = {
            let job = Arc::clone(job);
            let look_first = db.flights().was_answered(job.claim.lock);
            db.run(move |conn| if look_first { look(conn, &job) } else { transaction(conn, &job) }).await
        };
        match attempt {
            Ok(Attempt::Ran(record)) => return Ok(Some((record, Origin::Fresh))),
            // A commit whose outcome was lost did happen: the record is this request's own.
            Ok(Attempt::Stands(record)) if record.id == job.claim.id => return Ok(Some((record, Origin::Recovered))),
            Ok(Attempt::Stands(record)) if !record.reply.is_provisional() || Instant::now() >= deadline => {
                return Ok(Some((record, Origin::Replayed)));
            }
            Ok(Attempt::InFlight) if Instant::now() >= deadline => return Ok(None),
            Ok(waiting @ (Attempt::Stands(_) | Attempt::InFlight)) => {
                if let Attempt::Stands(provisional) = waiting {
                    leader.has_seen(&provisional);
                }
                let pause = looks.next().unwrap_or_default();
                tokio::time::sleep(pause.min(deadline.saturating_duration_since(Instant::now()))).await;
            }
            Err(error) if runs_again(&error) && failed + 1 < MAX_TRANSACTIONS => {
                failed += 1;
                log::info!("transaction {failed} of {} failed, running it again: {error:?}", job.claim.route);
                tokio::time::sleep(pauses.next().unwrap_or_default()).await;
            }
            Err(error) => return Err(error),
        }
    }
}

fn runs_again<E: Failure>(error: &E) -> bool {
    matches!(error.nature(), Nature::Database(error) if fault(error) == Fault::RunAgain)
}

/// For a key that probably has a record: one plain read instead of a transaction. Without a live record, the transaction.
fn look<T, R, E, F>(conn: &mut PgConnection, job: &Job<T, F>) -> Result<Attempt, E>
where
    R: Ending,
    E: Failure,
    F: Fn(&mut PgConnection, &T) -> Result<R, E>,
{
    match store::find(conn, &job.claim.address)? {
        Some(record) if !record.expired => Ok(Attempt::Stands(record)),
        _ => transaction(conn, job),
    }
}

/// One transaction, and after a failure a look at the record.
///
/// The claim's statement may look a moment before it has the lock, and a transaction of this key commit in between. If the
/// body then succeeds, the unique key refuses its record. If it fails, it may have failed by what that transaction did (an
/// order that is canceled already): then the record is the answer.
fn transaction<T, R, E, F>(conn: &mut PgConnection, job: &Job<T, F>) -> Result<Attempt, E>
where
    R: Ending,
    E: Failure,
    F: Fn(&mut PgConnection, &T) -> Result<R, E>,
{
    match claim_to_record(conn, job) {
        Err(error) if !matches!(error.nature(), Nature::Database(_)) => match store::find(conn, &job.claim.address)? {
            Some(record) if !record.expired => Ok(Attempt::Stands(record)),
            _ => Err(error),
        },
        result => result,
    }
}

/// One READ COMMITTED transaction from the claim to the record.
fn claim_to_record<T, R, E, F>(conn: &mut PgConnection, job: &Job<T, F>) -> Result<Attempt, E>
where
    R: Ending,
    E: Failure,
    F: Fn(&mut PgConnection, &T) -> Result<R, E>,
{
    conn.build_transaction().read_committed().run(|conn| {
        match hold_key(conn, &job.claim)? {
            Held::Stands(record) => return Ok(Attempt::Stands(record)),
            Held::InFlight => return Ok(Attempt::InFlight),
            Held::Ours => {}
        }
        let (reply, last_write) = run_body(conn, job)?;
        if reply.body.len() > MAX_BODY {
            return Err(Error::ReplyTooLarge(ReplyTooLarge(reply.body.len())).into());
        }
        let claim = &job.claim;
        let ttl = job.policy.ttl(reply.status);
        let expires_at = match last_write {
            Some(write) => store::record(conn, claim, &reply, ttl, &write)?,
            None => store::record(conn, claim, &reply, ttl, &NoWrite)?,
        };
        Ok(Attempt::Ran(Record {
            id: claim.id,
            fingerprint_version: super::FINGERPRINT_VERSION,
            fingerprint: claim.fingerprint.to_vec(),
            reply,
            expires_at,
            expired: false,
        }))
    })
}

/// Whose the key is, once that is clear.
enum Held {
    Ours,
    Stands(Record),
    InFlight,
}

/// Claims the key. An expired record is guarded first, so that nobody else changes it while the body runs.
fn hold_key(conn: &mut PgConnection, claim: &Claim) -> diesel::QueryResult<Held> {
    match store::claim(conn, claim)? {
        Claimed::Free => Ok(Held::Ours),
        Claimed::InFlight => Ok(Held::InFlight),
        // A live record is replayed without a lock: a lock would make each replay a write.
        Claimed::Stands(record) if !record.expired => Ok(Held::Stands(record)),
        Claimed::Stands(_) => match store::guard(conn, &claim.address)? {
            Some(record) if !record.expired => Ok(Held::Stands(record)),
            // Expired still, and ours to take over; or swept away, and so free.
            _ => Ok(Held::Ours),
        },
    }
}

/// Runs the body. Under cache-failures it runs inside a savepoint, so that a final failure leaves no writes while its
/// reply is stored.
fn run_body<T, R, E, F>(conn: &mut PgConnection, job: &Job<T, F>) -> Result<(Reply, Option<R::Write>), E>
where
    R: Ending,
    E: Failure,
    F: Fn(&mut PgConnection, &T) -> Result<R, E>,
{
    let ending = match job.policy.failures {
        Failures::SuccessOnly => (job.body)(conn, &job.request)?,
        Failures::CacheFailures { .. } => match conn.transaction(|conn| (job.body)(conn, &job.request)) {
            Err(error) if matches!(error.nature(), Nature::Final) => return Ok((error.reply(job.instance), None)),
            result => result?,
        },
    };
    let (reply, write) = ending.into_parts();
    Ok((reply, Some(write)))
}

/// The record, if it was made by this request or one like it.
fn same_request<'a>(received: &Received, record: &'a Record) -> Result<&'a Record, Error> {
    match received.matches(record.fingerprint_version, &record.fingerprint) {
        Some(true) => Ok(record),
        Some(false) => Err(Error::KeyReused),
        None => Err(Error::UnknownFingerprint(record.fingerprint_version)),
    }
}

fn answer_with(record: Record, origin: Origin) -> Answer {
    Answer { reply: record.reply, origin, expires_at: record.expires_at }
}
