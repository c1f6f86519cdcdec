//! How far settlements are, read without a lock: good for an answer, not for a decision to write.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::dsl::{auto_type, count_star};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use serde_json::Value;
use uuid::Uuid;

use super::Limits;
use super::schema::settlements;
use crate::idempotency::Address;

/// How far an open settlement is.
#[derive(Clone, Copy, Debug, Queryable)]
pub struct Progress {
    /// Leases taken so far.
    pub attempts: i32,
    /// When the next lease may be taken, if the settlement is not parked.
    pub next_attempt_at: DateTime<Utc>,
    /// Whether the settler has stopped trying, until a person resumes the settlement.
    pub parked: bool,
}

#[auto_type]
fn progress_columns() -> _ {
    // An open settlement has a time: the table's CHECK says so.
    (settlements::attempts, settlements::next_attempt_at.assume_not_null(), settlements::parked_at.is_not_null())
}

impl Progress {
    /// Of a settlement that has just begun: its first lease is taken.
    #[must_use]
    pub fn first(begun_at: DateTime<Utc>, limits: &Limits) -> Self {
        Self { attempts: 1, next_attempt_at: begun_at + limits.lease, parked: false }
    }
}

/// The stored call and the progress of an open settlement.
pub(super) fn open(conn: &mut PgConnection, address: &Address) -> QueryResult<Option<(Value, Progress)>> {
    settlements::table
        .find((address.account_id, address.reference()))
        .filter(settlements::settled_at.is_null())
        .select((settlements::call, progress_columns()))
        .first(conn)
        .optional()
}

/// How far the open settlements of these references are.
///
/// # Errors
/// The database's.
pub fn progress(
    conn: &mut PgConnection,
    account_id: Uuid,
    references: &[&str],
) -> QueryResult<HashMap<String, Progress>> {
    let rows: Vec<(String, Progress)> = settlements::table
        .filter(settlements::account_id.eq(account_id))
        .filter(settlements::reference.eq_any(references))
        .filter(settlements::settled_at.is_null())
        .select((settlements::reference, progress_columns()))
        .load(conn)?;
    Ok(rows.into_iter().collect())
}

/// The references of an account's parked settlements.
///
/// # Errors
/// The database's.
pub fn parked_references(conn: &mut PgConnection, account_id: Uuid) -> QueryResult<Vec<String>> {
    settlements::table
        .filter(settlements::account_id.eq(account_id))
        .filter(settlements::settled_at.is_null())
        .filter(settlements::parked_at.is_not_null())
        .select(settlements::reference)
        .load(conn)
}

/// How many settlements are parked, of all accounts. An index has the open rows, which are few.
///
/// # Errors
/// The database's.
pub fn parked_count(conn: &mut PgConnection) -> QueryResult<i64> {
    let parked =
        settlements::table.filter(settlements::settled_at.is_null()).filter(settlements::parked_at.is_not_null());
    parked.select(count_star()).first(conn)
}

/// A parked settlement, which waits until a person resumes it.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = settlements, check_for_backend(diesel::pg::Pg))]
pub struct Parked {
    /// The account.
    pub account_id: Uuid,
    /// The path of the object that the request made.
    pub location: String,
    /// The call's name at the system outside.
    pub reference: String,
    /// The client's key.
    pub key: String,
    /// The id of the request that began the settlement.
    pub request_id: Uuid,
    /// Leases taken so far.
    pub attempts: i32,
    /// When the settlement began.
    pub created_at: DateTime<Utc>,
}

/// The parked settlements of all accounts, oldest first.
///
/// # Errors
/// The database's.
pub fn parked(conn: &mut PgConnection) -> QueryResult<Vec<Parked>> {
    settlements::table
        .filter(settlements::settled_at.is_null())
        .filter(settlements::parked_at.is_not_null())
        .order(settlements::created_at)
        .select(Parked::as_select())
        .load(conn)
}
