// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Policy::run`]: the transaction runs until there is an answer, again after a deadlock or a lost connection, and again after a
//! pause while another process has the key. Single flight wraps it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use diesel::pg::PgConnection;
use tokio::time::{sleep, timeout_at};
use uuid::Uuid;

use crate::connection::{Fault, fault};
use crate::error::Error;
use crate::fingerprint::Received;
use crate::observer::Step;
use crate::policy::Policy;
use crate::reply::{Answer, Origin, Reply};
use crate::request::Keyed;
use crate::single_flight::{Leader, Part};
use crate::store::Record;
use crate::traits::{Database, Failure};
use crate::transaction::{Ended, Transaction};

/// How long a request may take in all, whatever the database does. Clients and proxies commonly give up after 15 s or
/// more. The longest legitimate request waits 5 s for a duplicate and spends 5 s in its last statement.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(11);

/// The longest wait of a policy that counts, so that a duplicate's last look ends within [`ANSWER_WITHIN`].
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The most runs of one transaction. A deadlock or a lost connection rarely happens twice. Five in a row mean that
/// something else is wrong, and the client should come back later.
const MAX_RUNS: u32 = 5;

/// The pause between two runs, in which the other transaction of a deadlock can end.
fn between_runs() -> ExponentialBackoff {
    backoff(Duration::from_millis(5), Duration::from_millis(500))
}

/// The pause between two looks at a key that another process has. The pause is short at first, since most requests take
/// milliseconds. Later each process looks at each key twice a second, whatever the number of duplicates.
fn between_looks() -> ExponentialBackoff {
    backoff(Duration::from_millis(20), Duration::from_millis(500))
}

/// The pause between two looks at a provisional record. Its outcome comes from an external system, which took seconds and
/// did not answer the first request. While that system is slow, every client that waits for it sends again, and each
/// retry waits here: with the short pauses above, a slow gateway took the database from 28 to 503 transactions a
/// second. These pauses halve the looks, and a retry gets the outcome at most a second later.
fn between_looks_at_provisional() -> ExponentialBackoff {
    backoff(Duration::from_millis(250), Duration::from_secs(1))
}

fn backoff(min: Duration, max: Duration) -> ExponentialBackoff {
    ExponentialBuilder::new().with_min_delay(min).with_max_delay(max).without_max_times().with_jitter().build()
}

impl Policy {
    /// Runs `body` at most once for the key of `request`, and answers.
    ///
    /// `body` runs inside the transaction that has the key. It is `Fn`, since the transaction runs again after a deadlock, a
    /// serialization failure or a lost connection. An effect of `body` outside the database would happen again.
    ///
    /// A reply with status 202 is provisional: it stays until [`finalize`](crate::finalize) replaces it. Don't use 202 for
    /// "accepted".
    ///
    /// # Errors
    /// The error of `body`, unless the policy stored it; and each [`Error`], as the caller's type.
    pub async fn run<D, T, E, F>(&self, db: &D, account_id: Uuid, request: Keyed<T>, body: F) -> Result<Answer, E>
    where
        D: Database,
        T: Send + Sync + 'static,
        E: Failure,
        F: Fn(&mut PgConnection, &T) -> Result<Reply, E> + Send + Sync + 'static,
    {
        let (claim, received, typed) = request.claim(account_id, self)?;
        let body = Box::new(move |conn: &mut PgConnection| body(conn, &typed));
        let transaction = Arc::new(Transaction { policy: *self, claim, received, observer: db.observer(), body });
        let began = Instant::now();
        let answer = answer_once(db, &transaction, began + self.wait.min(LONGEST_WAIT));
        // When a request gives up, its work still ends or rolls back. A retry shows which.
        let answer = timeout_at((began + ANSWER_WITHIN).into(), answer).await;
        answer.unwrap_or_else(|_| Err(Error::Unreachable("no answer in time".to_owned()).into()))
    }
}

/// Answers as the leader, or with what the leader found. Without single flight, only the leader's part would remain.
async fn answer_once<D: Database, E: Failure>(
    db: &D,
    transaction: &Arc<Transaction<E>>,
    deadline: Instant,
) -> Result<Answer, E> {
    let (claim, received) = (&transaction.claim, &transaction.received);
    let mut looks = between_looks();
    loop {
        let mut follower = match db.single_flight().join(&claim.address, claim.fingerprint) {
            Part::Follower(follower) => follower,
            Part::Leader(leader) => {
                return match until_recorded(db, transaction, &leader, deadline).await {
                    Ok(Some((record, origin))) => {
                        let answer = answer_with(&record, received, origin);
                        leader.share(Ok(record));
                        Ok(answer?)
                    }
                    Ok(None) => Err(Error::InFlight.into()),
                    Err(error) => {
                        leader.share(Err(Arc::new(error.clone())));
                        Err(error)
                    }
                };
            }
        };
        transaction.observe(Step::Waits);
        let in_time = timeout_at(deadline.into(), follower.until_leader_ends()).await.is_ok();
        match follower.found() {
            Some(Ok(record)) => {
                let answer = answer_with(&record, received, Origin::Replayed)?;
                if !in_time || !answer.reply.is_provisional() || Instant::now() >= deadline {
                    return Ok(answer);
                }
                // Each follower pauses first, so that not all of them look at once.
                sleep(looks.next().unwrap_or_default()).await;
            }
            // Another request's failure says nothing about this one, which joins again.
            Some(Err(failure)) if in_time => {
                if let Some(error) = failure.downcast_ref::<E>().filter(|_| !follower.is_other) {
                    return Err(error.clone());
                }
            }
            // The leader's wait ended, or its client left: the next request to join leads.
            None if in_time => {}
            // The follower's wait ends before the leader's.
            _ => return Err(Error::InFlight.into()),
        }
    }
}

/// Runs the transaction until there is a record to answer with. None if another process had the key past the deadline.
///
/// # Errors
/// The body's error, and those of the pool.
async fn until_recorded<D: Database, E: Failure>(
    db: &D,
    transaction: &Arc<Transaction<E>>,
    leader: &Leader,
    deadline: Instant,
) -> Result<Option<(Arc<Record>, Origin)>, E> {
    let (claim, flights) = (&transaction.claim, db.single_flight());
    let mut pauses = between_runs();
    let mut looks = between_looks();
    let mut looks_at_provisional = between_looks_at_provisional();
    let mut failed = 0;
    loop {
        let (this, was_answered) = (Arc::clone(transaction), flights.was_answered(claim.lock));
        let end =
            db.run(
                claim.address.account_id,
                move |conn| {
                    if was_answered { this.look_then_run(conn) } else { this.run(conn) }
                },
            );
        let end = end.await;
        let left = deadline.saturating_duration_since(Instant::now());
        let (record, origin) = match end {
            Ok(Ended::Ran(record)) => (record, Origin::Fresh),
            // The answer to COMMIT was lost, and COMMIT did happen: the record is this request's own.
            Ok(Ended::Replay(record)) if record.id == claim.id => (record, Origin::Recovered),
            Ok(Ended::Replay(record)) => (record, Origin::Replayed),
            Ok(Ended::InFlight) if left.is_zero() => return Ok(None),
            Ok(Ended::InFlight) => {
                sleep(looks.next().unwrap_or_default().min(left)).await;
                continue;
            }
            Err(error) if runs_again(&error) && failed + 1 < MAX_RUNS => {
                failed += 1;
                tell(&error, claim.route, failed);
                sleep(pauses.next().unwrap_or_default()).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        let record = Arc::new(record);
        // A record that another request made is the answer at once: the key never becomes free.
        let waits = origin == Origin::Replayed
            && record.reply.is_provisional()
            && !left.is_zero()
            && answer_with(&record, &transaction.received, origin).is_ok();
        if !waits {
            flights.remember(claim.lock);
            return Ok(Some((record, origin)));
        }
        // A follower whose wait ends first answers with it.
        leader.share(Ok(record));
        sleep(looks_at_provisional.next().unwrap_or_default().min(left)).await;
    }
}

/// A lost connection or a read-only server fails every request: the pool logs it once, so these lines are only at debug
/// level.
fn tell<E: Failure>(error: &E, route: &str, failed: u32) {
    let Some(cause) = error.database_error() else { return };
    let level = if fault(cause) == Fault::Reconnect { log::Level::Debug } else { log::Level::Info };
    log::log!(level, "run {failed} of {route} failed, running again: {cause}");
}

fn runs_again<E: Failure>(error: &E) -> bool {
    error.database_error().is_some_and(|error| fault(error).runs_again())
}

/// The record's reply, if a request like this one made the record.
///
/// # Errors
/// [`Error::KeyReused`], [`Error::UnknownFingerprint`].
fn answer_with(record: &Record, received: &Received, origin: Origin) -> Result<Answer, Error> {
    // A record that this request made is not compared: that would hash the request again.
    let is_same = match origin {
        Origin::Replayed => received.matches(record.fingerprint_version, &record.fingerprint),
        Origin::Fresh | Origin::Recovered => Some(true),
    };
    match is_same {
        Some(true) => Ok(Answer::new(record.reply.clone(), origin, record.expires_at)),
        Some(false) => Err(Error::KeyReused),
        None => Err(Error::UnknownFingerprint(record.fingerprint_version)),
    }
}
