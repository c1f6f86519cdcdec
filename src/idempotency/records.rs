//! Many records at once: an account's, listed for whoever asks what became of a request; the expired ones, swept away.
//!
//! A sweep works in bounded batches, however many replicas sweep at once. It never deletes a provisional record (that has no
//! expiry), and never a record that took an expired one's place in the meantime: the deleting statement locks each row and
//! looks at its expiry again.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::{Array, Bool, Text, Timestamptz, Uuid as SqlUuid};
use uuid::Uuid;

use super::key::Address;
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

/// Records deleted in one transaction at most: few enough that a sweep holds no lock for longer than a
/// request would notice, and a cancelled sweep loses little.
pub const SWEEP_BATCH: u16 = 5_000;

/// Deletes up to [`SWEEP_BATCH`] expired records and returns how many it found: fewer than the batch, and it is done for
/// now. Records that somebody else has locked are left for the next sweep.
///
/// # Errors
/// The database's.
pub fn sweep(conn: &mut PgConnection) -> QueryResult<Swept> {
    // Candidates are looked up without a lock, over all accounts; each account's are then locked by its id, as a
    // distributed database wants it.
    let candidates: Vec<(Uuid, String)> = idempotency_keys::table
        .filter(idempotency_keys::expires_at.le(diesel::dsl::now.into_sql::<Timestamptz>().nullable()))
        .order(idempotency_keys::expires_at)
        .limit(SWEEP_BATCH.into())
        .select((idempotency_keys::account_id, diesel::dsl::sql::<Text>("ctid::text")))
        .load(conn)?;
    let found = candidates.len();
    let mut accounts: BTreeMap<Uuid, Vec<String>> = BTreeMap::new();
    for (account_id, place) in candidates {
        accounts.entry(account_id).or_default().push(place);
    }
    let mut deleted = 0;
    for (account_id, places) in accounts {
        deleted += delete_expired(conn, account_id, &places)?;
    }
    Ok(Swept { deleted, more: found == usize::from(SWEEP_BATCH) && deleted > 0 })
}

/// What one call of [`sweep`] did.
#[derive(Clone, Copy, Debug)]
pub struct Swept {
    /// Records deleted.
    pub deleted: usize,
    /// Whether another batch is worth a call at once.
    pub more: bool,
}

/// Deletes what is expired in these places, which are where rows lie (`ctid`): to find them by key once more would be two
/// thirds of the work. Another record may lie in a place by now, so it is looked at again under its lock.
fn delete_expired(conn: &mut PgConnection, account_id: Uuid, places: &[String]) -> QueryResult<usize> {
    diesel::sql_query(
        "WITH expired AS MATERIALIZED (\
           SELECT ctid AS place FROM idempotency_keys \
           WHERE account_id = $1 AND ctid = ANY ($2::text[]::tid[]) AND expires_at <= now() \
           FOR UPDATE SKIP LOCKED) \
         DELETE FROM idempotency_keys record USING expired \
         WHERE record.account_id = $1 AND record.ctid = expired.place AND record.expires_at <= now()",
    )
    .bind::<SqlUuid, _>(account_id)
    .bind::<Array<Text>, _>(places)
    .execute(conn)
}

/// Deletes the record at an address if it is expired: looked at again under its lock, as by a sweep.
///
/// # Errors
/// The database's.
pub(super) fn remove_expired(conn: &mut PgConnection, address: &Address) -> QueryResult<usize> {
    let record = idempotency_keys::table.find((address.account_id, &address.scope, &address.key));
    let now = diesel::dsl::now.into_sql::<Timestamptz>().nullable();
    diesel::delete(record.filter(idempotency_keys::expires_at.le(now))).execute(conn)
}
