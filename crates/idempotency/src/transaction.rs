// SPDX-License-Identifier: MIT OR Apache-2.0
//! The protocol: claim, replay, body, record, COMMIT. `run.rs` decides how often the transaction runs.

use std::sync::Arc;

use diesel::connection::Connection;
use diesel::pg::PgConnection;

use crate::error::Error;
use crate::fingerprint::Received;
use crate::observer::{Observer, Step};
use crate::policy::{Failures, Policy};
use crate::reply::{MAX_BODY, Reply, ReplyTooLarge};
use crate::store::{self, Claim, Claimed, Record};
use crate::traits::Failure;

/// The business part of a transaction, with its request.
type Body<E> = Box<dyn Fn(&mut PgConnection) -> Result<Reply, E> + Send + Sync>;

/// A request's transaction, which can run again.
pub(crate) struct Transaction<E> {
    pub policy: Policy,
    pub claim: Claim,
    pub received: Received,
    pub observer: Option<Arc<dyn Observer>>,
    pub body: Body<E>,
}

/// How a transaction ended, if it did not fail.
pub(crate) enum Ended {
    /// The body ran. Body and record are committed.
    Ran(Record),
    /// The key has a live record. Nothing was done.
    Replay(Record),
    /// Another transaction has the key. Nothing was done.
    InFlight,
}

impl<E: Failure> Transaction<E> {
    /// The protocol: one READ COMMITTED transaction.
    ///
    /// The claim takes the lock and reads the record in one statement, with one snapshot. Another transaction of the key may
    /// commit after the snapshot and before the lock. If the body then succeeds, the primary key refuses the record, and the
    /// transaction runs again. If the body fails, the other transaction may be the reason (the order is canceled already):
    /// then the other transaction's record is the answer.
    pub fn run(&self, conn: &mut PgConnection) -> Result<Ended, E> {
        self.observe(Step::Begins);
        let end: Result<_, E> = conn.build_transaction().read_committed().run(|conn| {
            match store::claim(conn, &self.claim)? {
                Claimed::Ours => self.observe(Step::Claimed),
                Claimed::InFlight => return Ok(Ended::InFlight),
                Claimed::Taken(record) => return Ok(Ended::Replay(record)),
            }
            let reply = match self.policy.failures {
                Failures::SuccessOnly => (self.body)(conn)?,
                // In a savepoint, so that a final failure leaves no business writes while its reply is stored.
                Failures::CacheFailures { .. } => match conn.transaction(|conn| (self.body)(conn)) {
                    Err(error) if error.is_final() => error.reply(self.claim.request_id),
                    end => end?,
                },
            };
            self.observe(Step::BodyRan);
            if reply.body.len() > MAX_BODY {
                return Err(Error::ReplyTooLarge(ReplyTooLarge(reply.body.len())).into());
            }
            let ttl = self.policy.ttl(reply.status);
            let record = store::record(conn, &self.claim, reply, ttl)?;
            self.observe(Step::Recorded);
            Ok(Ended::Ran(record))
        });
        self.observe(Step::of(&end));
        match end {
            Err(error) if error.database_error().is_none() => Ok(Ended::Replay(self.live_record(conn)?.ok_or(error)?)),
            end => end,
        }
    }

    /// For a key that probably has a record: one plain read is then enough.
    pub fn look_then_run(&self, conn: &mut PgConnection) -> Result<Ended, E> {
        match self.live_record(conn)? {
            Some(record) => {
                self.observe(Step::MetRecord { provisional: record.reply.is_provisional() });
                Ok(Ended::Replay(record))
            }
            None => self.run(conn),
        }
    }

    /// Reports a step to the observer.
    pub fn observe(&self, step: Step) {
        if let Some(observer) = &self.observer {
            observer.reached(self.claim.request_id, &self.claim.address, step);
        }
    }

    fn live_record(&self, conn: &mut PgConnection) -> Result<Option<Record>, E> {
        Ok(store::find(conn, &self.claim.address)?.filter(Record::is_live))
    }
}

impl Step {
    /// How a transaction ended.
    fn of<E>(end: &Result<Ended, E>) -> Self {
        match end {
            Ok(Ended::Ran(_)) => Self::Committed,
            Ok(Ended::Replay(record)) => Self::MetRecord { provisional: record.reply.is_provisional() },
            Ok(Ended::InFlight) => Self::MetTransaction,
            Err(_) => Self::Failed,
        }
    }
}
