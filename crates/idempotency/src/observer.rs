// SPDX-License-Identifier: MIT OR Apache-2.0
//! What happens inside, step by step: for a trace, a demonstration, or a test that ends the process at a step.

use uuid::Uuid;

use crate::key::Address;

/// A step of a request with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Another request with the key leads in this process. This one waits in memory, without a connection.
    Waits,
    /// The transaction has begun, and is about to claim the key.
    Begins,
    /// The claim was answered: the key is this transaction's.
    Claimed,
    /// The claim was answered: another transaction has the key.
    MetTransaction,
    /// The key has a live record.
    MetRecord {
        /// Whether the record's reply is a 202, to be replaced by a final reply.
        provisional: bool,
    },
    /// The body has ended with a reply; its writes are not yet committed.
    BodyRan,
    /// The record is written, but not yet committed.
    Recorded,
    /// COMMIT was answered.
    Committed,
    /// The transaction ended without an answer to COMMIT: it rolled back, or the answer was lost.
    Failed,
}

/// Called at each step, on the thread that takes it. An observer that blocks holds up the request.
pub trait Observer: Send + Sync + 'static {
    /// A request has reached a step.
    fn reached(&self, request_id: Uuid, address: &Address, step: Step);
}
