//! What happens around an attempt (`transaction.rs`, `decision.rs`): single flight, waiting without a connection, and another
//! attempt.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use diesel::pg::PgConnection;
use uuid::Uuid;

use super::attempt::{Asked, Attempt, Work};
use super::fault::fault;
use super::fingerprint::Received;
use super::flight::{Follower, Landing, Leader, Seat};
use super::policy::Policy;
use super::reply::{Answer, Origin, Reply};
use super::request::Keyed;
use super::store::Record;
use super::transaction::Transaction;
use super::{Database, Error, Failure, Nature};

/// Attempts at most. A deadlock or a lost connection rarely comes twice; five in a row mean that
/// something else is wrong, and the client should come back later.
const MAX_ATTEMPTS: u32 = 5;

/// Between two attempts: enough for the other side of a deadlock to end.
fn between_attempts() -> ExponentialBackoff {
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

impl Policy {
    /// Runs `body` at most once for the key of `request`, and answers.
    ///
    /// `body` runs inside the transaction that holds the key. It is `Fn`, since the transaction runs again after a
    /// deadlock, a serialization failure or a lost connection; what it does outside the database would be done again too.
    ///
    /// # Errors
    /// What `body` failed with, unless the policy stored it, and what [`Error`] names, as the caller's type.
    pub async fn run<D, T, E, F>(&self, db: &D, account_id: Uuid, request: Keyed<T>, body: F) -> Result<HttpResponse, E>
    where
        D: Database,
        T: Send + Sync + 'static,
        E: Failure,
        F: Fn(&mut PgConnection, &T) -> Result<Reply, E> + Send + Sync + 'static,
    {
        self.answer(db, account_id, request, body).await.map(Answer::into_response)
    }

    /// As [`Policy::run`], but answers with plain data: for endpoints that go on after a provisional reply.
    ///
    /// # Errors
    /// As [`Policy::run`].
    pub async fn answer<D, T, E, F>(&self, db: &D, account_id: Uuid, request: Keyed<T>, body: F) -> Result<Answer, E>
    where
        D: Database,
        T: Send + Sync + 'static,
        E: Failure,
        F: Fn(&mut PgConnection, &T) -> Result<Reply, E> + Send + Sync + 'static,
    {
        let (asked, request) = Asked::new(self, account_id, request);
        answer(db, Transaction { asked, request, body }).await
    }
}

/// Boards the key's flight and answers: from the database as its leader, from what the leader left as a follower.
pub(super) async fn answer<D: Database, E: Failure>(db: &D, work: impl Work<E>) -> Result<Answer, E> {
    let work = Arc::new(work);
    let Asked { policy, claim, received, .. } = work.asked();
    let deadline = Instant::now() + policy.wait;
    let mut looks = between_looks();
    loop {
        let landing = match db.flights().board(&claim.address) {
            Seat::Leader(leader) => {
                let (landing, answer) = lead(db, &work, &leader, deadline).await;
                leader.land(landing);
                return answer;
            }
            Seat::Follower(mut follower) => match tokio::time::timeout_at(deadline.into(), follower.landing()).await {
                Ok(landing) => landing,
                Err(_) => return Ok(unlanded(received, &follower)?),
            },
        };
        match landing {
            // The leader's own patience ended, or its request was dropped: another one leads.
            None | Some(Landing::InFlight) => {}
            Some(Landing::Stored(record)) => {
                let record = same_request(received, &record)?;
                if !record.reply.is_provisional() || Instant::now() >= deadline {
                    return Ok(answer_with(record.clone(), Origin::Replayed));
                }
                // Who made it provisional is still at it; followers would all look at once.
                tokio::time::sleep(looks.next().unwrap_or_default()).await;
            }
            Some(Landing::Failed { fingerprint, error }) => {
                // A failure with another fingerprint stored nothing: the key is free for this request.
                if fingerprint == claim.fingerprint
                    && let Some(error) = error.downcast_ref::<E>()
                {
                    return Err(error.clone());
                }
            }
        }
    }
}

/// The answer of a follower whose wait ends before the flight does.
fn unlanded(received: &Received, follower: &Follower) -> Result<Answer, Error> {
    let record = follower.seen().ok_or(Error::InFlight)?;
    same_request(received, &record).map(|record| answer_with(record.clone(), Origin::Replayed))
}

/// Goes to the database until there is an answer, and says what the followers get.
async fn lead<D: Database, E: Failure, W: Work<E>>(
    db: &D,
    work: &Arc<W>,
    leader: &Leader,
    deadline: Instant,
) -> (Landing, Result<Answer, E>) {
    let Asked { claim, received, .. } = work.asked();
    match attempts(db, work, leader, deadline).await {
        Ok(Some((record, origin))) => {
            db.flights().remember(claim.lock);
            let answer = match origin {
                Origin::Replayed => same_request(received, &record).map(|_| answer_with(record.clone(), origin)),
                Origin::Fresh | Origin::Recovered => Ok(answer_with(record.clone(), origin)),
            };
            (Landing::Stored(Arc::new(record)), answer.map_err(E::from))
        }
        Ok(None) => (Landing::InFlight, Err(Error::InFlight.into())),
        Err(error) => {
            let landing = Landing::Failed { fingerprint: claim.fingerprint, error: Arc::new(error.clone()) };
            (landing, Err(error))
        }
    }
}

/// Makes attempts until one ends with a record to answer with. None where another process holds the key past the deadline.
async fn attempts<D: Database, E: Failure, W: Work<E>>(
    db: &D,
    work: &Arc<W>,
    leader: &Leader,
    deadline: Instant,
) -> Result<Option<(Record, Origin)>, E> {
    let claim = &work.asked().claim;
    let mut pauses = between_attempts();
    let mut looks = between_looks();
    let mut failed = 0;
    loop {
        let attempt = {
            let work = Arc::clone(work);
            let was_answered = db.flights().was_answered(claim.lock);
            db.run(
                claim.address.account_id,
                move |conn| if was_answered { work.look_first(conn) } else { work.attempt(conn) },
            )
            .await
        };
        match attempt {
            Ok(Attempt::Ran(record)) => return Ok(Some((record, Origin::Fresh))),
            // A commit whose outcome was lost did happen: the record is this request's own.
            Ok(Attempt::Stands(record)) if record.id == claim.id => return Ok(Some((record, Origin::Recovered))),
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
            Err(error) if runs_again(&error) && failed + 1 < MAX_ATTEMPTS => {
                failed += 1;
                log::info!("attempt {failed} of {} failed, running it again: {error:?}", claim.route);
                tokio::time::sleep(pauses.next().unwrap_or_default()).await;
            }
            Err(error) => return Err(error),
        }
    }
}

fn runs_again<E: Failure>(error: &E) -> bool {
    matches!(error.nature(), Nature::Database(error) if fault(error).runs_again())
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
