//! How far settlements are, for answers and for people. No lock: good to show, not to decide a write by.

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
    /// Nobody tries before; meaningless once parked.
    pub next_attempt_at: DateTime<Utc>,
    /// Whether it was given up until a person resumes it.
    pub parked: bool,
}

#[auto_type]
fn progress_columns() -> _ {
    // An open settlement has a time: the table's CHECK says so.
    (settlements::attempts, settlements::next_attempt_at.assume_not_null(), settlements::parked_at.is_not_null())
}

impl Progress {
    /// As the transaction has it that began the settlement at `now()`: the first lease is taken.
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

/// How far the open ones of these references are.
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

/// How many settlements are parked, of all accounts. Open rows are few, and an index has them.
///
/// # Errors
/// The database's.
pub fn parked_count(conn: &mut PgConnection) -> QueryResult<i64> {
    let parked =
        settlements::table.filter(settlements::settled_at.is_null()).filter(settlements::parked_at.is_not_null());
    parked.select(count_star()).first(conn)
}

/// A settlement that was given up until a person resumes it.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = settlements, check_for_backend(diesel::pg::Pg))]
pub struct Parked {
    /// Whose it is.
    pub account_id: Uuid,
    /// What the request made.
    pub location: String,
    /// What the system outside knows the call by.
    pub reference: String,
    /// The client's key.
    pub key: String,
    /// Of the request that began it.
    pub request_id: Uuid,
    /// Leases taken so far.
    pub attempts: i32,
    /// When it began.
    pub created_at: DateTime<Utc>,
}

/// What is parked, of all accounts, oldest first.
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
