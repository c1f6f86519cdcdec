//! One transaction of the protocol: claim, replay, guard, body, record. `run.rs` decides how often it runs, and who waits.

use diesel::connection::Connection;
use diesel::pg::PgConnection;
use uuid::Uuid;

use super::ending::{Ending, NoWrite};
use super::fingerprint::Received;
use super::policy::{Failures, Policy};
use super::reply::{MAX_BODY, Reply};
use super::store::{self, Claim, Claimed, Record, ReplyTooLarge};
use super::{Error, Failure, Nature};

/// All that a transaction needs, so that it can run again.
pub(super) struct Job<T, F> {
    pub policy: Policy,
    pub claim: Claim,
    pub received: Received,
    pub instance: Uuid,
    pub request: T,
    pub body: F,
}

/// How a transaction ended that did not fail.
pub(super) enum Attempt {
    /// The body ran, and its reply is committed.
    Ran(Record),
    /// A live record stands.
    Stands(Record),
    /// Another transaction holds the key.
    InFlight,
}

/// For a key that probably has a record: one plain read instead of a transaction. Without a live record, the transaction.
pub(super) fn look<T, R, E, F>(conn: &mut PgConnection, job: &Job<T, F>) -> Result<Attempt, E>
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
pub(super) fn transaction<T, R, E, F>(conn: &mut PgConnection, job: &Job<T, F>) -> Result<Attempt, E>
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
