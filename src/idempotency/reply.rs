//! A reply as it is stored, and the answer that it becomes.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use actix_web::web::Bytes;
use chrono::{DateTime, Utc};
use serde::Serialize;

/// `true` on every answer but that of the request whose own body ran.
pub const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// When the reply stops being replayed: an HTTP date.
pub const IDEMPOTENCY_EXPIRES: HeaderName = HeaderName::from_static("idempotency-expires");

/// The largest body that is stored, in bytes. A reply is stored once for each key for a day, so it must stay small; a
/// quarter of a mebibyte is several times what the largest order says. A larger one fails loudly and rolls back.
pub const MAX_BODY: usize = 256 * 1024;

/// What a client that reads 202 should wait before it asks again, in seconds: less would poll, more would bore.
const PROVISIONAL_RETRY_AFTER: u64 = 1;

/// Status, headers and body as stored and replayed. The headers are an allow-list of two: whatever else an answer carries
/// (dates, request ids, cookies) belongs to that answer alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status. Only a 202 is provisional.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Location`.
    pub location: Option<String>,
    /// The body, byte for byte.
    pub body: Bytes,
}

impl Reply {
    /// A JSON reply.
    ///
    /// # Errors
    /// Where `body` doesn't serialize: a map with keys that aren't strings, or a `Serialize` that fails.
    pub fn json<T: Serialize>(status: u16, body: &T) -> Result<Self, serde_json::Error> {
        let body = Bytes::from(serde_json::to_vec(body)?);
        Ok(Self { status, content_type: Some("application/json".to_owned()), location: None, body })
    }

    /// 201 with the `Location` of what was made.
    ///
    /// # Errors
    /// As [`Reply::json`].
    pub fn created<T: Serialize>(location: String, body: &T) -> Result<Self, serde_json::Error> {
        Ok(Self { location: Some(location), ..Self::json(201, body)? })
    }

    /// 200.
    ///
    /// # Errors
    /// As [`Reply::json`].
    pub fn ok<T: Serialize>(body: &T) -> Result<Self, serde_json::Error> {
        Self::json(200, body)
    }

    /// The reply as an HTTP response. A service renders its failures by this too, so that a stored failure and one that
    /// is not stored can't drift apart.
    #[must_use]
    pub fn into_response(self) -> HttpResponse {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = HttpResponse::build(status);
        if let Some(content_type) = self.content_type {
            response.insert_header((CONTENT_TYPE, content_type));
        }
        if let Some(location) = self.location {
            response.insert_header((LOCATION, location));
        }
        response.body(self.body)
    }

    /// Whether a later reply takes this one's place.
    #[must_use]
    pub fn is_provisional(&self) -> bool {
        self.status == 202
    }
}

/// How an answer came about. It says whether the answer carries `Idempotency-Replayed`, and belongs into logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This request's own body ran.
    Fresh,
    /// This request's own body ran, and its reply was found again after a commit whose outcome was lost.
    Recovered,
    /// The record's reply, made by an earlier or a concurrent request.
    Replayed,
}

/// What a request is answered: plain data, so that it may cross threads.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The stored reply.
    pub reply: Reply,
    /// Whose body made it.
    pub origin: Origin,
    /// When it stops being replayed; none while it is provisional.
    pub expires_at: Option<DateTime<Utc>>,
    /// While the reply is provisional: seconds until the client should ask again.
    pub retry_after: u64,
}

impl Answer {
    pub(super) fn new(reply: Reply, origin: Origin, expires_at: Option<DateTime<Utc>>) -> Self {
        Self { reply, origin, expires_at, retry_after: PROVISIONAL_RETRY_AFTER }
    }

    /// The HTTP response, with the headers that say what it is. Its extensions hold the [`Origin`].
    #[must_use]
    pub fn into_response(self) -> HttpResponse {
        let provisional = self.reply.is_provisional();
        let mut response = self.reply.into_response();
        let headers = response.headers_mut();
        if let Some(expires_at) = self.expires_at
            && let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(expires_at.into()))
        {
            headers.insert(IDEMPOTENCY_EXPIRES, date);
        }
        if provisional {
            headers.insert(RETRY_AFTER, self.retry_after.into());
        }
        if self.origin == Origin::Replayed {
            headers.insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
        }
        response.extensions_mut().insert(self.origin);
        response
    }
}
