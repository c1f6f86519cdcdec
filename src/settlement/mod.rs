//! A call to a system outside, made safe: the outcome of each call is learnt and recorded once, whatever crashes, hangs or
//! gets lost on the way.
//!
//! # What it guarantees
//! - No transaction is open while the network waits.
//! - A request with a key makes one call, under one reference that is derived from account, scope and key. Each sending of
//!   the call is the same, byte for byte of its content.
//! - The outcome, its business writes and the final reply commit together, once. A holder that slept past its lease writes
//!   nothing (the fence).
//! - A crash at any point, of the process, the database or the answer, leaves a row that is due again when its lease ends.
//! - A key that once made a settlement never makes another, also when its idempotency record is long gone.
//! - Calls that hang leave some of the settler's calls to first retries and to other accounts (`calls.rs`).
//!
//! # What it does not do
//! - It does not guarantee an end. While the system outside is away, the reply stays a 202. After
//!   [`Limits::max_attempts`] leases the settlement is parked, in sight of a person, until it is resumed.
//! - It can't protect a call whose system outside neither honours the reference as an idempotency key nor has books that
//!   can be asked for the reference.
//! - It does not repair what a person changes by hand: an outcome without its provisional record is not recorded.
//!
//! # The protocol
//! 1. **First transaction**: [`Policy::run`] with the service's body. The body inserts the business rows as processing. The
//!    module inserts the row in `settlements`, with the first lease already taken. The reply is a provisional 202. COMMIT.
//! 2. **The call** goes out, and its outcome is learnt by the rules in `learn.rs`.
//! 3. **Second transaction**: the settlement is locked, and its attempt is compared with the lease's (the fence). The service
//!    writes the outcome ([`Outside::conclude`]). The final reply takes the place of the 202 ([`idempotency::settle`]).
//!    COMMIT.
//!
//! The handler waits for [`Limits::handler`], then answers 202. The work goes on, also when the client leaves. What has no
//! outcome is given back: due again after a pause that doubles. The settler, a background task in every replica, takes what
//! is due: `FOR UPDATE SKIP LOCKED`, attempts + 1.
//!
//! # How it reads in a handler
//! ```ignore
//! let made_by = MadeBy::of(&request, account.id, &CREATE_CHARGE)?;
//! settler.run(CREATE_CHARGE, account.id, request, move |conn, new| {
//!     let charge = insert(conn, account.id, &made_by, new)?;    // plain Diesel: lock the order, check, insert as processing
//!     Ok(Begun { call: Call::Capture(capture_of(&charge)), location: format!("/v1/charges/{}", charge.id), body: json(&charge)? })
//! }).await
//! ```
//! `src/payments.rs` is this code in the service that the module comes from, and `tests/settlement/` in a toy.
//!
//! # How to lift it
//! Copy this folder, `src/idempotency/`, and their two migrations. Implement [`Outside`] once, for all calls of the service.
//! Spawn [`Settler::watch`] in every replica, and offer a command that runs [`Settler::pass`] with `resume`. docs/copying.md
//! has the whole of it.

mod calls;
mod learn;
mod lease;
mod progress;
mod schema;
mod settle;
mod settler;
mod watch;

use std::future::Future;
use std::time::Duration;

use actix_web::web::Bytes;
use diesel::pg::PgConnection;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::idempotency::{self, Failure, Keyed, Policy, Reply};

pub use self::learn::{Sending, StillUnknown, learn};
pub use self::progress::{Parked, Progress, parked, parked_count, parked_references, progress};
pub use self::settler::{Counts, Settler};
pub use self::watch::Pass;

/// What a service supplies, once for all its calls to the outside. Clones share what they hold.
pub trait Outside: Clone + Send + Sync + 'static {
    /// What is sent, as it is stored: an enum where there are several calls.
    type Call: Serialize + DeserializeOwned + Clone + Send + Sync + 'static;
    /// What became of a call, for good.
    type Outcome: Clone + Send + Sync + 'static;
    /// The service's error type.
    type Error: Failure;

    /// How long after its first sending a call may be sent again without a look: shorter than the time for which the system
    /// outside keeps idempotency keys. After it, the module looks into the books before it sends, and doesn't send while an
    /// earlier sending may be under way. Zero: the system keeps no keys, so each repeat goes this way. [`Duration::MAX`]: the
    /// system keeps keys for ever.
    const KEY_LIFETIME: Duration;

    /// The time limits. The default suits a card network behind an HTTP API.
    const LIMITS: Limits = Limits::DEFAULT;

    /// The policy of the endpoint that makes such a call: how long the final reply is kept.
    fn policy(&self, call: &Self::Call) -> Policy;

    /// Sends the call once, under `reference` as its idempotency key. Repeating is the module's decision alone.
    ///
    /// An answer is an outcome only if all of it is understood and agrees with the call.
    fn send(&self, reference: &str, call: &Self::Call)
    -> impl Future<Output = Result<Self::Outcome, CallError>> + Send;

    /// Looks up in the books outside what became of the call. None: the books have no such call. A sending may still be under
    /// way.
    fn find(
        &self,
        reference: &str,
        call: &Self::Call,
    ) -> impl Future<Output = Result<Option<Self::Outcome>, CallError>> + Send;

    /// The outcome of a call that was refused with this status and never took effect.
    fn refused(&self, call: &Self::Call, status: u16) -> Self::Outcome;

    /// Writes the outcome, in the transaction that puts the returned reply into the record. It locks what it decides by.
    ///
    /// # Errors
    /// The service's: nothing is written, and the settlement is tried again later.
    fn conclude(
        &self,
        conn: &mut PgConnection,
        account_id: Uuid,
        call: &Self::Call,
        outcome: &Self::Outcome,
    ) -> Result<Reply, Self::Error>;

    /// The body of a 202 as the resource is now: what a retry reads while the outcome is unknown.
    ///
    /// # Errors
    /// The service's: the retry gets the 202 as it was stored.
    fn pending(&self, conn: &mut PgConnection, account_id: Uuid, call: &Self::Call) -> Result<Bytes, Self::Error>;

    /// Called at each step, for tests that end the process there.
    fn reached(&self, _: Step) {}
}

/// The boundaries between which a crash makes a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The first transaction is committed.
    Begun,
    /// The call is about to be sent.
    Sending,
    /// The call has ended, with or without an outcome.
    Called,
    /// All of the second transaction is written, and not committed.
    Concluded,
    /// The second transaction is committed.
    Recorded,
}

/// What the body of a first transaction has begun.
pub struct Begun<C> {
    /// What is to be sent.
    pub call: C,
    /// What the request made, as a path: `Location`, and the answer to a late retry.
    pub location: String,
    /// The body of the 202: the resource as processing.
    pub body: Bytes,
}

/// What a resource may keep of the request that made it.
#[derive(Clone, Debug)]
pub struct MadeBy {
    /// What the system outside knows the call by, and its idempotency key there: 64 hexadecimal digits.
    pub reference: String,
    /// The client's key.
    pub key: String,
    /// The request's id.
    pub request_id: Uuid,
}

impl MadeBy {
    /// Of a request under the policy that it is going to run.
    ///
    /// # Errors
    /// As [`Keyed::address`].
    pub fn of<T>(request: &Keyed<T>, account_id: Uuid, policy: &Policy) -> Result<Self, idempotency::Error> {
        let address = request.address(account_id, policy)?;
        Ok(Self { reference: address.reference(), key: address.key, request_id: request.instance })
    }
}

/// Why one sending or look did not bring an outcome, told apart by what may be done next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No answer, or none that is understood. The call may have taken effect: only a later call can tell.
    #[error("no answer: {reason}")]
    NoAnswer {
        /// For the log; holds no payment data.
        reason: String,
    },
    /// The answer says nothing about the call: come back later. A call of the same key is under way (409), there are too
    /// many (429), or who asked was not let in (401, 403), for example.
    #[error("the answer was {status}: later")]
    Later {
        /// The HTTP status.
        status: u16,
        /// What Retry-After said.
        retry_after: Option<Duration>,
    },
    /// A 5xx. Repeating the call may help, unless the answer is stored under the key.
    #[error("the answer was {status}")]
    ServerError {
        /// The HTTP status.
        status: u16,
        /// What Retry-After said. If Retry-After is there, the call is not repeated before.
        retry_after: Option<Duration>,
    },
    /// The call was refused. This sending took no effect; an earlier one may have.
    #[error("the call was refused with {status}")]
    Refused {
        /// The HTTP status.
        status: u16,
    },
}

impl CallError {
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Later { retry_after, .. } | Self::ServerError { retry_after, .. } => *retry_after,
            Self::NoAnswer { .. } | Self::Refused { .. } => None,
        }
    }
}

/// How long each part may take. A lease outlasts all that its holder may spend: [`Limits::is_sound`], checked when the
/// program is compiled.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Establishing a connection. A server that is up answers within a round trip, 0.3 s around the world; a server that has
    /// not after a second is down, and the settler asks again.
    pub connect: Duration,
    /// One call, connecting and the answer's body included. Card networks answer in up to 3 s when they are slow; a call
    /// given up earlier would be unknown though its answer was on the way.
    pub call: Duration,
    /// How often a plain 5xx is repeated at once. Two outlast a restart behind a load balancer; more would press a server
    /// that is failing already, and the settler comes back anyway.
    pub quick_repeats: u32,
    /// The pause before the first quick repeat; each further repeat doubles it, and jitter adds up to as much again. 0.3 to
    /// 0.6 s in all, which a waiting client bears.
    pub quick_pause: Duration,
    /// Learning an outcome. Enough for one look (4 s), one call (4 s), and 1 s for quick failures and pauses. Three full calls
    /// need not fit: if a server takes 4 s to fail, more calls would not help.
    pub learn: Duration,
    /// Recording an outcome: some twenty statements, and waiting for locks.
    pub record: Duration,
    /// How long a handler waits for the outcome before it answers 202. Clients give up after some ten seconds.
    pub handler: Duration,
    /// How long one holder has a settlement for itself. A crash leaves the settlement alone for as long, so it is short.
    pub lease: Duration,
    /// The pause after the first attempt; each further attempt doubles it. A lost reply is usually there at the second
    /// asking.
    pub first_backoff: Duration,
    /// The longest pause: after a long outage, settlements move again within ten minutes. Also the longest Retry-After that
    /// is heeded.
    pub max_backoff: Duration,
    /// Leases until a settlement is parked. With the pauses above these are about two hours, after which a person should
    /// look.
    pub max_attempts: i32,
    /// How long after the last lease whose sending went unanswered a refusal with empty books means that nothing happened.
    /// A holder may send until its lease ends, after 15 s. A proxy or a load balancer holds a request for up to 60 s by
    /// default (nginx and AWS, for example). So after 75 s the sending has arrived or never will.
    pub refusal_counts_after: Duration,
    /// Calls of the settler at once, in one process. Each holds a socket and some kilobytes, so there may be many. If all
    /// hang for 4 s each, 64 still begin 16 calls a second. `calls.rs` shares them out.
    pub calls_at_once: usize,
}

impl Limits {
    /// For a card network behind an HTTP API.
    pub const DEFAULT: Self = Self {
        connect: Duration::from_secs(1),
        call: Duration::from_secs(4),
        quick_repeats: 2,
        quick_pause: Duration::from_millis(100),
        learn: Duration::from_secs(9),
        record: Duration::from_secs(5),
        handler: Duration::from_secs(6),
        lease: Duration::from_secs(15),
        first_backoff: Duration::from_secs(2),
        max_backoff: Duration::from_secs(600),
        max_attempts: 20,
        refusal_counts_after: Duration::from_secs(75),
        calls_at_once: 64,
    };

    /// Whether a lease outlasts all that its holder may spend, learning holds a look, a call and the pauses, and a refusal
    /// counts only when the lease of an unanswered sending is over.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        let pauses = 2 * (self.quick_pause.as_millis() << self.quick_repeats);
        self.lease.as_millis() > self.learn.as_millis() + self.record.as_millis()
            && self.learn.as_millis() > 2 * self.call.as_millis() + pauses
            && self.call.as_millis() > self.connect.as_millis()
            && self.handler.as_millis() < self.lease.as_millis()
            && self.refusal_counts_after.as_millis() > self.lease.as_millis()
            && self.calls_at_once >= 2
    }
}
