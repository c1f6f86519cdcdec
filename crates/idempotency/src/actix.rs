//! The web framework: the extractor of [`Keyed`], and how an [`Answer`] and an [`Error`] become a response. No other file of the
//! crate uses actix-web.
//!
//! The checks come in this order: size (413) and time (408), media type (415), key (400), JSON (400), shape (422). No check uses
//! the database.

use std::future::Future;
use std::pin::Pin;

use actix_web::body::BoxBody;
use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use actix_web::{FromRequest, HttpMessage, HttpRequest, HttpResponse, Responder, ResponseError};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::time::timeout;
use uuid::Uuid;

use crate::error::{BODY_WITHIN, Error, MAX_REQUEST_BODY};
use crate::key::Key;
use crate::reply::{Answer, Origin, Reply};
use crate::request::Keyed;
use crate::traits::Body;

/// The request header that carries the key.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// `true` on every answer, except the answer to the request whose own body ran.
pub const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// When the reply expires: an HTTP date.
pub const IDEMPOTENCY_EXPIRES: HeaderName = HeaderName::from_static("idempotency-expires");

/// The id of this request, as a middleware may put it into the request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Instance(pub Uuid);

/// The credential that this request came with, as a middleware may put it into the request's extensions. The record shows it.
#[derive(Clone, Debug)]
pub struct Credential(pub String);

impl Key {
    /// Reads the one `Idempotency-Key` header of a request.
    ///
    /// # Errors
    /// [`Error::KeyMissing`]: there is no header. [`Error::KeyInvalid`]: there are two, or the header doesn't parse.
    pub fn of(request: &HttpRequest) -> Result<Self, Error> {
        let mut values = request.headers().get_all(IDEMPOTENCY_KEY);
        let value = values.next().ok_or(Error::KeyMissing)?;
        if values.next().is_some() {
            return Err(Error::KeyInvalid("the header was sent more than once"));
        }
        Self::parse(value.as_bytes())
    }
}

impl<T: Body + 'static> FromRequest for Keyed<T> {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Error>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            let body = read_body(&request, payload).await?;
            let instance = request.extensions().get::<Instance>().map_or_else(Uuid::new_v4, |id| id.0);
            let credential = request.extensions().get::<Credential>().map(|credential| credential.0.clone());
            let mut keyed = Self::new(Key::of(&request)?, &body, instance)?;
            keyed.credential = credential;
            Ok(keyed)
        })
    }
}

/// Reads a whole JSON body. An empty body needs no `Content-Type`.
///
/// # Errors
/// [`Error::PayloadTooLarge`]. [`Error::UnsupportedMediaType`]. [`Error::RequestTimeout`]: the body took longer than ten
/// seconds. [`Error::MalformedJson`]: the body broke off.
pub async fn read_body(request: &HttpRequest, payload: Payload) -> Result<Bytes, Error> {
    let bytes = timeout(BODY_WITHIN, gather(payload)).await.map_err(|_| Error::RequestTimeout)??;
    if bytes.is_empty() {
        return Ok(bytes);
    }
    // A small compressed body may unpack to any size.
    if is_encoded(request) {
        return Err(Error::UnsupportedMediaType("the body must not be compressed"));
    }
    if !is_json(request) {
        return Err(Error::UnsupportedMediaType("the body must be application/json"));
    }
    Ok(bytes)
}

/// Whether the body has a content coding, such as gzip.
fn is_encoded(request: &HttpRequest) -> bool {
    let codings = request.headers().get_all(CONTENT_ENCODING);
    codings.into_iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

async fn gather(mut payload: Payload) -> Result<Bytes, Error> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|e| Error::MalformedJson(format!("the body broke off: {e}")))?;
        if bytes.len() + chunk.len() > MAX_REQUEST_BODY {
            return Err(Error::PayloadTooLarge);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}

/// Whether there is one `Content-Type`, of `application/json` or with the suffix `+json`. Parameters don't matter.
fn is_json(request: &HttpRequest) -> bool {
    let mut types = request.headers().get_all(CONTENT_TYPE).filter_map(|value| value.to_str().ok());
    let (Some(value), None) = (types.next(), types.next()) else { return false };
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

impl Reply {
    /// The reply as an HTTP response. A service renders its failures this way too, so that a stored failure and a failure that
    /// is not stored look the same.
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
}

/// The reply with its idempotency headers. The response's extensions hold the [`Origin`].
impl Responder for Answer {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
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

/// The whole answer, for a service without error documents: an RFC 9457 problem document, with Retry-After if the client may
/// send the same request again. A service with its own documents takes `Result<Keyed<T>, ServiceError>` in its handlers.
impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let status = self.status_code();
        let mut response = HttpResponse::build(status);
        if self.may_be_retried() {
            response.insert_header((RETRY_AFTER, "1"));
        }
        let problem = self.problem(status.canonical_reason());
        response.content_type("application/problem+json").body(problem.to_string())
    }
}
