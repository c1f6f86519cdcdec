//! One transaction of the protocol: claim, replay, guard, body, record. `run.rs` decides how often it runs, and who waits.

use diesel::connection::Connection;
use diesel::pg::PgConnection;

use super::attempt::{Asked, Attempt, Work};
use super::policy::Failures;
use super::reply::Reply;
use super::store::{self, Claim, Claimed, Record};
use super::sweep::remove_expired;
use super::write::NoWrite;
use super::{Failure, Nature};

/// A transaction around a body, which can run again.
pub(super) struct Transaction<T, F> {
    pub asked: Asked,
    pub request: T,
    pub body: F,
}

impl<T, E, F> Work<E> for Transaction<T, F>
where
    T: Send + Sync + 'static,
    E: Failure,
    F: Fn(&mut PgConnection, &T) -> Result<Reply, E> + Send + Sync + 'static,
{
    fn asked(&self) -> &Asked {
        &self.asked
    }

    fn attempt(&self, conn: &mut PgConnection) -> Result<Attempt, E> {
        self.transact(conn)
    }
}

impl<T, F> Transaction<T, F> {
    /// One transaction, and after a failure a look at the record.
    ///
    /// The claim's statement may look a moment before it has the lock, and a transaction of this key commit in between. If
    /// the body then succeeds, the unique key refuses its record. If it fails, it may have failed by what that transaction
    /// did (an order that is canceled already): then the record is the answer.
    fn transact<E>(&self, conn: &mut PgConnection) -> Result<Attempt, E>
    where
        E: Failure,
        F: Fn(&mut PgConnection, &T) -> Result<Reply, E>,
    {
        match self.claim_to_record(conn) {
            Err(error) if !matches!(error.nature(), Nature::Database(_)) => {
                match store::find(conn, &self.asked.claim.address)? {
                    Some(record) if !record.expired => Ok(Attempt::Stands(record)),
                    _ => Err(error),
                }
            }
            result => result,
        }
    }

    /// One READ COMMITTED transaction from the claim to the record.
    fn claim_to_record<E>(&self, conn: &mut PgConnection) -> Result<Attempt, E>
    where
        E: Failure,
        F: Fn(&mut PgConnection, &T) -> Result<Reply, E>,
    {
        conn.build_transaction().read_committed().run(|conn| {
            match hold_key(conn, &self.asked.claim)? {
                Held::Stands(record) => return Ok(Attempt::Stands(record)),
                Held::InFlight => return Ok(Attempt::InFlight),
                Held::Ours => {}
            }
            let reply = self.run_body(conn)?;
            self.asked.record(conn, reply, &NoWrite)
        })
    }

    /// Runs the body. Under cache-failures it runs inside a savepoint, so that a final failure leaves no writes while its
    /// reply is stored.
    fn run_body<E>(&self, conn: &mut PgConnection) -> Result<Reply, E>
    where
        E: Failure,
        F: Fn(&mut PgConnection, &T) -> Result<Reply, E>,
    {
        match self.asked.policy.failures {
            Failures::SuccessOnly => (self.body)(conn, &self.request),
            Failures::CacheFailures { .. } => match conn.transaction(|conn| (self.body)(conn, &self.request)) {
                Err(error) if matches!(error.nature(), Nature::Final) => Ok(error.reply(self.asked.instance)),
                result => result,
            },
        }
    }
}

/// Whose the key is, once that is clear.
enum Held {
    Ours,
    Stands(Record),
    InFlight,
}

/// Claims the key. An expired record is guarded, so that nobody else changes it, and then removed: it is back where the
/// transaction is rolled back.
fn hold_key(conn: &mut PgConnection, claim: &Claim) -> diesel::QueryResult<Held> {
    match store::claim(conn, claim)? {
        Claimed::Free => Ok(Held::Ours),
        Claimed::InFlight => Ok(Held::InFlight),
        // A live record is replayed without a lock: a lock would make each replay a write.
        Claimed::Stands(record) if !record.expired => Ok(Held::Stands(record)),
        Claimed::Stands(_) => match store::guard(conn, &claim.address)? {
            Some(record) if !record.expired => Ok(Held::Stands(record)),
            Some(_) => remove_expired(conn, &claim.address).map(|_| Held::Ours),
            // Swept away since.
            None => Ok(Held::Ours),
        },
    }
}
