//! Idempotency keys for actix-web, Diesel and PostgreSQL: the record of a request and its business writes commit in one
//! transaction.
//!
//! # What it guarantees
//! - A request with a key takes effect at most once: also if the client sends the request many times, at once, and to many
//!   processes.
//! - The record and the business writes commit together or not at all. No record commits without its reply.
//! - A retry gets the first final reply: the same status, `Content-Type`, `Location` and body, byte for byte. A 202 is
//!   provisional: [`finalize`] puts the final reply in its place.
//! - If a key comes with another request, that request is refused and changes nothing.
//! - A crash leaves no key stuck: the transaction that held the key ends with its connection.
//! - Duplicates wait without holding a connection.
//!
//! # What it does not do
//! - It remembers nothing beyond a policy's time to live.
//! - It does not undo what a body does outside the database, for example a call or a mail. When the transaction runs again, the
//!   body runs again too. `crates/external-calls` makes a call to the outside safe.
//! - It does not end a 202. A reply with status 202 stays until [`finalize`] replaces it, and each retry waits for [`Policy::wait`]
//!   first. Don't use 202 for "accepted".
//! - It does not authenticate. The caller passes the account, and one account never meets another account's keys.
//! - It does not look at the query string. A parameter that changes the effect must be in the body.
//! - It stores replies as they are. Don't put secrets into replies.
//!
//! # The protocol
//! [`Policy::run`] is one READ COMMITTED transaction, on the database's clock:
//! 1. **Claim.** One statement tries an advisory lock on the key and reads the record. The answer is one of three: the key is
//!    ours, here is the record, or another transaction holds the key.
//! 2. **Replay.** A live record is compared by its fingerprint and replayed, without a row lock and without a write. An expired
//!    record goes through the **guard** (`SELECT .. FOR UPDATE`). If the record is still expired, the transaction deletes it.
//! 3. **Body.** The business writes. Under [`Failures::CacheFailures`] the body runs inside a savepoint, so that a final
//!    failure leaves no writes while its reply is stored.
//! 4. **Record.** One plain INSERT, with the reply. COMMIT.
//!
//! The primary key makes the protocol right. If two transactions of one key come to step 4, the second INSERT fails. The second
//! transaction rolls back, runs again, and then replays. Because of the advisory lock, duplicates don't run the body for
//! nothing, and don't wait inside the database.
//!
//! After a deadlock, a serialization failure or a lost connection, at COMMIT too, the whole transaction runs again, a bounded
//! number of times. This is safe, since record and writes are one transaction: after a lost COMMIT, the database has both
//! or neither.
//!
//! In one process, duplicates wait in memory for the first request (`single_flight.rs`). If another process holds the key, a duplicate
//! looks again after a pause. A duplicate that has waited for [`Policy::wait`] gets 409.
//!
//! # Where to read
//! `transaction.rs` has the four steps on one screen, `store.rs` has the statements, and `run.rs` has what happens around them.
//!
//! # How it reads in a handler
//! ```ignore
//! pub const CREATE_ORDER: Policy = Policy {
//!     route: "POST /v1/orders",
//!     scope: Scope::Account,
//!     failures: Failures::SuccessOnly,
//!     success_ttl: hours(24),
//!     wait: seconds(5),
//! };
//!
//! pub async fn create(account: Account, request: Keyed<NewOrder>, db: Data<Db>) -> Result<HttpResponse, ApiError> {
//!     CREATE_ORDER
//!         .run(&**db, account.id, request, move |conn, new| {
//!             let order = place(conn, account.id, new)?; // plain Diesel: lock, check, insert
//!             Ok::<_, ApiError>(Reply::created(format!("/v1/orders/{}", order.id), &order)?)
//!         })
//!         .await
//! }
//! ```
//! This is `src/orders/mod.rs`, and `place` is in `src/orders/place.rs`. If the path has ids, the handler calls
//! `request.on(id)` for each parsed id.
//!
//! # How to lift it
//! Copy this folder and the migration `idempotency_keys`. Implement three traits: [`Database`] for your pool, [`Failure`] for
//! your error type, [`Body`] for your request bodies. docs/copying.md does this on an empty crate, and `tests/idempotency/` in a
//! toy service. Every connection needs time limits, so that a dead host frees its keys: see [`CONNECTION_LIMITS`].

mod connection;
mod fingerprint;
mod key;
mod policy;
mod records;
mod reply;
mod request;
mod run;
mod schema;
mod single_flight;
mod store;
mod transaction;

use std::fmt::{Debug, Display};
use std::future::Future;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::RETRY_AFTER;
use diesel::pg::PgConnection;
use diesel_migrations::{EmbeddedMigrations, embed_migrations};
use serde::Serialize;
use uuid::Uuid;

pub use connection::{CONNECTION_LIMITS, Fault, Prepared, fault, watched};
pub use fingerprint::{FINGERPRINT_VERSION, MAX_SAFE_INTEGER, Received, escape_pointer, read_json};
pub use key::{Address, IDEMPOTENCY_KEY, Key, MAX_KEY_LENGTH};
pub use policy::{Failures, Policy, Scope, hours, interval, seconds};
pub use records::{Listed, OnRetry, SWEEP_BATCH, State, Swept, list, sweep};
pub use reply::{Answer, IDEMPOTENCY_EXPIRES, IDEMPOTENCY_REPLAYED, MAX_BODY, Origin, Reply, ReplyTooLarge};
pub use request::{Body, Instance, Keyed, MAX_REQUEST_BODY, parse_body, read_body};
pub use single_flight::Flights;
pub use store::{FinalizeError, Record, finalize, find, guard};

/// The migrations of the table, in order of version. A release never edits the migration of an earlier release.
pub const MIGRATIONS: EmbeddedMigrations = embed_migrations!();

/// Where transactions run: a pool of connections, and the flights of this process.
pub trait Database: Clone + Send + Sync + 'static {
    /// Runs `work` with a connection, off the async threads. `work` runs to its end, even if nobody waits for it any more.
    ///
    /// After a failure the connection may be dead, so the pool must test the connection before it hands it out again. A
    /// connection that answers may be useless too, so run `work` through [`watched`]. `account_id` says whose work this is, so
    /// that a pool can be fair. A simple pool ignores it.
    fn run<T, E>(
        &self,
        account_id: Uuid,
        work: impl FnOnce(&mut PgConnection) -> Result<T, E> + Send + 'static,
    ) -> impl Future<Output = Result<T, E>> + Send
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static;

    /// The keys in flight in this process: one [`Flights`] for each database, shared by all clones.
    fn flights(&self) -> &Flights;
}

/// What a body fails with: the service's own error type.
pub trait Failure: From<Error> + From<diesel::result::Error> + Clone + Debug + Display + Send + Sync + 'static {
    /// What the failure means for the key.
    fn nature(&self) -> Nature<'_>;

    /// The failure as a reply, for a policy that stores it. `instance` names this occurrence in a problem document.
    fn reply(&self, instance: Uuid) -> Reply;
}

/// What a failure means for the key.
#[derive(Clone, Copy, Debug)]
pub enum Nature<'a> {
    /// An answer to the request: a policy may store it.
    Final,
    /// The request may succeed in a moment, or something broke: never stored.
    Transient,
    /// The database failed: never stored. After some of these errors the transaction runs again, see [`fault`].
    Database(&'a diesel::result::Error),
}

/// One thing that is wrong with a request body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// JSON pointer (RFC 6901) to the member. If the member is missing: to its place.
    pub pointer: String,
    /// What is wrong, in words for a person.
    pub detail: String,
}

/// What goes wrong before and around a body.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// 400: the route needs a key.
    #[error("this request needs an Idempotency-Key header")]
    KeyMissing,
    /// 400: the header is malformed, empty, too long, or was sent twice.
    #[error("the Idempotency-Key header is invalid: {0}")]
    KeyInvalid(&'static str),
    /// 413: over [`MAX_REQUEST_BODY`].
    #[error("the body is larger than {MAX_REQUEST_BODY} bytes")]
    PayloadTooLarge,
    /// 408: the body did not arrive whole in time. The same request may be sent again.
    #[error("the body did not arrive whole within {} s", request::BODY_WITHIN.as_secs())]
    RequestTimeout,
    /// 415: a body that doesn't say it is JSON, or that is compressed.
    #[error("{0}")]
    UnsupportedMediaType(&'static str),
    /// 400: a body that is not JSON.
    #[error("the body is not JSON: {0}")]
    MalformedJson(String),
    /// 422: JSON of the wrong shape.
    #[error("the body does not have the right shape")]
    InvalidBody(Vec<FieldError>),
    /// 422: the key belongs to another request.
    #[error("this key was used with another request")]
    KeyReused,
    /// 409, with Retry-After: the request in flight took longer than the policy waits.
    #[error("a request with this key is in flight")]
    InFlight,
    /// 409: the key's reply is no longer kept. The key made something, which is not made again.
    #[error("this key's reply is no longer kept; the request is not carried out again")]
    KeyExpired {
        /// What the key made, as a path.
        location: String,
    },
    /// 503, with Retry-After: the queue for connections is full, or the work waited in it for too long.
    #[error("too many requests are waiting for the database")]
    Overloaded,
    /// 503, with Retry-After: no connection could be made.
    #[error("the database can't be reached: {0}")]
    Unreachable(String),
    /// 500: the work panicked; its transaction was rolled back.
    #[error("the work panicked")]
    Panicked,
    /// 500: see [`MAX_BODY`]; the transaction was rolled back.
    #[error(transparent)]
    ReplyTooLarge(#[from] ReplyTooLarge),
    /// 500, a defect of the endpoint: the handler did not name each id of the policy's route by [`Keyed::on`].
    #[error("the handler of {0} must name each id of its path")]
    ResourceNotNamed(&'static str),
    /// 500: a later release made the record, and this release can't compute that release's fingerprints.
    #[error("the record's fingerprint is of version {0}, which this release does not know")]
    UnknownFingerprint(u8),
}

impl actix_web::ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::KeyMissing | Self::KeyInvalid(_) | Self::MalformedJson(_) => StatusCode::BAD_REQUEST,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::InvalidBody(_) | Self::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::InFlight | Self::KeyExpired { .. } => StatusCode::CONFLICT,
            Self::Overloaded | Self::Unreachable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Panicked | Self::ReplyTooLarge(_) | Self::ResourceNotNamed(_) | Self::UnknownFingerprint(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }

    /// The whole answer, for a service without error documents of its own: an RFC 9457 problem document, with Retry-After if the
    /// same request may be sent again. A service with its own documents takes `Result<Keyed<T>, ServiceError>` in its handlers.
    fn error_response(&self) -> HttpResponse {
        let status = self.status_code();
        let mut problem = serde_json::json!({
            "type": "about:blank",
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "detail": if status.is_server_error() { "the request could not be served".to_owned() } else { self.to_string() },
        });
        match self {
            Self::InvalidBody(errors) => problem["errors"] = serde_json::json!(errors),
            Self::KeyExpired { location } => problem["resource"] = serde_json::json!(location),
            _ => {}
        }
        let mut response = HttpResponse::build(status);
        if status.is_server_error() || matches!(self, Self::InFlight | Self::RequestTimeout) {
            response.insert_header((RETRY_AFTER, "1"));
        }
        response.content_type("application/problem+json").body(problem.to_string())
    }
}
