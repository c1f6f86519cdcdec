//! Events: one row for each change, written by the transaction that makes the change. Clients read the rows as a feed
//! in a fixed order.
//!
//! # The order of the feed
//! A client continues from the last cursor that it got, so no event may appear before a cursor that a client has. Ids,
//! sequences and times don't guarantee this: a transaction takes them when it writes, and transactions commit in
//! another order. So an event has no position when it is written. The next read gives positions to all committed
//! events, under the feed's lock, and an event that commits later gets a later one. If there is nothing to place, a
//! read writes nothing.

use std::fmt;
use std::ops::Range;

use actix_web::web::{Data, Json};
use chrono::{DateTime, Utc};
use diesel::dsl::exists;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Uuid as SqlUuid};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

use crate::db::Db;
use crate::http::{Account, After, ApiError, By, Endpoint, Page, Paging, endpoint};
use crate::schema::{event_feeds, events};
use crate::shop::SLUG;
use checked_body::{Form, object, one_of};

/// The most events that one transaction places: some 20 ms of work, so that a reader never holds the feed's lock for
/// long.
const PLACED_AT_ONCE: i64 = 1000;

/// The most positions that one call looks at. A filter on `object_id` parses the JSON of each: some 50 ms in all. A
/// filter that finds nothing among a million events takes a hundred calls, and other work gets its turn between them.
const LOOKED_AT_ONCE: i64 = 10_000;

/// Every type of event, and the schema of its `data`.
pub const EVENT_TYPES: &[(&str, &str)] = &[
    ("charge.failed", "Charge"),
    ("charge.succeeded", "Charge"),
    ("entitlement.consumed", "Entitlement"),
    ("entitlement.granted", "Entitlement"),
    ("entitlement.revoked", "Entitlement"),
    ("order.canceled", "Order"),
    ("order.created", "Order"),
    ("order.paid", "Order"),
    ("order.refunded", "Order"),
    ("product.created", "Product"),
    ("product.updated", "Product"),
    ("refund.failed", "Refund"),
    ("refund.succeeded", "Refund"),
];

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![endpoint(__path_list, list)]
}

/// Writes the event of a change. `data` is the object after the change.
///
/// # Errors
/// The database's.
pub fn record<T: Serialize>(conn: &mut PgConnection, account_id: Uuid, kind: &str, data: &T) -> Result<(), ApiError> {
    debug_assert!(EVENT_TYPES.iter().any(|(known, _)| *known == kind), "{kind} is not among EVENT_TYPES");
    diesel::insert_into(events::table)
        .values((
            events::account_id.eq(account_id),
            events::id.eq(Uuid::now_v7()),
            events::type_.eq(kind),
            events::data.eq(serde_json::to_value(data)?),
        ))
        .execute(conn)?;
    Ok(())
}

/// A place in an account's feed. Clients must not interpret a cursor: its form may change.
#[derive(Clone, Copy, Debug, ToSchema)]
#[schema(value_type = String, pattern = "^evt_[0-9a-f]{16}$", example = "evt_0000000000000003")]
pub struct Cursor(i64);

/// A prefix, so that nobody treats a cursor as a number.
const CURSOR_PREFIX: &str = "evt_";

impl fmt::Display for Cursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{CURSOR_PREFIX}{:016x}", self.0)
    }
}

impl Cursor {
    fn parse(text: &str) -> Option<Self> {
        let cursor = Self(i64::from_str_radix(text.strip_prefix(CURSOR_PREFIX)?, 16).ok()?);
        // Only the spelling that the feed gave out.
        (cursor.0 > 0 && cursor.to_string() == text).then_some(cursor)
    }
}

impl After for Cursor {
    const FORM: Form<Self> =
        Form { parse: Self::parse, fault: "must be a cursor of this feed", schema: || json!(Self::schema()) };
}

impl Serialize for Cursor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An event: one change of one object.
#[derive(Debug, Serialize, ToSchema)]
pub struct Event {
    /// UUIDv7.
    id: Uuid,
    /// The event's place in the feed, for `after`.
    cursor: Cursor,
    /// What happened, for example `order.created`.
    #[serde(rename = "type")]
    kind: String,
    /// The object after the change.
    #[schema(value_type = Object)]
    data: Value,
    /// When the change was made.
    created_at: DateTime<Utc>,
}

object! {
    /// The filters of the feed.
    pub struct Filter {
        /// Only events of this type.
        r#type: Option<(&'static str, &'static str)> = one_of(EVENT_TYPES, |(name, _)| name),
        /// Only events of this object: an id, or the SKU of a product.
        object_id: Option<String> = SLUG,
    }
}

/// A page of the feed.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventPage {
    /// The events.
    data: Vec<Event>,
    /// Whether to read on at once. With a filter, a page may be empty although more events follow.
    has_more: bool,
    /// The `after` of the next call. Null if the feed has no event yet.
    #[schema(required)]
    cursor: Option<Cursor>,
}

/// `GET /v1/events`, oldest first. One call looks at a bounded part of the feed, even if the filter skips all of it.
///
/// # Errors
/// 422: a bad page, or a cursor that this feed never gave out.
#[utoipa::path(get, path = "/v1/events", operation_id = "listEvents", tag = "Events", summary = "List events",
    description = "Returns your events, oldest first, in an order that never changes. To go on, pass the `cursor` of the page as \
        `after`, at once if `has_more` is true, else later: no event ever appears before it. One call looks at a bounded part of \
        the feed, so with a filter `data` may be empty while `has_more` is true.",
    params(Paging<Cursor, By<Filter>>),
    responses((status = 200, body = EventPage, description = "A page of events")))]
pub async fn list(
    account: Account,
    paging: Paging<Cursor, By<Filter>>,
    db: Data<Db>,
) -> Result<Json<EventPage>, ApiError> {
    db.read(account.id, move |conn| page(conn, account.id, &paging)).await.map(Json)
}

/// Looks at the window after the cursor. If the window reaches the end of what has a position, and the page is not full, one more
/// batch of events gets positions and is looked at too.
fn page(conn: &mut PgConnection, account_id: Uuid, paging: &Paging<Cursor, By<Filter>>) -> Result<EventPage, ApiError> {
    let after = paging.after.map_or(0, |cursor| cursor.0);
    let feed = event_feeds::table.find(account_id).select(event_feeds::last_position);
    let mut last: i64 = feed.first(conn).optional()?.unwrap_or(0);
    // A cursor that is ahead of the feed is one of another account, or from before a backup was restored. If it got an
    // empty page, the client would silently miss the events up to its cursor. Once a restored feed has grown past the
    // cursor, this check can't tell: docs/operations.md says what to do then.
    if after > last {
        return Err(ApiError::invalid_member("/after", "this feed never gave this cursor"));
    }
    let window = after + LOOKED_AT_ONCE;
    let mut end = window.min(last);
    let mut events = placed(conn, account_id, paging, after..end, paging.rows())?;
    let missing = |events: &Vec<Event>| paging.rows() - i64::try_from(events.len()).unwrap_or(i64::MAX);
    let mut waiting = false;
    if end < window && missing(&events) > 0 && waits_for_a_place(conn, account_id)? {
        last = place(conn, account_id)?;
        let from = end;
        end = window.min(last);
        events.extend(placed(conn, account_id, paging, from..end, missing(&events))?);
        waiting = waits_for_a_place(conn, account_id)?;
    }
    let Page { data, has_more } = paging.page(events);
    // What lies beyond a full page is looked at again next time.
    let cursor = if has_more { data.last().map(|event| event.cursor) } else { (end > 0).then_some(Cursor(end)) };
    Ok(EventPage { data, has_more: has_more || end < last || waiting, cursor })
}

/// The events after the start of the window, up to its end, that the filter lets through.
fn placed(
    conn: &mut PgConnection,
    account_id: Uuid,
    paging: &Paging<Cursor, By<Filter>>,
    window: Range<i64>,
    rows: i64,
) -> QueryResult<Vec<Event>> {
    let query = events::table
        .filter(events::account_id.eq(account_id))
        .filter(events::position.gt(window.start))
        .filter(events::position.le(window.end))
        .into_boxed();
    let mut query = paging.filter.within(query, events::created_at);
    let Filter { r#type, object_id } = &paging.filter.filter;
    if let Some((name, _)) = r#type {
        query = query.filter(events::type_.eq(*name));
    }
    if let Some(object_id) = object_id {
        let member = |name: &'static str| events::data.retrieve_as_text(name);
        query = query.filter(member("id").eq(object_id).or(member("sku").eq(object_id)));
    }
    let rows = query
        .order(events::position)
        .limit(rows)
        .select((events::id, events::position.assume_not_null(), events::type_, events::data, events::created_at))
        .load::<(Uuid, i64, String, Value, DateTime<Utc>)>(conn)?;
    let event = |(id, position, kind, data, created_at)| Event { id, cursor: Cursor(position), kind, data, created_at };
    Ok(rows.into_iter().map(event).collect())
}

fn waits_for_a_place(conn: &mut PgConnection, account_id: Uuid) -> QueryResult<bool> {
    let waiting = events::table.filter(events::account_id.eq(account_id)).filter(events::position.is_null());
    diesel::select(exists(waiting)).get_result(conn)
}

/// Gives the next positions to the oldest committed events that have none, in one short transaction. Returns the last position
/// of the feed.
fn place(conn: &mut PgConnection, account_id: Uuid) -> QueryResult<i64> {
    conn.build_transaction().read_committed().run(|conn| {
        diesel::insert_into(event_feeds::table)
            .values((event_feeds::account_id.eq(account_id), event_feeds::last_position.eq(0)))
            .on_conflict_do_nothing()
            .execute(conn)?;
        // The feed's lock. The next statement has a new snapshot, so it sees what the previous holder placed.
        let last: i64 =
            event_feeds::table.find(account_id).select(event_feeds::last_position).for_update().first(conn)?;
        let placed = diesel::sql_query(
            "UPDATE events SET position = $2 + waiting.place FROM (\
               SELECT id, row_number() OVER (ORDER BY created_at, id) AS place FROM events \
               WHERE account_id = $1 AND position IS NULL ORDER BY created_at, id LIMIT $3) AS waiting \
             WHERE events.account_id = $1 AND events.id = waiting.id",
        )
        .bind::<SqlUuid, _>(account_id)
        .bind::<BigInt, _>(last)
        .bind::<BigInt, _>(PLACED_AT_ONCE)
        .execute(conn)?;
        let last = last + i64::try_from(placed).map_err(|e| diesel::result::Error::QueryBuilderError(e.into()))?;
        if placed > 0 {
            diesel::update(event_feeds::table.find(account_id))
                .set(event_feeds::last_position.eq(last))
                .execute(conn)?;
        }
        Ok(last)
    })
}
