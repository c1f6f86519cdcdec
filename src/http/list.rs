//! Lists: pages, filters and their query parameters.
//!
//! Guarantees: an unknown parameter is refused. A client that misspells a filter must not get the whole list.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use chrono::{DateTime, TimeDelta, Utc};
use diesel::QueryResult;
use diesel::dsl::{Desc, GtEq, Lt};
use diesel::expression_methods::ExpressionMethods;
use diesel::query_dsl::methods::{FilterDsl, LimitDsl, OrderDsl};
use diesel::sql_types::{Timestamptz, Uuid as SqlUuid};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::http::ApiError;
use checked_body::{Document, Faults, Form, Int, Members, Object, Rule, int, object, read_query, time, uuid};

/// The items on a page if the client sends no `limit`.
const DEFAULT_LIMIT: i64 = 20;

/// `?limit=`. A page of a hundred of the largest objects stays near a megabyte.
const LIMIT: Limit = Limit(int(1, 100));

/// A limit that is documented with its default.
struct Limit(Int<i64>);

impl Rule for Limit {
    type Value = i64;

    fn read(&self, json: &Value, faults: &mut Faults) -> Option<i64> {
        self.0.read(json, faults)
    }

    fn schema(&self) -> Value {
        let mut schema = self.0.schema();
        schema["default"] = json!(DEFAULT_LIMIT);
        schema
    }
}

/// How far the time in an object's id may be from its `created_at`. The id takes its time from the clock of the API's
/// machine, and `created_at` from the database's clock at the start of the transaction.
const CLOCKS_DIFFER: TimeDelta = TimeDelta::hours(1);

/// The query of a list: `?limit=`, `?after=`, and the list's own filter. A `C` names an item, for example a UUID.
pub struct Paging<C: After, F = NoFilter> {
    /// 1 to 100.
    pub limit: i64,
    /// The last item of the previous page.
    pub after: Option<C>,
    /// The list's own filter.
    pub filter: F,
}

object! {
    /// The filter of a list without a filter.
    pub struct NoFilter {}
}

/// Reads the query of a URL.
///
/// # Errors
/// 422, with all that is wrong.
pub fn query<T: Object>(query: &str) -> Result<T, ApiError> {
    read_query(query).map_err(|errors| ApiError::invalid(&errors))
}

/// A filter, and a range of `created_at`: from `created_from` on, before `created_before`.
#[derive(Clone, Debug)]
pub struct By<F> {
    /// The list's own filter.
    pub filter: F,
    range: Range,
}

object! {
    struct Range {
        /// Only items that were created at this time or later.
        created_from: Option<DateTime<Utc>> = time(),
        /// Only items that were created before this time.
        created_before: Option<DateTime<Utc>> = time(),
    }
}

impl<F: Object> Object for By<F> {
    fn read(members: &mut Members<'_>) -> Option<Self> {
        let (filter, range) = (F::read(members), Range::read(members));
        Some(Self { filter: filter?, range: range? })
    }

    fn document(document: &mut Document) {
        F::document(document);
        Range::document(document);
    }
}

impl<F> By<F> {
    /// Restricts the query to the range.
    pub fn within<Q, C>(&self, mut query: Q, created_at: C) -> Q
    where
        C: ExpressionMethods<SqlType = Timestamptz> + Copy,
        Q: FilterDsl<GtEq<C, DateTime<Utc>>, Output = Q> + FilterDsl<Lt<C, DateTime<Utc>>, Output = Q>,
    {
        if let Some(from) = self.range.created_from {
            query = FilterDsl::filter(query, created_at.ge(from));
        }
        if let Some(before) = self.range.created_before {
            query = FilterDsl::filter(query, created_at.lt(before));
        }
        query
    }
}

impl<F> Paging<Uuid, By<F>> {
    /// The rows of the page, newest first: those that the query finds in the range, after the last item of the previous
    /// page.
    ///
    /// An id is a UUID of version 7 and begins with its time, so the query starts and stops near the range. By
    /// `created_at` alone it would read every object that is newer than the range.
    pub fn newest_first<Q, C, I>(&self, query: Q, created_at: C, id: I) -> Q
    where
        C: ExpressionMethods<SqlType = Timestamptz> + Copy,
        I: ExpressionMethods<SqlType = SqlUuid> + Copy,
        Q: FilterDsl<GtEq<C, DateTime<Utc>>, Output = Q> + FilterDsl<Lt<C, DateTime<Utc>>, Output = Q>,
        Q: FilterDsl<GtEq<I, Uuid>, Output = Q> + FilterDsl<Lt<I, Uuid>, Output = Q>,
        Q: OrderDsl<Desc<I>, Output = Q> + LimitDsl<Output = Q>,
    {
        let mut query = self.filter.within(query, created_at);
        let Range { created_from, created_before } = self.filter.range;
        if let Some(from) = created_from.and_then(|from| from.checked_sub_signed(CLOCKS_DIFFER)) {
            query = FilterDsl::filter(query, id.ge(first_id_at(from)));
        }
        if let Some(before) = created_before.and_then(|before| before.checked_add_signed(CLOCKS_DIFFER)) {
            query = FilterDsl::filter(query, id.lt(first_id_at(before)));
        }
        if let Some(after) = self.after {
            query = FilterDsl::filter(query, id.lt(after));
        }
        LimitDsl::limit(OrderDsl::order(query, id.desc()), self.rows())
    }
}

/// No id of this time or later comes before it: its 48 bits of time are followed by zeros.
pub(crate) fn first_id_at(time: DateTime<Utc>) -> Uuid {
    Uuid::from_u128(u128::try_from(time.timestamp_millis()).unwrap_or(0) << 80)
}

impl<C: After, F: Object> Object for Paging<C, F> {
    fn read(members: &mut Members<'_>) -> Option<Self> {
        let filter = F::read(members);
        let limit: Option<Option<i64>> = members.read("limit", &LIMIT);
        let after = members.read("after", &C::FORM);
        Some(Self { limit: limit?.unwrap_or(DEFAULT_LIMIT), after: after?, filter: filter? })
    }

    fn document(document: &mut Document) {
        F::document(document);
        document.member::<Option<i64>, _>("limit", &LIMIT, &["The number of items on the page."], None);
        document.member::<Option<C>, _>("after", &C::FORM, &["The last item of the previous page."], None);
    }
}

impl<C: After, F: Object> FromRequest for Paging<C, F> {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(query(request.query_string()))
    }
}

impl<C: After, F> Paging<C, F> {
    /// Refuses an `after` that names no item of the list, for example the id of another kind of object: the client
    /// would take the page for the next one.
    ///
    /// # Errors
    /// 422. The database's.
    pub fn check_after(&self, is_item: impl FnOnce(&C) -> QueryResult<bool>) -> Result<(), ApiError> {
        match &self.after {
            Some(after) if !is_item(after)? => {
                Err(ApiError::invalid_member("/after", "must name an item of this list"))
            }
            _ => Ok(()),
        }
    }

    /// The number of rows to ask the database for: one more than the page, so that the page knows whether more items
    /// follow.
    #[must_use]
    pub fn rows(&self) -> i64 {
        self.limit + 1
    }

    /// Builds the page from the rows. The query asked for [`Self::rows`].
    #[must_use]
    pub fn page<T>(&self, mut data: Vec<T>) -> Page<T> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let has_more = data.len() > limit;
        data.truncate(limit);
        Page { data, has_more }
    }
}

/// A type that names the last item of a page.
pub trait After: Sized + 'static {
    /// How the client writes it.
    const FORM: Form<Self>;
}

impl After for Uuid {
    const FORM: Form<Self> = uuid();
}

/// The parameters, for the OpenAPI document.
impl<C: After, F: Object> IntoParams for Paging<C, F> {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        Document::of::<Self>().parameters()
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
