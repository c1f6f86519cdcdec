//! What comes in over the wire: typed bodies, page parameters and path ids, and how what is wrong with them is named.

use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::str::FromStr;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use chrono::{DateTime, Datelike, Utc};
use garde::Validate;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::{KnownFormat, ObjectBuilder, RefOr, Required, Schema, SchemaFormat, Type};
use utoipa::{IntoParams, PartialSchema, ToSchema};
use uuid::Uuid;

use crate::error::ApiError;
use crate::idempotency::{Body, FieldError, escape_pointer, read_body, read_json};

/// Items on a page where the client doesn't say.
const DEFAULT_LIMIT: i64 = 20;

/// Items on a page at most: a page of the largest objects stays near a megabyte.
const MAX_LIMIT: i64 = 100;

/// Every request body is read like this: serde for types and members, then garde for ranges.
impl<T: DeserializeOwned + Validate<Context = ()>> Body for T {
    fn parse(json: &Value) -> Result<Self, Vec<FieldError>> {
        let body: T = serde_path_to_error::deserialize(json).map_err(|error| vec![wrong_shape(&error)])?;
        match body.validate() {
            Ok(()) => Ok(body),
            Err(report) => Err(report.iter().map(|(path, error)| wrong_range(path, error)).collect()),
        }
    }
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
    // A missing member has no path of its own; it is named where it would stand.
    if let Some(missing) = detail.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        pointer.push('/');
        pointer.push_str(&escape_pointer(missing));
    }
    FieldError { pointer, detail }
}

fn wrong_range(path: &garde::Path, error: &garde::Error) -> FieldError {
    // garde writes `items[0].quantity`; our members' names hold none of these characters.
    let path = path.to_string().replace('[', "/").replace(']', "").replace('.', "/");
    let pointer = if path.is_empty() { path } else { format!("/{path}") };
    FieldError { pointer, detail: error.message().to_owned() }
}

/// A typed body of a request without a key: for a PUT, which is idempotent by itself.
pub struct Json<T>(pub T);

impl<T: Body + 'static> FromRequest for Json<T> {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            let json = read_json(&read_body(&request, payload).await?)?;
            T::parse(&json).map(Self).map_err(|errors| ApiError::invalid(&errors))
        })
    }
}

/// The body of a request that says all in its path: nothing, or `{}`.
#[derive(Deserialize, Validate, ToSchema)]
#[schema(example = json!({}))]
#[garde(allow_unvalidated)]
#[serde(deny_unknown_fields)]
pub struct NoBody {}

/// The id in the path. What is not a UUID names nothing: 404.
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

/// The query parameters of a list besides those of [`Paging`]. Those that it doesn't know are ignored, as everywhere.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned + Validate<Context = ()> + 'static> FromRequest for Query<T> {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::of(request.query_string()))
    }
}

impl<T: DeserializeOwned + Validate<Context = ()>> Query<T> {
    fn of(query: &str) -> Result<Self, ApiError> {
        let parameters: T = serde_urlencoded::from_str(query).map_err(|error| unreadable_query(&error))?;
        match parameters.validate() {
            Ok(()) => Ok(Self(parameters)),
            Err(report) => {
                let errors: Vec<_> = report.iter().map(|(path, error)| wrong_range(path, error)).collect();
                Err(ApiError::invalid(&errors))
            }
        }
    }
}

fn unreadable_query(error: &serde_urlencoded::de::Error) -> ApiError {
    let detail = format!("the query string can't be read: {error}");
    ApiError::invalid(&[FieldError { pointer: String::new(), detail }])
}

/// `?limit=` and `?after=` of a list whose items are known by a `C`.
pub struct Paging<C: After> {
    /// 1 to 100.
    pub limit: i64,
    /// The last item of the page before.
    pub after: Option<C>,
}

impl<C: After> FromRequest for Paging<C> {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::of(request.query_string()))
    }
}

impl<C: After> Paging<C> {
    fn of(query: &str) -> Result<Self, ApiError> {
        #[derive(Deserialize)]
        struct Parameters {
            limit: Option<String>,
            after: Option<String>,
        }
        let wrong = |name: &str, detail: &str| {
            ApiError::invalid(&[FieldError { pointer: format!("/{name}"), detail: detail.to_owned() }])
        };
        let parameters: Parameters = serde_urlencoded::from_str(query).map_err(|error| unreadable_query(&error))?;
        let limit = match parameters.limit.as_deref().map(str::parse) {
            None => DEFAULT_LIMIT,
            Some(Ok(limit @ 1..=MAX_LIMIT)) => limit,
            Some(_) => return Err(wrong("limit", "limit must be a whole number from 1 to 100")),
        };
        let after = parameters
            .after
            .map(|after| after.parse().map_err(|_| wrong("after", "after must be the last item of the page before")))
            .transpose()?;
        Ok(Self { limit, after })
    }

    /// Rows to ask the database for: one more than the page, to see whether there is more.
    #[must_use]
    pub fn rows(&self) -> i64 {
        self.limit + 1
    }

    /// The page, of what the database had for [`Self::rows`].
    #[must_use]
    pub fn page<T>(&self, mut data: Vec<T>) -> Page<T> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let has_more = data.len() > limit;
        data.truncate(limit);
        Page { data, has_more }
    }
}

/// For the documentation: how the last item of a page is named.
pub trait After: FromStr + 'static {
    /// Of the `after` parameter.
    fn schema() -> RefOr<Schema>;
}

impl After for Uuid {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::String).format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid))).into()
    }
}

impl After for String {
    fn schema() -> RefOr<Schema> {
        <String as PartialSchema>::schema()
    }
}

/// For the documentation: the two parameters of every list.
impl<C: After> IntoParams for Paging<C> {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let optional =
            |name: &str| ParameterBuilder::new().name(name).parameter_in(ParameterIn::Query).required(Required::False);
        let limit = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(1))
            .maximum(Some(MAX_LIMIT))
            .default(Some(DEFAULT_LIMIT.into()));
        vec![
            optional("limit").description(Some("Items on the page.")).schema(Some(limit)).build(),
            optional("after").description(Some("The last item of the page before.")).schema(Some(C::schema())).build(),
        ]
    }
}

/// A list's answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// The items.
    pub data: Vec<T>,
    /// Whether there are more behind the last.
    pub has_more: bool,
}

/// For serde: a point in time as RFC 3339 has it. chrono's own reading takes looser forms, which other servers would not.
///
/// # Errors
/// Where it is not, or lies beyond the year 9999, in which UTC can't be written in this form.
pub fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DateTime<Utc>>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    match DateTime::parse_from_rfc3339(&text).map(|time| time.to_utc()) {
        Ok(time) if (0..=9999).contains(&time.year()) => Ok(Some(time)),
        _ => Err(D::Error::custom("must be a time as RFC 3339 has it, such as 2027-01-31T12:00:00Z")),
    }
}

/// For garde: no control characters, among them NUL, which PostgreSQL's text can't hold.
///
/// # Errors
/// Where there is one.
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
/// Where it is not.
pub fn slug(text: &str, (): &()) -> garde::Result {
    if is_slug(text) { Ok(()) } else { Err(garde::Error::new("must be 1 to 64 of the characters A-Z a-z 0-9 . _ -")) }
}

/// See [`slug`].
#[must_use]
pub fn is_slug(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}
