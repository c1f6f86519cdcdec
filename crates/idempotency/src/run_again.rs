// SPDX-License-Identifier: MIT OR Apache-2.0
//! Running a transaction until there is an answer: again after a deadlock or a lost connection, and again after a pause while
//! another process has the key.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::sync::watch;

use crate::connection::{Fault, fault};
use crate::error::Error;
use crate::fingerprint::Received;
use crate::reply::{Answer, Origin};
use crate::single_flight::Progress;
use crate::store::Record;
use crate::traits::{Database, Failure};
use crate::transaction::{Outcome, Transaction};

/// Runs of one transaction at most. A deadlock or a lost connection rarely comes twice. Five in a row mean that something
/// else is wrong, and that the client should come back later.
const MAX_RUNS: u32 = 5;

/// The pause between two runs. In it, the other transaction of a deadlock can end.
fn between_runs() -> ExponentialBackoff {
    backoff(Duration::from_millis(5), Duration::from_millis(500))
}

/// The pause between two looks at a key that another process has. The pause is short at first, since most requests take
/// milliseconds. Later each process looks at each key twice a second, whatever the number of duplicates.
pub(crate) fn between_looks() -> ExponentialBackoff {
    backoff(Duration::from_millis(20), Duration::from_millis(500))
}

/// The pause between two looks at a provisional record. Its outcome comes from a system outside, which did not answer the first
/// request in seconds. While that system is slow, every client that waits for it sends again, and each retry waits here: with the
/// short pauses above, a slow gateway took the database from 28 to 503 transactions a second. These pauses halve the looks, and a
/// retry learns of the outcome a second later at most.
fn between_looks_at_provisional() -> ExponentialBackoff {
    backoff(Duration::from_millis(250), Duration::from_secs(1))
}

fn backoff(min: Duration, max: Duration) -> ExponentialBackoff {
    ExponentialBuilder::new().with_min_delay(min).with_max_delay(max).without_max_times().with_jitter().build()
}

/// Runs the transaction until there is a record to answer with.
///
/// None: another process had the key past the deadline.
///
/// # Errors
/// The body's error, and those of the pool.
pub(crate) async fn until_recorded<D: Database, E: Failure>(
    db: &D,
    transaction: &Arc<Transaction<E>>,
    progress: &watch::Sender<Progress>,
    deadline: Instant,
) -> Result<Option<(Record, Origin)>, E> {
    let claim = &transaction.claim;
    let mut pauses = between_runs();
    let mut looks = between_looks();
    let mut looks_at_provisional = between_looks_at_provisional();
    let mut failed = 0;
    loop {
        match run_once(db, transaction).await {
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
            Ok(waiting) => {
                let pause = if let Outcome::Replay(provisional) = waiting {
                    progress.send_modify(|progress| progress.provisional = Some(Arc::new(provisional)));
                    looks_at_provisional.next()
                } else {
                    looks.next()
                };
                let pause = pause.unwrap_or_default();
                tokio::time::sleep(pause.min(deadline.saturating_duration_since(Instant::now()))).await;
            }
            Err(error) if runs_again(&error) && failed + 1 < MAX_RUNS => {
                failed += 1;
                tell(&error, claim.route, failed);
                tokio::time::sleep(pauses.next().unwrap_or_default()).await;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn run_once<D: Database, E: Failure>(db: &D, transaction: &Arc<Transaction<E>>) -> Result<Outcome, E> {
    let was_answered = db.single_flight().was_answered(transaction.claim.lock);
    let transaction = Arc::clone(transaction);
    db.run(transaction.claim.address.account_id, move |conn| {
        if was_answered { transaction.look_then_run(conn) } else { transaction.run(conn) }
    })
    .await
}

/// A lost connection and a read-only server fail every request: the pool says so once, and these lines are for a debugger.
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
pub(crate) fn replay(received: &Received, record: &Record) -> Result<Answer, Error> {
    match received.matches(record.fingerprint_version, &record.fingerprint) {
        Some(true) => Ok(Answer::new(record.reply.clone(), Origin::Replayed, record.expires_at)),
        Some(false) => Err(Error::KeyReused),
        None => Err(Error::UnknownFingerprint(record.fingerprint_version)),
    }
}
