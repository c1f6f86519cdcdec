// SPDX-License-Identifier: MIT OR Apache-2.0
//! For support, behind the feature `support`: the list of an account's records, and the erasure of a person's data from replies.

use chrono::{DateTime, Utc};
use diesel::dsl::now;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Timestamptz};
use serde::Serialize;
use uuid::Uuid;

use crate::schema::idempotency_keys;

/// A record for support, without its reply and its fingerprint: whoever asks for records may not be allowed to see replies.
#[derive(Clone, Debug, Queryable, Serialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema), schema(as = IdempotencyKey))]
pub struct Listed {
    /// The record's id: a UUIDv7 of the time at which its request arrived.
    pub id: Uuid,
    /// The client's key, without quotes.
    pub key: String,
    /// The key space: `account`, a route, or a route with its ids.
    pub scope: String,
    /// The route of the first request with the key.
    pub route: String,
    /// The state of the record.
    #[diesel(deserialize_as = Option<bool>)]
    pub state: State,
    /// The HTTP status of the reply.
    pub status: i16,
    /// The reply's `Location`: the resource that the request created. Null if the reply has none.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub location: Option<String>,
    /// The `X-Request-Id` of the first request with the key, which the log has a line for.
    pub request_id: Uuid,
    /// The credential that the first request came with: the id of an API key. Null for a record of an earlier release.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub credential: Option<String>,
    /// What a request with this key gets now.
    #[diesel(deserialize_as = Option<bool>)]
    pub on_retry: OnRetry,
    /// When the first request with the key ran.
    pub created_at: DateTime<Utc>,
    /// Until when the reply is replayed. Null while the reply is provisional.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub expires_at: Option<DateTime<Utc>>,
}

/// The state of a record, by the database's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum State {
    /// The reply is a 202 until the outcome is known.
    Provisional,
    /// The reply is replayed.
    Final,
    /// The key is free again, and the record is about to be deleted.
    Expired,
}

/// What a request with a key gets now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum OnRetry {
    /// The same request gets the reply again. Another request is refused.
    Replays,
    /// The same request gets 202 until the outcome is known, and then the outcome.
    Waits,
    /// The key is free, and a request runs. A key that made an external call is refused, because the call is never made again.
    Runs,
}

/// Whether the record is expired. None: the record has no expiry yet.
impl From<Option<bool>> for State {
    fn from(expired: Option<bool>) -> Self {
        match expired {
            None => Self::Provisional,
            Some(false) => Self::Final,
            Some(true) => Self::Expired,
        }
    }
}

impl From<Option<bool>> for OnRetry {
    fn from(expired: Option<bool>) -> Self {
        match expired.into() {
            State::Provisional => Self::Waits,
            State::Final => Self::Replays,
            State::Expired => Self::Runs,
        }
    }
}

/// Up to `rows` records of an account, newest first. With `key`, only the key's records. With `after`, only older records.
///
/// A page walks the index on (account, id). With `key`, PostgreSQL reads the account's part of the primary key's index: some 0.4 s
/// for a million keys. An index on the key would make every request write more, only to make support faster.
pub fn list(
    conn: &mut PgConnection,
    account_id: Uuid,
    key: Option<&str>,
    after: Option<Uuid>,
    rows: i64,
) -> QueryResult<Vec<Listed>> {
    let expired = || idempotency_keys::expires_at.le(now.into_sql::<Timestamptz>().nullable());
    let mut query = idempotency_keys::table
        .filter(idempotency_keys::account_id.eq(account_id))
        // This condition is always true. PostgreSQL uses the partial index only for queries that state it, and no query
        // but this one should use it.
        .filter(diesel::dsl::sql::<Bool>("route <> ''"))
        .select((
            idempotency_keys::id,
            idempotency_keys::key,
            idempotency_keys::scope,
            idempotency_keys::route,
            expired(),
            idempotency_keys::status,
            idempotency_keys::location,
            idempotency_keys::request_id,
            idempotency_keys::credential,
            expired(),
            idempotency_keys::created_at,
            idempotency_keys::expires_at,
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

/// Rewrites stored replies of an account, for example to erase a person's name. `rewrite` gets the body of each reply,
/// and returns the new one if it changes. One call reads `rows` records, the newest that are older than `before` (at
/// first [`Uuid::max`]). Returns the id of the oldest one, and how many changed.
pub fn rewrite_replies(
    conn: &mut PgConnection,
    account_id: Uuid,
    before: Uuid,
    rows: i64,
    rewrite: impl Fn(&[u8]) -> Option<Vec<u8>>,
) -> QueryResult<(Option<Uuid>, usize)> {
    // A record that is finalized between the read and the write would get its old reply back.
    conn.transaction(|conn| {
        let page: Vec<(Uuid, String, String, Vec<u8>)> = idempotency_keys::table
            .filter(idempotency_keys::account_id.eq(account_id))
            .filter(diesel::dsl::sql::<Bool>("route <> ''"))
            .filter(idempotency_keys::id.lt(before))
            .select((idempotency_keys::id, idempotency_keys::scope, idempotency_keys::key, idempotency_keys::body))
            .order(idempotency_keys::id.desc())
            .limit(rows)
            .for_update()
            .load(conn)?;
        let mut changed = 0;
        for (_, scope, key, body) in &page {
            if let Some(body) = rewrite(body) {
                let record = idempotency_keys::table.find((account_id, scope, key));
                changed += diesel::update(record).set(idempotency_keys::body.eq(body)).execute(conn)?;
            }
        }
        Ok((page.last().map(|(id, ..)| *id), changed))
    })
}
