// SPDX-License-Identifier: MIT OR Apache-2.0
//! A call to an external system, made safe: the outcome of each call is found and recorded once, even if a process
//! crashes, a call hangs, or an answer is lost.
//!
//! # What it guarantees
//! - No transaction is open while the network waits.
//! - A request with a key makes one call, under one reference derived from account, scope and key. Every sending of the
//!   call has the same content.
//! - The outcome, its business writes and the final reply commit together, once. If another holder has taken the next lease, the
//!   previous holder writes nothing (the fence).
//! - After a crash of the process or of the database at any point, the external call is due again when its lease ends.
//! - A key that once made an external call never makes another, even when the key's idempotency record is gone.
//! - While calls hang, the resolver still has room for first retries and for other accounts (`concurrency.rs`).
//!
//! # What it does not do
//! - It does not guarantee an end. While the external system does not answer, the reply stays a 202. After
//!   [`Limits::max_attempts`] leases the external call is parked, and the resolver leaves it alone until a person has
//!   looked and resumes it. A look at an object that has no outcome yet ([`CallError::Pending`]) does not count.
//! - It can't protect a call if the external system neither accepts the reference as an idempotency key nor can look a
//!   call up by it.
//! - It does not repair tables that a person changed by hand. If the provisional record is gone, no outcome is recorded.
//!
//! # The protocol
//! 1. **First transaction**: [`Policy::run`] with the service's body. The body inserts the business rows as processing. The
//!    crate inserts the row in `external_calls`, with the first lease already taken. The reply is a provisional 202. COMMIT.
//! 2. **The call** goes out, and its outcome is found by the rules in `outcome.rs`.
//! 3. **Second transaction**: the external call is locked, and its attempt is compared with the lease's (the fence). The service
//!    writes the outcome ([`ExternalSystem::apply`]). The final reply takes the place of the 202 ([`idempotency::finalize`]).
//!    COMMIT.
//!
//! The handler waits for the outcome for [`Limits::handler`], then answers 202. The work goes on even if the client
//! leaves. If there is no outcome, the holder gives the lease back: the external call is due again after a pause, which
//! doubles each time. The resolver, a background task in every replica, takes leases on external calls that are due:
//! `FOR UPDATE SKIP LOCKED`, attempts + 1. A hint ([`Resolver::hint`]), for example from a webhook, makes a call due at
//! once and never ends a lease.
//!
//! # How it reads in a handler
//! ```ignore
//! resolver.run(CREATE_CHARGE, account.id, request, move |conn, new, made_by| {
//!     let charge = insert(conn, made_by, new)?;    // plain Diesel: lock the order, check, insert as processing
//!     let call = Call::Capture(capture_of(&charge));
//!     Ok(Started { call, location: format!("/v1/charges/{}", charge.id), body: json(&charge)? })
//! }).await
//! ```
//! `src/shop/payments.rs` is this code in the payments API. `tests/protocol/` has it in a toy service.
//!
//! # How to use it
//! Depend on this crate and on `idempotency`, and run the [`MIGRATIONS`] of both. Implement [`ExternalSystem`] once, for all calls of
//! the service. Spawn [`Resolver::run_in_background`] in every replica, and offer a command that runs [`Resolver::run_once`] with `resume`.
//! [`backlog`] has the numbers for metrics, and `open_calls`, behind the feature `support`, the list for the person on call.
//! docs/copying.md shows each step.

mod background;
mod backlog;
mod call_error;
mod concurrency;
mod hint;
mod lease;
mod outcome;
mod progress;
mod resolve;
mod resolver;
mod schema;
#[cfg(feature = "support")]
mod support;

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use diesel::pg::{Pg, PgConnection};
use diesel::prelude::*;
use diesel_migrations::{EmbeddedMigrations, embed_migrations};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use self::schema::external_calls;
use idempotency::{self, Address, Failure, Keyed, Policy, Reply};

pub use self::background::Resolutions;
pub use self::backlog::{Backlog, backlog};
pub use self::call_error::CallError;
pub use self::hint::Hinted;
pub use self::outcome::{Next, Sending, Sent, StillUnknown, find_outcome};
pub use self::progress::Progress;
pub use self::resolve::Step;
pub use self::resolver::{Counts, Resolver};
#[cfg(feature = "support")]
pub use self::support::{OfAccount, Open, References, backlog_by_account, open_calls, parked_references, progress};

/// The migrations of the table, in order of version. A release never edits the migration of an earlier release.
pub const MIGRATIONS: EmbeddedMigrations = embed_migrations!();

/// What a service supplies, once for all its calls to external systems. Clones share their contents.
pub trait ExternalSystem: Clone + Send + Sync + 'static {
    /// A call, as it is stored and sent: an enum if there are several kinds.
    type Call: Serialize + DeserializeOwned + Clone + Send + Sync + 'static;
    /// The final outcome of a call.
    type Outcome: Clone + Send + Sync + 'static;
    /// The service's error type.
    type Error: Failure;

    /// How long after its first sending a call may be sent again without a look: shorter than the time for which the system
    /// outside keeps idempotency keys. After that, the crate looks up the call before it sends, and doesn't send while
    /// an earlier sending may still arrive. Zero means that the system keeps no keys, so the crate does this before
    /// every repeat. [`Duration::MAX`] means that it keeps keys for ever.
    const KEY_LIFETIME: Duration;

    /// The time limits. The default suits a card network behind an HTTP API.
    const LIMITS: Limits = Limits::DEFAULT;

    /// The policy of the call's endpoint, which says how long the final reply is kept.
    fn policy(&self, call: &Self::Call) -> Policy;

    /// Sends the call once, with `reference` as its idempotency key. Don't repeat it here: the crate decides about
    /// repeats.
    ///
    /// Return an outcome only if you understand the whole answer, and the answer agrees with the call.
    fn send(&self, reference: &str, call: &Self::Call)
    -> impl Future<Output = Result<Self::Outcome, CallError>> + Send;

    /// Asks the external system what became of the call. None if it has no such call, though a sending may still arrive.
    fn look_up(
        &self,
        sent: &Sent,
        call: &Self::Call,
    ) -> impl Future<Output = Result<Option<Self::Outcome>, CallError>> + Send;

    /// The outcome of a call that was refused with this status and this error code, and never took effect.
    fn refused(&self, call: &Self::Call, status: u16, code: Option<&str>) -> Self::Outcome;

    /// Writes the outcome, in the transaction that also puts the returned reply into the record. Lock the rows that the
    /// decision depends on.
    ///
    /// # Errors
    /// The service's. Then nothing is written, and the resolver tries again later.
    fn apply(
        &self,
        conn: &mut PgConnection,
        account_id: Uuid,
        call: &Self::Call,
        outcome: &Self::Outcome,
    ) -> Result<Reply, Self::Error>;

    /// The body of a 202, with the resource as it is now. A retry gets it while the outcome is unknown.
    ///
    /// # Errors
    /// The service's. Then the retry gets the stored 202.
    fn pending(&self, conn: &mut PgConnection, account_id: Uuid, call: &Self::Call) -> Result<Bytes, Self::Error>;

    /// Called at each step, with the lease's number if there is a lease: for a trace, a demonstration, or a test that ends
    /// the process there.
    fn reached(&self, _: &MadeBy, _: Option<i32>, _: Step) {}

    /// Wraps work that outlives its request. The crate calls this in the request's task, so that a service can pass the
    /// request's trace on to the work.
    fn carried<T>(work: impl Future<Output = T> + Send + 'static) -> impl Future<Output = T> + Send + 'static {
        work
    }
}

/// The result of a first transaction's body.
pub struct Started<C> {
    /// The call to send.
    pub call: C,
    /// The path of the new object: for `Location`, and for the answer to a late retry.
    pub location: String,
    /// The body of the 202: the resource as processing.
    pub body: Bytes,
}

/// The request that makes an external call, in a form that the new resource can store.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = external_calls, check_for_backend(Pg))]
pub struct MadeBy {
    /// The account.
    pub account_id: Uuid,
    /// The call's name and idempotency key at the external system: SHA-256 over account, scope and key, in hex.
    pub reference: String,
    /// The key space of the client's key.
    pub scope: String,
    /// The client's key.
    pub key: String,
    /// The request's id.
    pub request_id: Uuid,
}

impl MadeBy {
    fn of<T>(request: &Keyed<T>, account_id: Uuid, policy: &Policy) -> Result<Self, idempotency::Error> {
        let address = request.address(account_id, policy)?;
        let (reference, Address { scope, key, .. }) = (address.reference(), address);
        Ok(Self { account_id, reference, scope, key, request_id: request.instance })
    }

    fn address(&self) -> Address {
        Address { account_id: self.account_id, scope: self.scope.clone(), key: self.key.clone() }
    }
}

/// How long each part may take. A lease outlasts all that its holder may spend: [`Limits::is_sound`] checks this at
/// compile time.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connecting. A server that is up answers within a round trip, 0.3 s around the world. One that has not answered
    /// after a second is down, and the resolver tries again later.
    pub connect: Duration,
    /// One call, from connecting to the end of the answer's body. A slow card network answers within 3 s. A shorter
    /// limit would cut off calls whose answers are on the way.
    pub call: Duration,
    /// How often the call is repeated at once after a plain 5xx. Two repeats outlast a restart behind a load balancer. More
    /// repeats would load a server that is failing already, and the resolver comes back anyway.
    pub quick_repeats: u32,
    /// The pause before the first quick repeat. The second pause is twice as long, and jitter at most doubles each. So both take
    /// 0.3 to 0.6 s, while the client waits.
    pub quick_pause: Duration,
    /// Finding the outcome. Enough for one look (4 s), one call (4 s), and 1 s for quick failures and pauses. Three
    /// full calls need not fit: more calls would not help with a server that takes 4 s to fail.
    pub find_outcome: Duration,
    /// Recording an outcome: for most services some twenty statements, and waiting for locks.
    pub record: Duration,
    /// How long a handler waits for the outcome before it answers 202. Clients give up after some ten seconds.
    pub handler: Duration,
    /// How long an external call belongs to one holder. After a crash nobody works on it for this long, so the lease is
    /// short.
    pub lease: Duration,
    /// The pause after the first attempt. Each further attempt doubles the pause. Mostly the second attempt gets the answer.
    pub first_backoff: Duration,
    /// The longest pause, so that every external call is tried within ten minutes of the end of a long outage. A longer
    /// Retry-After is cut to this.
    pub max_backoff: Duration,
    /// The number of attempts after which an external call is parked. A look at an object without an outcome does not count.
    /// With the pauses above, that takes about two hours.
    /// By then a person should look.
    pub max_attempts: i32,
    /// A refusal with empty books means that nothing happened once this long has passed since the last lease whose
    /// sending went unanswered. A holder may send until its lease ends, after 15 s. A proxy or a load balancer holds a
    /// request for up to 60 s by default (nginx and AWS, for example). So after 75 s the sending has arrived or never
    /// will.
    pub refusal_counts_after: Duration,
    /// The most calls that one process's resolver makes at once. Each holds a socket and some kilobytes, so there may
    /// be many. Even if all of them hang for 4 s, 64 slots let 16 calls begin each second. `concurrency.rs` shares them
    /// out. Requests make at most four times as many, shared out likewise; beyond that they answer 202, and the resolver makes the call.
    pub calls_at_once: usize,
}

impl Limits {
    /// For a card network behind an HTTP API.
    pub const DEFAULT: Self = Self {
        connect: Duration::from_secs(1),
        call: Duration::from_secs(4),
        quick_repeats: 2,
        quick_pause: Duration::from_millis(100),
        find_outcome: Duration::from_secs(9),
        record: Duration::from_secs(5),
        handler: Duration::from_secs(6),
        lease: Duration::from_secs(15),
        first_backoff: Duration::from_secs(2),
        max_backoff: Duration::from_secs(600),
        max_attempts: 20,
        refusal_counts_after: Duration::from_secs(75),
        calls_at_once: 64,
    };

    /// Whether a lease outlasts all that its holder may spend, finding the outcome leaves time for a look, a call and the pauses, and a refusal
    /// counts only when the lease of an unanswered sending is over.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        let pauses = 2 * (self.quick_pause.as_millis() << self.quick_repeats);
        self.lease.as_millis() > self.find_outcome.as_millis() + self.record.as_millis()
            && self.find_outcome.as_millis() > 2 * self.call.as_millis() + pauses
            && self.call.as_millis() > self.connect.as_millis()
            && self.handler.as_millis() < self.lease.as_millis()
            && self.refusal_counts_after.as_millis() > self.lease.as_millis()
            && self.calls_at_once >= 2
    }
}
