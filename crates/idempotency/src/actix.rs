// SPDX-License-Identifier: MIT OR Apache-2.0
//! actix-web: the extractors of [`Keyed`] and [`OptionallyKeyed`], and how an [`Answer`] and an [`Error`] become a
//! response. No other file of the crate uses actix-web, and this one is behind the feature `actix`.

use std::future::Future;
use std::pin::Pin;

use actix_web::body::BoxBody;
use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::{FromRequest, HttpMessage, HttpRequest, HttpResponse, Responder, ResponseError};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use tokio::time::timeout;
use uuid::Uuid;

use crate::error::{BODY_WITHIN, Error, MAX_REQUEST_BODY};
use crate::http::{IDEMPOTENCY_KEY, check_body};
use crate::key::Key;
use crate::reply::{Answer, Reply};
use crate::request::{Keyed, OptionallyKeyed};
use crate::traits::Body;

/// The id of this request, as a middleware may put it into the request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Instance(pub Uuid);

/// The credential that this request came with, as a middleware may put it into the request's extensions. The record shows it.
#[derive(Clone, Debug)]
pub struct Credential(pub String);

impl Key {
    /// As [`Key::from_headers`].
    ///
    /// # Errors
    /// As [`Key::from_headers`].
    pub fn of(request: &HttpRequest) -> Result<Self, Error> {
        Self::from_headers(&headers_of(request))
    }
}

/// The headers that this crate reads. actix-web has the types of an older release of `http`.
fn headers_of(request: &HttpRequest) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for name in [HeaderName::from_static(IDEMPOTENCY_KEY), CONTENT_TYPE, CONTENT_ENCODING] {
        for value in request.headers().get_all(name.as_str()) {
            // Both releases allow the same values, so no value is lost.
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                headers.append(&name, value);
            }
        }
    }
    headers
}

type Extracted<T> = Pin<Box<dyn Future<Output = Result<T, Error>>>>;

impl<T: Body + 'static> FromRequest for Keyed<T> {
    type Error = Error;
    type Future = Extracted<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        extract(request, payload, Self::from_http, |keyed| keyed)
    }
}

impl<T: Body + 'static> FromRequest for OptionallyKeyed<T> {
    type Error = Error;
    type Future = Extracted<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        extract(request, payload, Self::from_http, |optionally| &mut optionally.request)
    }
}

/// Reads the body, then the request by `from_http`, and notes the credential in its `keyed`.
fn extract<R: 'static, T: 'static>(
    request: &HttpRequest,
    payload: &mut Payload,
    from_http: fn(&HeaderMap, &[u8], Uuid) -> Result<R, Error>,
    keyed: fn(&mut R) -> &mut Keyed<T>,
) -> Extracted<R> {
    let (request, payload) = (request.clone(), payload.take());
    Box::pin(async move {
        let body = gather(payload).await?;
        let instance = request.extensions().get::<Instance>().map_or_else(Uuid::new_v4, |id| id.0);
        let mut read = from_http(&headers_of(&request), &body, instance)?;
        keyed(&mut read).credential = request.extensions().get::<Credential>().map(|credential| credential.0.clone());
        Ok(read)
    })
}

/// Reads a whole JSON body. An empty body needs no `Content-Type`.
///
/// # Errors
/// [`Error::PayloadTooLarge`]. [`Error::UnsupportedMediaType`]. [`Error::RequestTimeout`]: the body took longer than ten
/// seconds. [`Error::MalformedJson`]: the body broke off.
pub async fn read_body(request: &HttpRequest, payload: Payload) -> Result<Bytes, Error> {
    let bytes = gather(payload).await?;
    check_body(&headers_of(request), &bytes)?;
    Ok(bytes)
}

async fn gather(mut payload: Payload) -> Result<Bytes, Error> {
    let whole = async {
        let mut bytes = BytesMut::new();
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|e| Error::MalformedJson(format!("the body broke off: {e}")))?;
            if bytes.len() + chunk.len() > MAX_REQUEST_BODY {
                return Err(Error::PayloadTooLarge);
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    };
    timeout(BODY_WITHIN, whole).await.map_err(|_| Error::RequestTimeout)?
}

fn into_actix(response: Response<Bytes>) -> HttpResponse {
    let (parts, body) = response.into_parts();
    let mut response = HttpResponse::build(status_of(parts.status.as_u16()));
    for (name, value) in &parts.headers {
        response.append_header((name.as_str(), value.as_bytes()));
    }
    response.body(body)
}

fn status_of(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

impl Reply {
    /// As [`Reply::into_http`].
    #[must_use]
    pub fn into_response(self) -> HttpResponse {
        into_actix(self.into_http())
    }
}

/// As [`Answer::into_http`].
impl Responder for Answer {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        let origin = self.origin;
        let mut response = into_actix(self.into_http());
        response.extensions_mut().insert(origin);
        response
    }
}

/// As [`Error::to_http`]. A service with its own documents takes `Result<Keyed<T>, ServiceError>` in its handlers.
impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        status_of(self.status())
    }

    fn error_response(&self) -> HttpResponse {
        into_actix(self.to_http())
    }
}
