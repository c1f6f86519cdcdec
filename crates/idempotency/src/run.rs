// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Policy::run`]: one transaction, run again where it must be, with single flight around it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::pg::PgConnection;
use uuid::Uuid;

use crate::error::Error;
use crate::observer::Step;
use crate::policy::Policy;
use crate::reply::{Answer, Origin, Reply};
use crate::request::Keyed;
use crate::run_again::{between_looks, replay, until_recorded};
use crate::single_flight::{Follower, Leader, Part, Shareable};
use crate::traits::{Database, Failure};
use crate::transaction::Transaction;

/// How long a request may take in all, whatever the database does. A client or a proxy commonly gives up after 15 to 60 s. The
/// longest right request waits 5 s for a duplicate and takes 5 s in its last statement.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(11);

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
        let transaction = Arc::new(Transaction::new(self, account_id, request, db.observer(), body)?);
        let began = Instant::now();
        let answer = answer_once(db, &transaction, began + self.wait);
        // A request that gives up leaves its work to end or to roll back. A retry finds out which.
        let answer = tokio::time::timeout_at((began + ANSWER_WITHIN).into(), answer).await;
        answer.unwrap_or_else(|_| Err(Error::Unreachable("no answer in time".to_owned()).into()))
    }
}

/// Answers as the leader, or with what the leader found. Without single flight, this function would be [`lead`] alone.
async fn answer_once<D: Database, E: Failure>(
    db: &D,
    transaction: &Arc<Transaction<E>>,
    deadline: Instant,
) -> Result<Answer, E> {
    let (claim, received) = (&transaction.claim, &transaction.received);
    let mut looks = between_looks();
    loop {
        let mut follower = match db.single_flight().join(&claim.address, claim.fingerprint) {
            Part::Leader(leader) => return lead(db, transaction, leader, deadline).await,
            Part::Follower(follower) => follower,
        };
        transaction.observe(Step::Waits);
        match follow(&mut follower, deadline).await {
            // The leader's wait ended, or its client left: the next to join leads.
            Ok(None | Some(Shareable::InFlight)) => {}
            Ok(Some(Shareable::Record(record))) => {
                let answer = replay(received, &record)?;
                if !answer.reply.is_provisional() || Instant::now() >= deadline {
                    return Ok(answer);
                }
                // Each follower pauses first, so that not all of them look at once.
                tokio::time::sleep(looks.next().unwrap_or_default()).await;
            }
            Ok(Some(Shareable::Failure(error))) => {
                // Another request's failure says nothing about this one, which joins again.
                if let Some(error) = error.downcast_ref::<E>().filter(|_| !follower.is_other) {
                    return Err(error.clone());
                }
            }
            // The follower's wait ends before the leader's. A provisional record is an answer.
            Err(_) => return Ok(replay(received, &*follower.provisional().ok_or(Error::InFlight)?)?),
        }
    }
}

async fn follow(follower: &mut Follower, deadline: Instant) -> Result<Option<Shareable>, tokio::time::error::Elapsed> {
    tokio::time::timeout_at(deadline.into(), follower.result()).await
}

/// Goes to the database until there is an answer, and shares it with the followers.
async fn lead<D: Database, E: Failure>(
    db: &D,
    transaction: &Arc<Transaction<E>>,
    leader: Leader,
    deadline: Instant,
) -> Result<Answer, E> {
    let (result, answer) = match until_recorded(db, transaction, &leader.progress, deadline).await {
        Ok(Some((record, origin))) => {
            db.single_flight().remember(transaction.claim.lock);
            let answer = match origin {
                Origin::Replayed => replay(&transaction.received, &record).map_err(E::from),
                Origin::Fresh | Origin::Recovered => Ok(Answer::new(record.reply.clone(), origin, record.expires_at)),
            };
            (Shareable::Record(Arc::new(record)), answer)
        }
        Ok(None) => (Shareable::InFlight, Err(Error::InFlight.into())),
        Err(error) => (Shareable::Failure(Arc::new(error.clone())), Err(error)),
    };
    leader.share(result);
    answer
}
