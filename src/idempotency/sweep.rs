//! Deletes expired records, in bounded batches, however many replicas sweep at once.
//!
//! It never deletes a provisional record (it has no expiry) and never a record that was taken over in the meantime: the
//! deleting statement locks each row and looks at its expiry again.

use std::collections::BTreeMap;

use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::{Array, Text, Timestamptz, Uuid as SqlUuid};
use uuid::Uuid;

use super::schema::idempotency_keys;

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
    let candidates: Vec<(Uuid, String, String)> = idempotency_keys::table
        .filter(idempotency_keys::expires_at.le(diesel::dsl::now.into_sql::<Timestamptz>().nullable()))
        .order(idempotency_keys::expires_at)
        .limit(SWEEP_BATCH.into())
        .select((idempotency_keys::account_id, idempotency_keys::scope, idempotency_keys::key))
        .load(conn)?;
    let found = candidates.len();
    let mut accounts: BTreeMap<Uuid, (Vec<String>, Vec<String>)> = BTreeMap::new();
    for (account_id, scope, key) in candidates {
        let (scopes, keys) = accounts.entry(account_id).or_default();
        scopes.push(scope);
        keys.push(key);
    }
    let mut deleted = 0;
    for (account_id, (scopes, keys)) in accounts {
        deleted += delete_expired(conn, account_id, &scopes, &keys)?;
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

fn delete_expired(conn: &mut PgConnection, account_id: Uuid, scopes: &[String], keys: &[String]) -> QueryResult<usize> {
    diesel::sql_query(
        "WITH expired AS MATERIALIZED (\
           SELECT record.account_id, record.scope, record.key FROM idempotency_keys record \
           JOIN unnest($2, $3) AS candidate (scope, key) ON record.scope = candidate.scope AND record.key = candidate.key \
           WHERE record.account_id = $1 AND record.expires_at <= now() \
           FOR UPDATE OF record SKIP LOCKED) \
         DELETE FROM idempotency_keys record USING expired \
         WHERE record.account_id = $1 AND record.scope = expired.scope AND record.key = expired.key \
           AND record.expires_at <= now()",
    )
    .bind::<SqlUuid, _>(account_id)
    .bind::<Array<Text>, _>(scopes)
    .bind::<Array<Text>, _>(keys)
    .execute(conn)
}
