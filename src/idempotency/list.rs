//! The records of an account, for whoever asks what became of a request.

use chrono::{DateTime, Utc};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Timestamptz};
use uuid::Uuid;

use super::schema::idempotency_keys;

/// A record without its reply and its fingerprint: what support may see.
#[derive(Clone, Debug, Queryable)]
pub struct Listed {
    /// The record's id: a UUIDv7 of when its request came in.
    pub id: Uuid,
    /// The client's key.
    pub key: String,
    /// The key space.
    pub scope: String,
    /// The route of the request that made it.
    pub route: String,
    /// The id of the request that made it.
    pub request_id: Uuid,
    /// What the reply's `Location` names.
    pub location: Option<String>,
    /// The reply's HTTP status.
    pub status: i16,
    /// When its transaction began, which did what the request asked for.
    pub created_at: DateTime<Utc>,
    /// None while the reply is provisional.
    pub expires_at: Option<DateTime<Utc>>,
    /// By the database's clock; none while the reply is provisional.
    pub expired: Option<bool>,
}

/// Up to `rows` records of an account, newest first: those of a key, or all, older than the record `after`.
///
/// Pages walk the index on (account, id). With `key` they do so, too, and pass over the other records: an index for
/// it would cost each request a write, to save support a second.
///
/// # Errors
/// The database's.
pub fn list(
    conn: &mut PgConnection,
    account_id: Uuid,
    key: Option<&str>,
    after: Option<Uuid>,
    rows: i64,
) -> QueryResult<Vec<Listed>> {
    let mut query = idempotency_keys::table
        .filter(idempotency_keys::account_id.eq(account_id))
        // It always holds. It makes the index eligible that only this list should use.
        .filter(diesel::dsl::sql::<Bool>("route <> ''"))
        .select((
            idempotency_keys::id,
            idempotency_keys::key,
            idempotency_keys::scope,
            idempotency_keys::route,
            idempotency_keys::request_id,
            idempotency_keys::location,
            idempotency_keys::status,
            idempotency_keys::created_at,
            idempotency_keys::expires_at,
            idempotency_keys::expires_at.le(diesel::dsl::now.into_sql::<Timestamptz>().nullable()),
        ))
        .into_boxed();
    if let Some(key) = key {
        query = query.filter(idempotency_keys::key.eq(key));
    }
    if let Some(after) = after {
        query = query.filter(idempotency_keys::id.lt(after));
    }
    query.order(idempotency_keys::id.desc()).limit(rows).load(conn)
}
