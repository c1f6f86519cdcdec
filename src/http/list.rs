//! Lists: pages, filters and their query parameters.
//!
//! Guarantees: an unknown parameter is refused. A client that misspells a filter must not get the whole list.

use std::future::{Ready, ready};
use std::str::FromStr;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use chrono::{DateTime, Utc};
use diesel::dsl::{GtEq, Lt};
use diesel::expression_methods::ExpressionMethods;
use diesel::query_dsl::methods::FilterDsl;
use diesel::sql_types::Timestamptz;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::{KnownFormat, ObjectBuilder, RefOr, Required, Schema, SchemaFormat, Type};
use utoipa::{IntoParams, PartialSchema, ToSchema};
use uuid::Uuid;

use super::body::time;
use super::shape::faults;
use crate::http::ApiError;
use idempotency::{FieldError, escape_pointer};

/// The items on a page if the client sends no `limit`.
const DEFAULT_LIMIT: i64 = 20;

/// The most items on a page. A page of the largest objects stays near a megabyte.
const MAX_LIMIT: i64 = 100;

/// The query of a list: `?limit=`, `?after=`, and the list's own filter. A `C` names an item, for example a UUID.
pub struct Paging<C: After, F = NoFilter> {
    /// 1 to 100.
    pub limit: i64,
    /// The last item of the previous page.
    pub after: Option<C>,
    /// The list's own filter.
    pub filter: F,
}

/// The filter of a list without a filter.
#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams)]
pub struct NoFilter {}

/// A filter, and a range of `created_at`: from `created_from` on, before `created_before`.
#[derive(Clone, Debug, Deserialize)]
pub struct By<F> {
    /// The list's own filter.
    #[serde(flatten)]
    pub filter: F,
    #[serde(default, deserialize_with = "time")]
    created_from: Option<DateTime<Utc>>,
    #[serde(default, deserialize_with = "time")]
    created_before: Option<DateTime<Utc>>,
}

impl<F> By<F> {
    /// Restricts the query to the range.
    pub fn within<Q, C>(&self, mut query: Q, created_at: C) -> Q
    where
        C: ExpressionMethods<SqlType = Timestamptz> + Copy,
        Q: FilterDsl<GtEq<C, DateTime<Utc>>, Output = Q> + FilterDsl<Lt<C, DateTime<Utc>>, Output = Q>,
    {
        if let Some(from) = self.created_from {
            query = FilterDsl::filter(query, created_at.ge(from));
        }
        if let Some(before) = self.created_before {
            query = FilterDsl::filter(query, created_at.lt(before));
        }
        query
    }
}

/// The parameters for the documentation. The check of a query uses the same parameters.
impl<F: IntoParams> IntoParams for By<F> {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let at = || {
            let format = SchemaFormat::KnownFormat(KnownFormat::DateTime);
            ObjectBuilder::new().schema_type(Type::String).format(Some(format)).into()
        };
        let mut parameters = F::into_params(place);
        parameters.push(optional("created_from", "Only items that were created at this time or later.", at()));
        parameters.push(optional("created_before", "Only items that were created before this time.", at()));
        parameters
    }
}

impl<C: After, F: DeserializeOwned + IntoParams + 'static> FromRequest for Paging<C, F> {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::of(request.query_string()))
    }
}

impl<C: After, F: DeserializeOwned + IntoParams + 'static> Paging<C, F> {
    fn of(query: &str) -> Result<Self, ApiError> {
        let parameters = <Self as IntoParams>::into_params(|| Some(ParameterIn::Query));
        let pairs: Vec<(String, String)> = serde_urlencoded::from_str(query)
            .map_err(|error| wrong("", &format!("the query string can't be read: {error}")))?;
        let mut twice = Vec::new();
        let mut values = Map::new();
        for (name, text) in pairs {
            let value = value_of(&parameters, &name, text);
            if values.insert(name.clone(), value).is_some() {
                twice.push(fault(&name, "is there twice"));
            }
        }
        let mut values = Value::Object(values);
        let mut errors = faults::<Self>(&values, || schema(&parameters));
        errors.extend(twice);
        if !errors.is_empty() {
            return Err(ApiError::invalid(&errors));
        }
        let mut take = |name| values.as_object_mut().and_then(|values| values.remove(name));
        let limit = take("limit").and_then(|limit| limit.as_i64()).unwrap_or(DEFAULT_LIMIT);
        let after = take("after").and_then(|after| after.as_str().map(C::from_str)).transpose();
        let after = after.map_err(|_| wrong("after", "must be the last item of the previous page"))?;
        let filter = serde_path_to_error::deserialize(values)
            .map_err(|error| wrong(&error.path().to_string(), &error.inner().to_string()))?;
        Ok(Self { limit, after, filter })
    }

    /// The number of rows to ask the database for: one more than the page, so that the page knows whether more items follow.
    #[must_use]
    pub fn rows(&self) -> i64 {
        self.limit + 1
    }

    /// Makes the page from the rows. The query asked for [`Self::rows`].
    #[must_use]
    pub fn page<T>(&self, mut data: Vec<T>) -> Page<T> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let has_more = data.len() > limit;
        data.truncate(limit);
        Page { data, has_more }
    }
}

fn fault(parameter: &str, detail: &str) -> FieldError {
    let pointer = if parameter.is_empty() { String::new() } else { format!("/{}", escape_pointer(parameter)) };
    FieldError { pointer, detail: detail.to_owned() }
}

fn wrong(parameter: &str, detail: &str) -> ApiError {
    ApiError::invalid(&[fault(parameter, detail)])
}

/// Reads the text by the parameter's type. If the text does not fit the type, the value stays a string, and the schema refuses
/// the string.
fn value_of(parameters: &[Parameter], name: &str, text: String) -> Value {
    let is = |wanted: Type| {
        let parameter = parameters.iter().find(|parameter| parameter.name == name);
        let schema = parameter.and_then(|parameter| parameter.schema.as_ref());
        matches!(schema, Some(RefOr::T(Schema::Object(object))) if object.schema_type == wanted.into())
    };
    match text.as_str() {
        "true" if is(Type::Boolean) => Value::Bool(true),
        "false" if is(Type::Boolean) => Value::Bool(false),
        digits if is(Type::Integer) => digits.parse().map_or(Value::String(text), |number: i64| number.into()),
        _ => Value::String(text),
    }
}

/// The schema of an object with these parameters as its members.
fn schema(parameters: &[Parameter]) -> Value {
    let properties: Map<_, _> =
        parameters.iter().map(|parameter| (parameter.name.clone(), json!(parameter.schema))).collect();
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}

fn optional(name: &str, description: &str, schema: RefOr<Schema>) -> Parameter {
    let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Query).required(Required::False);
    parameter.description(Some(description)).schema(Some(schema)).build()
}

/// A type that names the last item of a page.
pub trait After: FromStr + 'static {
    /// The schema of the parameter `after`, for the documentation.
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

/// The filter's parameters, `limit` and `after`, for the documentation. The check of a query uses the same parameters.
impl<C: After, F: IntoParams> IntoParams for Paging<C, F> {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let limit = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(1))
            .maximum(Some(MAX_LIMIT))
            .default(Some(DEFAULT_LIMIT.into()));
        let mut parameters = F::into_params(place);
        parameters.push(optional("limit", "The number of items on the page.", limit.into()));
        parameters.push(optional("after", "The last item of the previous page.", C::schema()));
        parameters
    }
}

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// The items.
    pub data: Vec<T>,
    /// Whether more items follow.
    pub has_more: bool,
}
