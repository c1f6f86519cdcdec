//! One transaction of the protocol: claim, replay, body, record. `run.rs` decides how often the transaction runs, and which
//! requests wait for it.

use diesel::connection::Connection;
use diesel::pg::PgConnection;
use uuid::Uuid;

use super::fingerprint::Received;
use super::policy::{Failures, Policy};
use super::reply::{MAX_BODY, Reply, ReplyTooLarge};
use super::request::Keyed;
use super::store::{self, Claim, Claimed, Record};
use super::{Error, Failure, Nature};

/// A request's transaction, which can run again.
pub(super) struct Transaction<T, F> {
    pub policy: Policy,
    pub claim: Claim,
    pub received: Received,
    request: T,
    body: F,
}

/// How a transaction ended, if it did not fail.
pub(super) enum Outcome {
    /// The body ran. Body and record are committed.
    Ran(Record),
    /// The key has a live record. Nothing was done.
    Replay(Record),
    /// Another transaction holds the key. Nothing was done.
    InFlight,
}

impl<T, F> Transaction<T, F> {
    /// # Errors
    /// [`Error::ResourceNotNamed`].
    pub fn new(policy: &Policy, account_id: Uuid, keyed: Keyed<T>, body: F) -> Result<Self, Error> {
        let address = keyed.address(account_id, policy)?;
        let (received, request, instance) = keyed.received(policy)?;
        let claim = Claim {
            lock: address.lock(),
            address,
            id: Uuid::now_v7(),
            route: policy.route,
            request_id: instance,
            fingerprint: received.fingerprint(),
        };
        Ok(Self { policy: *policy, claim, received, request, body })
    }

    /// Runs the transaction once.
    ///
    /// The claim takes the lock and reads the record in one statement, with one snapshot. Another transaction of the key may
    /// commit after the snapshot and before the lock. If the body then succeeds, the primary key refuses the record, and the
    /// transaction runs again. If the body fails, the other transaction may be the reason (the order is canceled already):
    /// then the other transaction's record is the answer.
    ///
    /// `claimed` hears when the key is this transaction's.
    pub fn run<E>(&self, conn: &mut PgConnection, claimed: impl FnOnce()) -> Result<Outcome, E>
    where
        E: Failure,
        F: Fn(&mut PgConnection, &T) -> Result<Reply, E>,
    {
        match self.claim_to_record(conn, claimed) {
            Err(error) if !matches!(error.nature(), Nature::Database(_)) => {
                match store::find(conn, &self.claim.address)? {
                    Some(record) if !record.expired => Ok(Outcome::Replay(record)),
                    _ => Err(error),
                }
            }
            end => end,
        }
    }

    /// For a key that probably has a record. If the key has one, a plain read is enough.
    pub fn look_then_run<E>(&self, conn: &mut PgConnection, claimed: impl FnOnce()) -> Result<Outcome, E>
    where
        E: Failure,
        F: Fn(&mut PgConnection, &T) -> Result<Reply, E>,
    {
        match store::find(conn, &self.claim.address)? {
            Some(record) if !record.expired => Ok(Outcome::Replay(record)),
            _ => self.run(conn, claimed),
        }
    }

    /// The protocol: one READ COMMITTED transaction.
    fn claim_to_record<E>(&self, conn: &mut PgConnection, claimed: impl FnOnce()) -> Result<Outcome, E>
    where
        E: Failure,
        F: Fn(&mut PgConnection, &T) -> Result<Reply, E>,
    {
        conn.build_transaction().read_committed().run(|conn| {
            match store::claim(conn, &self.claim)? {
                Claimed::Ours => claimed(),
                Claimed::InFlight => return Ok(Outcome::InFlight),
                Claimed::Taken(record) => return Ok(Outcome::Replay(record)),
            }
            let reply = self.run_body(conn)?;
            if reply.body.len() > MAX_BODY {
                return Err(Error::ReplyTooLarge(ReplyTooLarge(reply.body.len())).into());
            }
            let ttl = self.policy.ttl(reply.status);
            Ok(Outcome::Ran(store::record(conn, &self.claim, reply, ttl)?))
        })
    }

    /// Runs the body. Under cache-failures the body runs inside a savepoint, so that a final failure leaves no business
    /// writes while its reply is stored.
    fn run_body<E>(&self, conn: &mut PgConnection) -> Result<Reply, E>
    where
        E: Failure,
        F: Fn(&mut PgConnection, &T) -> Result<Reply, E>,
    {
        match self.policy.failures {
            Failures::SuccessOnly => (self.body)(conn, &self.request),
            Failures::CacheFailures { .. } => match conn.transaction(|conn| (self.body)(conn, &self.request)) {
                Err(error) if matches!(error.nature(), Nature::Final) => Ok(error.reply(self.claim.request_id)),
                end => end,
            },
        }
    }
}
