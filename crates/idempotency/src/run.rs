//! What happens around a transaction (`transaction.rs`): single flight, waiting without a connection, running again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use diesel::pg::PgConnection;
use uuid::Uuid;

use super::connection::fault;
use super::fingerprint::Received;
use super::policy::Policy;
use super::reply::{Answer, Origin, Reply};
use super::request::Keyed;
use super::single_flight::{Landing, Leader, Seat};
use super::store::Record;
use super::transaction::{Outcome, Transaction};
use super::{Database, Error, Failure, Nature};

/// Runs of one transaction at most. A deadlock or a lost connection rarely comes twice. Five in a row mean that something
/// else is wrong, and that the client should come back later.
const MAX_RUNS: u32 = 5;

/// The pause between two runs. In it, the other transaction of a deadlock can end.
fn between_runs() -> ExponentialBackoff {
    backoff(Duration::from_millis(5), Duration::from_millis(500))
}

/// The pause between two looks at a key that another process holds. The pause is short at first, since most requests take
/// milliseconds. Later each process looks at each key twice a second, whatever the number of duplicates.
fn between_looks() -> ExponentialBackoff {
    backoff(Duration::from_millis(20), Duration::from_millis(500))
}

fn backoff(min: Duration, max: Duration) -> ExponentialBackoff {
    ExponentialBuilder::new().with_min_delay(min).with_max_delay(max).without_max_times().with_jitter().build()
}

impl Policy {
    /// Runs `body` at most once for the key of `request`, and answers.
    ///
    /// `body` runs inside the transaction that holds the key. `body` is `Fn`, since the transaction runs again after a
    /// deadlock, a serialization failure or a lost connection. An effect of `body` outside the database would happen again.
    ///
    /// A reply with status 202 is provisional: it stays until [`finalize`](super::finalize) replaces it. Don't use 202 for
    /// "accepted".
    ///
    /// # Errors
    /// The error of `body`, unless the policy stored it; and each [`Error`], as the caller's type.
    pub async fn run<D, T, E, F>(&self, db: &D, account_id: Uuid, request: Keyed<T>, body: F) -> Result<HttpResponse, E>
    where
        D: Database,
        T: Send + Sync + 'static,
        E: Failure,
        F: Fn(&mut PgConnection, &T) -> Result<Reply, E> + Send + Sync + 'static,
    {
        self.answer(db, account_id, request, body).await.map(Answer::into_response)
    }

    /// As [`Policy::run`], but the answer is plain data: for endpoints that go on after a provisional reply.
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
        let transaction = Arc::new(Transaction::new(self, account_id, request, body)?);
        let (claim, received) = (&transaction.claim, &transaction.received);
        let deadline = Instant::now() + self.wait;
        let mut looks = between_looks();
        loop {
            let is_other;
            let landing = match db.flights().board(&claim.address, claim.fingerprint) {
                Seat::Leader(leader) => {
                    let (landing, answer) = lead(db, &transaction, &leader, deadline).await;
                    leader.land(landing);
                    return answer;
                }
                Seat::Follower(mut follower) => {
                    is_other = follower.is_other;
                    let Ok(landing) = tokio::time::timeout_at(deadline.into(), follower.landing()).await else {
                        // The follower's wait ends before the flight. A provisional record is an answer.
                        let provisional = follower.seen().ok_or(Error::InFlight)?;
                        return Ok(replay(received, &provisional)?);
                    };
                    landing
                }
            };
            match landing {
                // The leader's wait ended, or its request was dropped: the next to board leads.
                None | Some(Landing::InFlight) => {}
                Some(Landing::HeldByOther) => return Err(Error::KeyReused.into()),
                Some(Landing::Record(record)) => {
                    let answer = replay(received, &record)?;
                    if !answer.reply.is_provisional() || Instant::now() >= deadline {
                        return Ok(answer);
                    }
                    // On purpose: each follower pauses first, so that not all of them look at once.
                    tokio::time::sleep(looks.next().unwrap_or_default()).await;
                }
                // Another request's failure says nothing about this one, which boards again.
                Some(Landing::Failed(_)) if is_other => {}
                Some(Landing::Failed(error)) => {
                    if let Some(error) = error.downcast_ref::<E>() {
                        return Err(error.clone());
                    }
                }
            }
        }
    }
}

/// Goes to the database until there is an answer. Returns what the followers get, and the leader's own answer.
async fn lead<D, T, E, F>(
    db: &D,
    transaction: &Arc<Transaction<T, F>>,
    leader: &Leader,
    deadline: Instant,
) -> (Landing, Result<Answer, E>)
where
    D: Database,
    T: Send + Sync + 'static,
    E: Failure,
    F: Fn(&mut PgConnection, &T) -> Result<Reply, E> + Send + Sync + 'static,
{
    match until_recorded(db, transaction, leader, deadline).await {
        Ok(Some((record, origin))) => {
            db.flights().remember(transaction.claim.lock);
            let end = match origin {
                Origin::Replayed => replay(&transaction.received, &record).map_err(E::from),
                Origin::Fresh | Origin::Recovered => Ok(answer(&record, origin)),
            };
            (Landing::Record(Arc::new(record)), end)
        }
        Ok(None) => (Landing::InFlight, Err(Error::InFlight.into())),
        Err(error) => (Landing::Failed(Arc::new(error.clone())), Err(error)),
    }
}

/// Runs the transaction until there is a record to answer with. None: another process held the key past the deadline.
async fn until_recorded<D, T, E, F>(
    db: &D,
    transaction: &Arc<Transaction<T, F>>,
    leader: &Leader,
    deadline: Instant,
) -> Result<Option<(Record, Origin)>, E>
where
    D: Database,
    T: Send + Sync + 'static,
    E: Failure,
    F: Fn(&mut PgConnection, &T) -> Result<Reply, E> + Send + Sync + 'static,
{
    let claim = &transaction.claim;
    let mut pauses = between_runs();
    let mut looks = between_looks();
    let mut failed = 0;
    loop {
        let outcome = {
            let transaction = Arc::clone(transaction);
            let was_answered = db.flights().was_answered(claim.lock);
            let claimed = leader.on_claim();
            db.run(claim.address.account_id, move |conn| {
                if was_answered { transaction.look_then_run(conn, claimed) } else { transaction.run(conn, claimed) }
            })
            .await
        };
        match outcome {
            Ok(Outcome::Ran(record)) => return Ok(Some((record, Origin::Fresh))),
            // The answer to COMMIT was lost, and COMMIT did happen: the record is this request's own.
            Ok(Outcome::Replay(record)) if record.id == claim.id => return Ok(Some((record, Origin::Recovered))),
            // The record is the answer if it is final, if another request made it (the key never becomes free), or if the
            // wait is over.
            Ok(Outcome::Replay(record))
                if !record.reply.is_provisional()
                    || replay(&transaction.received, &record).is_err()
                    || Instant::now() >= deadline =>
            {
                return Ok(Some((record, Origin::Replayed)));
            }
            Ok(Outcome::InFlight) if Instant::now() >= deadline => return Ok(None),
            Ok(waiting @ (Outcome::Replay(_) | Outcome::InFlight)) => {
                if let Outcome::Replay(provisional) = waiting {
                    leader.has_seen(provisional);
                }
                let pause = looks.next().unwrap_or_default();
                tokio::time::sleep(pause.min(deadline.saturating_duration_since(Instant::now()))).await;
            }
            Err(error) if runs_again(&error) && failed + 1 < MAX_RUNS => {
                leader.has_let_go();
                failed += 1;
                log::info!("run {failed} of {} failed, running again: {error:?}", claim.route);
                tokio::time::sleep(pauses.next().unwrap_or_default()).await;
            }
            Err(error) => return Err(error),
        }
    }
}

fn runs_again<E: Failure>(error: &E) -> bool {
    matches!(error.nature(), Nature::Database(error) if fault(error).runs_again())
}

/// The record's reply, if a request like this one made the record.
fn replay(received: &Received, record: &Record) -> Result<Answer, Error> {
    match received.matches(record.fingerprint_version, &record.fingerprint) {
        Some(true) => Ok(answer(record, Origin::Replayed)),
        Some(false) => Err(Error::KeyReused),
        None => Err(Error::UnknownFingerprint(record.fingerprint_version)),
    }
}

fn answer(record: &Record, origin: Origin) -> Answer {
    Answer::new(record.reply.clone(), origin, record.expires_at)
}
