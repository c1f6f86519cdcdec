//! The backlog: the external calls that have no outcome yet, for the person on call and for metrics.
//!
//! Guarantees: nothing here locks or writes. The numbers read the partial index of the open rows, which is as small as the open
//! work. The lists have a bound.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::dsl::{count, count_star, min, now};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::Timestamptz;
use serde::Serialize;
use uuid::Uuid;

use super::schema::external_calls;

/// How large and how old the backlog is, of all accounts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// External calls without an outcome that the resolver works on.
    pub open: i64,
    /// The age of the oldest of them, by the database's clock. None: there is none.
    pub oldest: Option<Duration>,
    /// External calls that wait until a person resumes them. They count neither as open nor for the age.
    pub parked: i64,
}

/// Reads the size and the age.
pub fn backlog(conn: &mut PgConnection) -> QueryResult<Backlog> {
    let (all, parked, oldest, clock): (i64, i64, Option<DateTime<Utc>>, DateTime<Utc>) = external_calls::table
        .filter(external_calls::resolved_at.is_null())
        .select((
            count_star(),
            count(external_calls::parked_at),
            min(external_calls::created_at).aggregate_filter(external_calls::parked_at.is_null()),
            now.into_sql::<Timestamptz>(),
        ))
        .first(conn)?;
    // A call may begin between the statement's start and its snapshot: the age is zero then.
    let age = |since: DateTime<Utc>| (clock - since).to_std().unwrap_or_default();
    Ok(Backlog { open: all - parked, oldest: oldest.map(age), parked })
}

/// An account's part of the backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct OfAccount {
    /// The account.
    pub account_id: Uuid,
    /// External calls without an outcome that the resolver works on.
    pub open: i64,
    /// External calls that wait until a person resumes them.
    pub parked: i64,
    /// When the oldest of both began.
    pub oldest: Option<DateTime<Utc>>,
}

/// The accounts with a backlog, the largest backlog first, at most `rows`; or one account.
pub fn backlog_by_account(conn: &mut PgConnection, account_id: Option<Uuid>, rows: i64) -> QueryResult<Vec<OfAccount>> {
    let mut query = external_calls::table
        .filter(external_calls::resolved_at.is_null())
        .group_by(external_calls::account_id)
        .select((
            external_calls::account_id,
            count_star(),
            count(external_calls::parked_at),
            min(external_calls::created_at),
        ))
        .order((count_star().desc(), external_calls::account_id))
        .limit(rows)
        .into_boxed();
    if let Some(account_id) = account_id {
        query = query.filter(external_calls::account_id.eq(account_id));
    }
    let accounts: Vec<(Uuid, i64, i64, Option<DateTime<Utc>>)> = query.load(conn)?;
    let part = |(account_id, all, parked, oldest)| OfAccount { account_id, open: all - parked, parked, oldest };
    Ok(accounts.into_iter().map(part).collect())
}

/// An external call without an outcome.
#[derive(Clone, Debug, Queryable, Selectable, Serialize)]
#[diesel(table_name = external_calls, check_for_backend(diesel::pg::Pg))]
pub struct Open {
    /// The account.
    pub account_id: Uuid,
    /// The path of the object that the request made.
    pub location: String,
    /// The call's name at the system outside.
    pub reference: String,
    /// The client's key.
    pub key: String,
    /// The id of the request that began the external call.
    pub request_id: Uuid,
    /// Leases taken so far.
    pub attempts: i32,
    /// When the external call began.
    pub created_at: DateTime<Utc>,
    /// When the next attempt is due, or when the present one ends at the latest. Without a meaning for a parked call.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// Since when the external call waits for a person. None: the resolver works on it.
    pub parked_at: Option<DateTime<Utc>>,
}

/// The oldest external calls without an outcome, of one account or of all, at most `rows`.
pub fn open_calls(
    conn: &mut PgConnection,
    account_id: Option<Uuid>,
    only_parked: bool,
    rows: i64,
) -> QueryResult<Vec<Open>> {
    let mut query =
        external_calls::table.filter(external_calls::resolved_at.is_null()).select(Open::as_select()).into_boxed();
    if let Some(account_id) = account_id {
        query = query.filter(external_calls::account_id.eq(account_id));
    }
    if only_parked {
        query = query.filter(external_calls::parked_at.is_not_null());
    }
    query.order((external_calls::created_at, external_calls::reference)).limit(rows).load(conn)
}
