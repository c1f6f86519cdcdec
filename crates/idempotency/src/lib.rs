// SPDX-License-Identifier: MIT OR Apache-2.0
//! Idempotency keys for Diesel and PostgreSQL, with actix-web or another web framework: the record of a request and its
//! business writes commit in one transaction.
//!
//! # What it guarantees
//! - A request with a key takes effect at most once, however often and however concurrently the client sends it, and to
//!   however many processes.
//! - The record and the business writes commit together or not at all. No record commits without its reply.
//! - A retry gets the first final reply: the same status, `Content-Type`, `Location` and body, byte for byte. A 202 is
//!   provisional: [`finalize`] puts the final reply in its place.
//! - A key that comes with another request is refused, and changes nothing.
//! - A crash leaves no key stuck: the transaction that has the key ends with its connection.
//! - Duplicates wait without holding a connection.
//!
//! # What it does not do
//! - It remembers nothing beyond a policy's time to live.
//! - It does not undo what a body does outside the database, such as a call or an email. When the transaction runs
//!   again, the body runs again too. The crate `external-calls` makes such calls safe.
//! - It does not end a 202. A reply with status 202 stays until [`finalize`] replaces it, and each retry waits for
//!   [`Policy::wait`] first. Don't use 202 for "accepted".
//! - It does not authenticate. The caller passes the account, and one account never meets another account's keys.
//! - It does not look at the query string. A parameter that changes the effect must be in the body.
//! - It stores replies as they are. Don't put secrets into replies.
//!
//! # The protocol
//! [`Policy::run`] is one READ COMMITTED transaction, on the database's clock:
//! 1. **Claim.** One statement tries an advisory lock on the key and reads the record. The answer is one of three: the key is
//!    ours, here is the record, or another transaction has the key.
//! 2. **Replay.** A live record is compared by its fingerprint and replayed, without a row lock and without a write. An expired
//!    record is locked first (`SELECT .. FOR UPDATE`). If it is still expired, the transaction deletes it.
//! 3. **Body.** The business writes. Under [`Failures::CacheFailures`] the body runs inside a savepoint, so that a final
//!    failure leaves no writes while its reply is stored.
//! 4. **Record.** One plain INSERT, with the reply. COMMIT.
//!
//! The primary key makes the protocol right. If two transactions of one key come to step 4, the second INSERT fails, and its
//! transaction rolls back, runs again, and then replays. The advisory lock only saves work: duplicates neither run a body that
//! will be rolled back, nor wait inside the database.
//!
//! After a deadlock, a serialization failure or a lost connection, at COMMIT too, the whole transaction runs again, a bounded
//! number of times. This is safe, since record and writes are one transaction: after a lost COMMIT, the database has both or
//! neither.
//!
//! # Where to read
//! `transaction.rs` has the four steps on one screen, and `store.rs` has their statements. `run.rs` runs the transaction until
//! there is an answer. With `single_flight.rs` around it, the duplicates within one process wait in memory for the first of
//! them. `http.rs` reads a request and renders an answer, and `actix.rs`, behind the default feature `actix`, is the only file
//! that knows actix-web. `support.rs`, behind the feature `support`, lists and rewrites stored records.

#[cfg(feature = "actix")]
mod actix;
mod connection;
mod error;
mod fingerprint;
mod http;
mod json;
mod key;
mod observer;
mod policy;
mod reply;
mod request;
mod run;
mod schema;
mod single_flight;
mod store;
#[cfg(feature = "support")]
mod support;
mod sweep;
mod traits;
mod transaction;

use diesel_migrations::{EmbeddedMigrations, embed_migrations};

pub use self::http::{IDEMPOTENCY_EXPIRES, IDEMPOTENCY_KEY, IDEMPOTENCY_REPLAYED};
#[cfg(feature = "actix")]
pub use actix::{Credential, Instance, read_body};
pub use connection::{CONNECTION_LIMITS, Fault, Prepared, fault, on_error, watched};
pub use error::{BODY_WITHIN, Error, FieldError, MAX_REQUEST_BODY};
pub use json::{MAX_FAULTS, MAX_SAFE_INTEGER, escape_pointer, parse_body, read_json};
pub use key::{Address, Key, MAX_KEY_LENGTH};
pub use observer::{Observer, Step};
pub use policy::{Failures, MAX_SCOPE, Policy, Scope, hours, interval, seconds};
pub use reply::{Answer, MAX_BODY, Origin, Reply, ReplyTooLarge};
pub use request::{Keyed, OptionallyKeyed};
pub use run::ANSWER_WITHIN;
pub use single_flight::SingleFlight;
pub use store::{FinalizeError, Record, finalize, find, lock};
#[cfg(feature = "support")]
pub use support::{Listed, OnRetry, State, list, rewrite_replies};
pub use sweep::{SWEEP_BATCH, Swept, sweep, sweep_lag};
pub use traits::{Body, Database, Failure};

/// The migrations of the table, in order of version. A release never edits the migration of an earlier release.
pub const MIGRATIONS: EmbeddedMigrations = embed_migrations!();
