//! What a client sends: typed bodies, path ids and the queries of lists.
//!
//! Guarantees: the answer names all faults of a body or a query at once, each with a pointer.

use std::future::{Future, Ready, ready};
use std::ops::Deref;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use chrono::{DateTime, Datelike, Utc};
use garde::Validate;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::shape::faults;
use crate::http::ApiError;
use idempotency::{Body, FieldError, escape_pointer, parse_body, read_body};

/// Reads every request body. The documented schema checks types, members and ranges. Then serde reads the body. Then garde
/// checks what a schema can't express.
pub struct Checked<T>(pub T);

/// A request with a key and a checked body.
pub type Keyed<T> = idempotency::Keyed<Checked<T>>;

impl<T> Deref for Checked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: DeserializeOwned + Validate<Context = ()> + ToSchema + 'static> Body for Checked<T> {
    fn parse(json: &Value) -> Result<Self, Vec<FieldError>> {
        let mut errors = faults::<T>(json, schema_of::<T>);
        let mut add = |error: FieldError| {
            let inside = |known: &FieldError| {
                error.pointer.strip_prefix(&known.pointer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            if !errors.iter().any(inside) {
                errors.push(error);
            }
        };
        let body: Result<T, _> = serde_path_to_error::deserialize(json);
        match &body {
            Ok(body) => {
                let report = body.validate().err();
                report.iter().flat_map(garde::Report::iter).for_each(|(path, error)| add(wrong_range(path, error)));
            }
            Err(error) => add(wrong_shape(error)),
        }
        match body {
            Ok(body) if errors.is_empty() => Ok(Self(body)),
            _ => Err(errors),
        }
    }
}

/// The schema of a body as in the OpenAPI document, with all schemas that it refers to.
fn schema_of<T: ToSchema>() -> Value {
    let mut referred = Vec::new();
    T::schemas(&mut referred);
    let referred: Map<_, _> = referred.into_iter().map(|(name, schema)| (name, json!(schema))).collect();
    let mut schema = json!(T::schema());
    schema["components"] = json!({"schemas": referred});
    schema
}

fn wrong_shape(error: &serde_path_to_error::Error<serde_json::Error>) -> FieldError {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in error.path() {
        let token = match segment {
            Segment::Seq { index } => index.to_string(),
            Segment::Map { key } => escape_pointer(key),
            Segment::Enum { .. } | Segment::Unknown => continue,
        };
        pointer.push('/');
        pointer.push_str(&token);
    }
    let detail = error.inner().to_string();
    // A missing member has no path. Its pointer is the place of the member.
    if let Some(missing) = detail.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        pointer.push('/');
        pointer.push_str(&escape_pointer(missing));
    }
    FieldError { pointer, detail }
}

fn wrong_range(path: &garde::Path, error: &garde::Error) -> FieldError {
    // garde writes `items[0].quantity`. The names of our members have none of these characters.
    let path = path.to_string().replace('[', "/").replace(']', "").replace('.', "/");
    let pointer = if path.is_empty() { path } else { format!("/{path}") };
    FieldError { pointer, detail: error.message().to_owned() }
}

/// A typed body of a request without a key, for example of a PUT, which is idempotent by itself.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned + Validate<Context = ()> + ToSchema + 'static> FromRequest for Json<T> {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            let (_, Checked(body)) = parse_body(&read_body(&request, payload).await?)?;
            Ok(Self(body))
        })
    }
}

/// The body of a request whose path says everything: no body, or `{}`.
#[derive(Deserialize, Validate, ToSchema)]
#[schema(example = json!({}))]
#[garde(allow_unvalidated)]
#[serde(deny_unknown_fields)]
pub struct NoBody {}

/// The id in the path. If the id is no UUID, the answer is 404.
#[derive(Clone, Copy, IntoParams)]
#[into_params(names("id"), parameter_in = Path)]
pub struct Id(pub Uuid);

impl FromRequest for Id {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let id = request.match_info().get("id").and_then(|id| Uuid::try_parse(id).ok());
        ready(id.map(Self).ok_or_else(|| ApiError::not_found("resource")))
    }
}

/// For serde: a time in RFC 3339. chrono's own parser accepts looser forms, which other servers refuse.
///
/// # Errors
/// If the text is not RFC 3339, or the year in UTC is not from 0 to 9999. RFC 3339 can't write any other year.
pub fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DateTime<Utc>>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    match DateTime::parse_from_rfc3339(&text).map(|time| time.to_utc()) {
        Ok(time) if (0..=9999).contains(&time.year()) => Ok(Some(time)),
        _ => Err(D::Error::custom("must be a time in RFC 3339, such as 2027-01-31T12:00:00Z")),
    }
}

/// For garde: refuses control characters. One of them is NUL, which PostgreSQL's text can't hold.
///
/// # Errors
/// If the text has a control character.
pub fn printable(text: &str, (): &()) -> garde::Result {
    if text.chars().any(char::is_control) {
        Err(garde::Error::new("control characters are not allowed"))
    } else {
        Ok(())
    }
}

/// For garde: a name for machines, such as a SKU or a feature: 1 to 64 of `A-Z a-z 0-9 . _ -`.
///
/// # Errors
/// If the text is not such a name.
pub fn slug(text: &str, (): &()) -> garde::Result {
    if is_slug(text) { Ok(()) } else { Err(garde::Error::new("must be 1 to 64 of the characters A-Z a-z 0-9 . _ -")) }
}

/// Whether [`slug`] accepts the text.
#[must_use]
pub fn is_slug(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}
