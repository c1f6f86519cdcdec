// SPDX-License-Identifier: MIT OR Apache-2.0
//! What goes wrong before and around a body.

use std::time::Duration;

use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

use crate::reply::ReplyTooLarge;

/// The largest request body, in bytes, since it is held in memory whole. An order of a hundred items is a tenth of
/// this.
pub const MAX_REQUEST_BODY: usize = 64 * 1024;

/// How long a body may take to arrive. On a slow phone the largest takes a second. A client that needs ten seconds is
/// only tying up a connection.
pub const BODY_WITHIN: Duration = Duration::from_secs(10);

/// One thing that is wrong with a request body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// JSON pointer (RFC 6901) to the member, or to its place if it is missing.
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
    /// 408: the whole body did not arrive in time. The client may send the same request again.
    #[error("the body did not arrive whole within {} s", BODY_WITHIN.as_secs())]
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
    /// 409: the key's reply is no longer kept. The key created something, which is never created twice.
    #[error("this key's reply is no longer kept; the request is not carried out again")]
    KeyExpired {
        /// The path of what the key created.
        location: String,
    },
    /// 503, with Retry-After: the queue for connections is full, or the work waited in it for too long.
    #[error("too many requests are waiting for the database")]
    Overloaded,
    /// 503, with Retry-After: no connection could be made, or the database did not answer in time.
    #[error("the database can't be reached: {0}")]
    Unreachable(String),
    /// 500: the work panicked; its transaction was rolled back.
    #[error("the work panicked")]
    Panicked,
    /// 500: see [`MAX_BODY`](crate::MAX_BODY); the transaction was rolled back.
    #[error(transparent)]
    ReplyTooLarge(#[from] ReplyTooLarge),
    /// 404: an id of the path is too long for the table's `scope`, or contains NUL, which no PostgreSQL text does.
    #[error("there is no such resource")]
    NoSuchResource,
    /// 500, a defect of the endpoint: the handler did not name each id of the policy's route by [`Keyed::on`](crate::Keyed::on).
    #[error("the handler of {0} must name each id of its path")]
    ResourceNotNamed(&'static str),
    /// 500: a later release made the record, and this release can't compute that release's fingerprints.
    #[error("the record's fingerprint is of version {0}, which this release does not know")]
    UnknownFingerprint(i16),
}

impl Error {
    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::KeyMissing | Self::KeyInvalid(_) | Self::MalformedJson(_) => 400,
            Self::NoSuchResource => 404,
            Self::RequestTimeout => 408,
            Self::InFlight | Self::KeyExpired { .. } => 409,
            Self::PayloadTooLarge => 413,
            Self::UnsupportedMediaType(_) => 415,
            Self::InvalidBody(_) | Self::KeyReused => 422,
            Self::Panicked | Self::ReplyTooLarge(_) | Self::ResourceNotNamed(_) | Self::UnknownFingerprint(_) => 500,
            Self::Overloaded | Self::Unreachable(_) => 503,
        }
    }

    /// What the client should do next: `again` (send the same request with the same key, after `Retry-After`), `fix` (change the request first; the
    /// key is free), `new-key` (the key belongs to another request) or `never` (look at what the key made).
    #[must_use]
    pub fn retry(&self) -> &'static str {
        match self {
            Self::InFlight | Self::RequestTimeout => "again",
            _ if self.status() >= 500 => "again",
            Self::KeyReused => "new-key",
            Self::KeyExpired { .. } => "never",
            _ => "fix",
        }
    }

    /// An RFC 9457 problem document: type, title, status, detail, [`retry`](Self::retry), and where they say something `errors`
    /// and `resource`. A service with its own documents may take them from here.
    #[must_use]
    pub fn problem(&self) -> Value {
        let status = self.status();
        let title = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
        let detail = if status >= 500 { "the request could not be served".to_owned() } else { self.to_string() };
        let mut problem =
            json!({"type": "about:blank", "title": title, "status": status, "detail": detail, "retry": self.retry()});
        match self {
            Self::InvalidBody(errors) => problem["errors"] = json!(errors),
            Self::KeyExpired { location } => problem["resource"] = json!(location),
            _ => {}
        }
        problem
    }
}
