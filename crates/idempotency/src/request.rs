//! `Keyed<T>`: the extractor that gives a handler the key, the received JSON and the typed body.
//!
//! The checks come in this order: size (413) and time (408), media type (415), key (400), JSON (400), shape (422). No check
//! uses the database.

use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use actix_web::web::{Bytes, BytesMut};
use actix_web::{FromRequest, HttpMessage, HttpRequest};
use futures_util::StreamExt;
use serde_json::Value;
use tokio::time::timeout;
use uuid::Uuid;

use super::fingerprint::{MAX_FAULTS, Received, canonical, read_json, unsafe_integers};
use super::key::{Address, Key};
use super::policy::Policy;
use super::{Error, FieldError};

/// The largest request body, in bytes. The whole body is held in memory. An order of a hundred items is a tenth of this.
pub const MAX_REQUEST_BODY: usize = 64 * 1024;

/// How long a body may take to arrive. The largest body takes a second on a slow phone. A client that needs ten seconds only
/// holds a connection.
pub(super) const BODY_WITHIN: Duration = Duration::from_secs(10);

/// A request with a key.
#[derive(Clone, Debug)]
pub struct Keyed<T> {
    /// The client's key.
    pub key: Key,
    /// The typed body.
    pub body: T,
    /// The request's id, for a problem's `instance`: the [`Instance`], or a random id if no middleware set one.
    pub instance: Uuid,
    /// The JSON as it was received, in canonical form. The fingerprint covers it.
    canonical: Vec<u8>,
    ids: Vec<String>,
}

impl<T> Keyed<T> {
    /// Names one id of the path, as the handler parsed it. Call it once for each `{..}` of the policy's route, in order. So two
    /// spellings of one id (`/permits/1` and `/permits/01`) are one resource, and a key has one effect there.
    ///
    /// The table's `scope` holds 512 characters: the method, the path and the ids. Limit your ids if they are longer texts.
    #[must_use]
    pub fn on(mut self, id: impl Display) -> Self {
        self.ids.push(id.to_string());
        self
    }

    /// The address of this request's record under a policy.
    ///
    /// # Errors
    /// [`Error::ResourceNotNamed`].
    pub fn address(&self, account_id: Uuid, policy: &Policy) -> Result<Address, Error> {
        Address::new(account_id, policy, &self.ids, &self.key)
    }

    /// The content that the fingerprint covers, the typed body, and the instance.
    pub(super) fn received(self, policy: &Policy) -> Result<(Received, T, Uuid), Error> {
        let received = Received::new(policy.method(), policy.path(&self.ids)?, self.canonical);
        Ok((received, self.body, self.instance))
    }
}

/// The id of this request, as a middleware may put it into the request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Instance(pub Uuid);

/// How a typed body is made from JSON. Implement it once for all bodies of a service, on top of the service's validation.
pub trait Body: Sized {
    /// Checks the shape: types, ranges, unknown and missing members.
    ///
    /// # Errors
    /// All that is wrong, each with a JSON pointer. If a member is missing, the pointer names its place.
    fn parse(json: &Value) -> Result<Self, Vec<FieldError>>;
}

impl<T: Body + 'static> FromRequest for Keyed<T> {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Error>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            let bytes = read_body(&request, payload).await?;
            let key = Key::of(&request)?;
            let (json, body) = parse_body(&bytes)?;
            let canonical = canonical(&json)?;
            let instance = request.extensions().get::<Instance>().map_or_else(Uuid::new_v4, |id| id.0);
            Ok(Self { key, body, instance, canonical, ids: Vec::new() })
        })
    }
}

/// Reads the JSON and the typed body, and returns all that is wrong at once.
///
/// # Errors
/// [`Error::MalformedJson`], [`Error::InvalidBody`].
pub fn parse_body<T: Body>(bytes: &[u8]) -> Result<(Value, T), Error> {
    let json = read_json(bytes)?;
    let mut errors = unsafe_integers(&json);
    match T::parse(&json) {
        Ok(body) if errors.is_empty() => return Ok((json, body)),
        Ok(_) => {}
        Err(more) => {
            errors.retain(|error| !more.iter().any(|other| other.pointer == error.pointer));
            errors.extend(more);
            errors.truncate(MAX_FAULTS);
        }
    }
    Err(Error::InvalidBody(errors))
}

/// Reads a whole JSON body. An empty body needs no `Content-Type`.
///
/// # Errors
/// [`Error::PayloadTooLarge`]. [`Error::UnsupportedMediaType`]. [`Error::RequestTimeout`]: the body took longer than ten
/// seconds. [`Error::MalformedJson`]: the body broke off.
pub async fn read_body(request: &HttpRequest, payload: Payload) -> Result<Bytes, Error> {
    let bytes = timeout(BODY_WITHIN, gather(payload)).await.map_err(|_| Error::RequestTimeout)??;
    match () {
        () if bytes.is_empty() => Ok(bytes),
        // A small compressed body may unpack to any size.
        () if is_encoded(request) => Err(Error::UnsupportedMediaType("the body must not be compressed")),
        () if !is_json(request) => Err(Error::UnsupportedMediaType("the body must be application/json")),
        () => Ok(bytes),
    }
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
