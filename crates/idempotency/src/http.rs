// SPDX-License-Identifier: MIT OR Apache-2.0
//! A request and its answer as `http` types, for any web framework. `actix.rs` is the layer above for actix-web.
//!
//! The checks come in this order: size (413), media type (415), key (400), JSON (400), shape (422). No check uses the database.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use uuid::Uuid;

use crate::error::{Error, MAX_REQUEST_BODY};
use crate::key::Key;
use crate::reply::{Answer, Origin, Reply};
use crate::request::{Keyed, OptionallyKeyed};
use crate::traits::Body;

/// The request header that carries the key.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// `true` on every answer, except the answer to the request whose own body ran.
pub const IDEMPOTENCY_REPLAYED: &str = "idempotency-replayed";

/// When the reply expires: an HTTP date.
pub const IDEMPOTENCY_EXPIRES: &str = "idempotency-expires";

impl Key {
    /// Reads the one `Idempotency-Key` header of a request.
    ///
    /// # Errors
    /// [`Error::KeyMissing`]: there is no header. [`Error::KeyInvalid`]: there are two, or the header doesn't parse.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, Error> {
        let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
        let value = values.next().ok_or(Error::KeyMissing)?;
        if values.next().is_some() {
            return Err(Error::KeyInvalid("the header was sent more than once"));
        }
        Self::parse(value.as_bytes())
    }
}

impl<T: Body> Keyed<T> {
    /// A request as a web framework has read it. Let the framework read at most [`MAX_REQUEST_BODY`] bytes, and abandon
    /// a body that does not arrive within some ten seconds. `instance` is the request's id.
    ///
    /// # Errors
    /// [`Error::PayloadTooLarge`], [`Error::UnsupportedMediaType`], [`Error::KeyMissing`], [`Error::KeyInvalid`],
    /// [`Error::MalformedJson`], [`Error::InvalidBody`].
    pub fn from_http(headers: &HeaderMap, body: &[u8], instance: Uuid) -> Result<Self, Error> {
        check_body(headers, body)?;
        Self::new(Key::from_headers(headers)?, body, instance)
    }
}

impl<T: Body> OptionallyKeyed<T> {
    /// As [`Keyed::from_http`], for an endpoint whose clients may leave out the key.
    ///
    /// # Errors
    /// As [`Keyed::from_http`], but never [`Error::KeyMissing`].
    pub fn from_http(headers: &HeaderMap, body: &[u8], instance: Uuid) -> Result<Self, Error> {
        check_body(headers, body)?;
        let (key, is_keyed) = match Key::from_headers(headers) {
            Err(Error::KeyMissing) => (Key::random(), false),
            key => (key?, true),
        };
        Ok(Self { request: Keyed::new(key, body, instance)?, is_keyed })
    }
}

/// Whether the body may be read as JSON. An empty body needs no `Content-Type`.
///
/// # Errors
/// [`Error::PayloadTooLarge`], [`Error::UnsupportedMediaType`].
pub(crate) fn check_body(headers: &HeaderMap, body: &[u8]) -> Result<(), Error> {
    if body.len() > MAX_REQUEST_BODY {
        return Err(Error::PayloadTooLarge);
    }
    if body.is_empty() {
        return Ok(());
    }
    // A small compressed body may unpack to any size.
    if is_encoded(headers) {
        return Err(Error::UnsupportedMediaType("the body must not be compressed"));
    }
    if !is_json(headers) {
        return Err(Error::UnsupportedMediaType("the body must be application/json"));
    }
    Ok(())
}

/// Whether the body has a content coding, such as gzip.
fn is_encoded(headers: &HeaderMap) -> bool {
    let codings = headers.get_all(CONTENT_ENCODING);
    codings.into_iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Whether there is one `Content-Type`, of `application/json` or with the suffix `+json`. Parameters don't matter.
fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter().filter_map(|value| value.to_str().ok());
    let (Some(value), None) = (types.next(), types.next()) else { return false };
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

impl Reply {
    /// The reply as an HTTP response. A service renders its failures this way too, so that a stored failure and a failure that
    /// is not stored look the same.
    #[must_use]
    pub fn into_http(self) -> Response<Bytes> {
        let mut response = Response::builder().status(self.status);
        if let Some(content_type) = self.content_type {
            response = response.header(CONTENT_TYPE, content_type);
        }
        if let Some(location) = self.location {
            response = response.header(LOCATION, location);
        }
        // Only a defective endpoint produces a status or a header that HTTP does not allow.
        response.body(self.body).unwrap_or_else(|_| {
            let mut broken = Response::new(Bytes::new());
            *broken.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            broken
        })
    }
}

impl Answer {
    /// The reply with its idempotency headers. The response's extensions hold the [`Origin`].
    #[must_use]
    pub fn into_http(self) -> Response<Bytes> {
        let provisional = self.reply.is_provisional();
        let mut response = self.reply.into_http();
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

impl Error {
    /// The whole answer, for a service without error documents: an RFC 9457 problem document, with Retry-After if the client
    /// may send the same request again.
    #[must_use]
    pub fn to_http(&self) -> Response<Bytes> {
        let content_type = Some("application/problem+json".to_owned());
        let body = Bytes::from(self.problem().to_string());
        let mut response = Reply { status: self.status(), content_type, location: None, body }.into_http();
        if self.retry() == "again" {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
