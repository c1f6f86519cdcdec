// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sweep of expired records.
//!
//! A sweep works in bounded batches, and many replicas may sweep at once. It never deletes a provisional record, which
//! has no expiry, nor a record that has replaced an expired one meanwhile: the deleting statement locks each row and
//! checks the expiry again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use diesel::dsl::now;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::{Array, Text, Timestamptz, Uuid as SqlUuid};
use uuid::Uuid;

use crate::schema::idempotency_keys;
use crate::store::TABLE;

/// The most records that one transaction deletes, so that a sweep holds its locks only briefly, and a canceled sweep
/// loses little work.
pub const SWEEP_BATCH: u16 = 5_000;

/// A sweep begins no further account after this time. Outside a transaction each account is a transaction, so a batch of many
/// accounts takes as many COMMITs. A pool may give work up that takes longer, as if the database were silent.
const SWEEP_WITHIN: Duration = Duration::from_secs(2);

/// Deletes up to [`SWEEP_BATCH`] expired records. Those that another transaction has locked are left to the next sweep.
pub fn sweep(conn: &mut PgConnection) -> QueryResult<Swept> {
    // The candidates are found without a lock, over all accounts. Then each account's records are locked by a statement with
    // the account's id, since a distributed database needs the id.
    let candidates: Vec<(Uuid, String)> = idempotency_keys::table
        .filter(idempotency_keys::expires_at.le(now.into_sql::<Timestamptz>().nullable()))
        .order(idempotency_keys::expires_at)
        .limit(SWEEP_BATCH.into())
        .select((idempotency_keys::account_id, diesel::dsl::sql::<Text>("ctid::text")))
        .load(conn)?;
    let found = candidates.len();
    let mut accounts: BTreeMap<Uuid, Vec<String>> = BTreeMap::new();
    for (account_id, place) in candidates {
        accounts.entry(account_id).or_default().push(place);
    }
    let (began, mut deleted) = (Instant::now(), 0);
    for (account_id, places) in accounts {
        if began.elapsed() > SWEEP_WITHIN {
            return Ok(Swept { deleted, more: deleted > 0 });
        }
        deleted += delete_expired(conn, account_id, &places)?;
    }
    Ok(Swept { deleted, more: found == usize::from(SWEEP_BATCH) && deleted > 0 })
}

/// How long ago the oldest undeleted record expired. Zero if there is none. It is the first row of an index.
pub fn sweep_lag(conn: &mut PgConnection) -> QueryResult<Duration> {
    let clock = now.into_sql::<Timestamptz>();
    let oldest: Option<(Option<DateTime<Utc>>, DateTime<Utc>)> = idempotency_keys::table
        .filter(idempotency_keys::expires_at.le(clock.nullable()))
        .order(idempotency_keys::expires_at)
        .select((idempotency_keys::expires_at, clock))
        .first(conn)
        .optional()?;
    let lag = oldest.and_then(|(expired_at, clock)| (clock - expired_at?).to_std().ok());
    Ok(lag.unwrap_or_default())
}

/// What one call of [`sweep`] did.
#[derive(Clone, Copy, Debug)]
pub struct Swept {
    /// Records deleted.
    pub deleted: usize,
    /// Whether to call again at once.
    pub more: bool,
}

/// Deletes the expired records in these places (`ctid`, where a row lies). Finding the rows again by key would be two
/// thirds of the work. Another record may lie in a place by now, so the statement checks the expiry again under the
/// lock.
fn delete_expired(conn: &mut PgConnection, account_id: Uuid, places: &[String]) -> QueryResult<usize> {
    diesel::sql_query(format!(
        "WITH expired AS MATERIALIZED (\
           SELECT ctid AS place FROM {TABLE} \
           WHERE account_id = $1 AND ctid = ANY ($2::text[]::tid[]) AND expires_at <= now() \
           FOR UPDATE SKIP LOCKED) \
         DELETE FROM {TABLE} record USING expired \
         WHERE record.account_id = $1 AND record.ctid = expired.place AND record.expires_at <= now()",
    ))
    .bind::<SqlUuid, _>(account_id)
    .bind::<Array<Text>, _>(places)
    .execute(conn)
}
