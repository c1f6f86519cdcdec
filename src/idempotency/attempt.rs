//! One attempt at a request: what is asked, how an attempt may end, and the record that ends it.

use diesel::pg::PgConnection;
use uuid::Uuid;

use super::fingerprint::{FINGERPRINT_VERSION, Received};
use super::policy::Policy;
use super::reply::{MAX_BODY, Reply};
use super::request::Keyed;
use super::store::{self, Claim, Record, Recorded, ReplyTooLarge};
use super::write::Write;
use super::{Error, Failure};

/// What is asked, apart from what the endpoint makes of it.
pub(super) struct Asked {
    pub policy: Policy,
    pub claim: Claim,
    pub received: Received,
    pub instance: Uuid,
}

/// One way from a key to its record: a transaction around a body (`transaction.rs`), or a decision (`decision.rs`).
pub(super) trait Work<E>: Send + Sync + 'static {
    fn asked(&self) -> &Asked;

    /// Goes from the key to a record. After a failure it may be done again.
    fn attempt(&self, conn: &mut PgConnection) -> Result<Attempt, E>;

    /// As an attempt, for a key that probably has a record: one plain read is all it takes then.
    fn look_first(&self, conn: &mut PgConnection) -> Result<Attempt, E>
    where
        E: Failure,
    {
        match store::find(conn, &self.asked().claim.address)? {
            Some(record) if !record.expired => Ok(Attempt::Stands(record)),
            _ => self.attempt(conn),
        }
    }
}

/// How an attempt ended that did not fail.
pub(super) enum Attempt {
    /// The request took effect, and its reply is recorded. Inside a transaction: once that commits.
    Ran(Record),
    /// A live record stands.
    Stands(Record),
    /// Another transaction holds the key.
    InFlight,
}

impl Asked {
    /// Takes a request apart: what is asked, and its typed body.
    pub fn new<T>(policy: &Policy, account_id: Uuid, request: Keyed<T>) -> (Self, T) {
        let address = request.address(account_id, policy);
        let Keyed { received, body, instance, .. } = request;
        let claim = Claim {
            lock: address.lock(),
            address,
            id: Uuid::now_v7(),
            route: policy.route,
            fingerprint: received.fingerprint(),
        };
        (Self { policy: *policy, claim, received, instance }, body)
    }

    /// Records the reply, together with `write`.
    pub fn record<E: Failure>(&self, conn: &mut PgConnection, reply: Reply, write: &impl Write) -> Result<Attempt, E> {
        if reply.body.len() > MAX_BODY {
            return Err(Error::ReplyTooLarge(ReplyTooLarge(reply.body.len())).into());
        }
        match store::record(conn, &self.claim, &reply, self.policy.ttl(reply.status), write)? {
            Recorded::InFlight => Ok(Attempt::InFlight),
            Recorded::Until(expires_at) => Ok(Attempt::Ran(Record {
                id: self.claim.id,
                fingerprint_version: FINGERPRINT_VERSION,
                fingerprint: self.claim.fingerprint.to_vec(),
                reply,
                expires_at,
                expired: false,
            })),
        }
    }
}
