// SPDX-License-Identifier: MIT OR Apache-2.0
//! For support and for lists, behind the feature `support`: the open external calls, by account and one by one, and the
//! progress of those on a page.
//!
//! Nothing here locks or writes. Each read has a limit, or is bounded by what the caller names.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::dsl::{count, count_star, min};
use diesel::pg::{Pg, PgConnection};
use diesel::prelude::*;
use diesel::sql_types::Varchar;
use serde::Serialize;
use uuid::Uuid;

use super::progress::{Progress, progress_columns};
use super::schema::external_calls;

/// An account's part of the backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct OfAccount {
    /// The account.
    pub account_id: Uuid,
    /// External calls without an outcome that the resolver works on.
    pub open: i64,
    /// External calls that wait until a person resumes them.
    pub parked: i64,
    /// When the oldest of all these began.
    pub oldest: Option<DateTime<Utc>>,
}

/// At most `rows` accounts with a backlog, the largest backlog first; or one account.
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
    /// The path of the object that the request created.
    pub location: String,
    /// The call's name at the external system.
    pub reference: String,
    /// The client's key.
    pub key: String,
    /// The id of the request that began the external call.
    pub request_id: Uuid,
    /// Leases taken so far.
    pub attempts: i32,
    /// When the external call began.
    pub created_at: DateTime<Utc>,
    /// When the next attempt is due, or when the current one ends at the latest. Meaningless for a parked call.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// Since when the external call has waited for a person. None while the resolver works on it.
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

/// The progress of the open external calls with these references.
pub fn progress(
    conn: &mut PgConnection,
    account_id: Uuid,
    references: &[&str],
) -> QueryResult<HashMap<String, Progress>> {
    let rows: Vec<(String, Progress)> = external_calls::table
        .filter(external_calls::account_id.eq(account_id))
        .filter(external_calls::reference.eq_any(references))
        .filter(external_calls::resolved_at.is_null())
        .select((external_calls::reference, progress_columns()))
        .load(conn)?;
    Ok(rows.into_iter().collect())
}

/// A query for names of external calls.
pub type References<'a> = external_calls::BoxedQuery<'a, Pg, Varchar>;

/// The references of an account's parked external calls, for a sub-select: after a long outage they may be many.
#[must_use]
pub fn parked_references<'a>(account_id: Uuid) -> References<'a> {
    external_calls::table
        .filter(external_calls::account_id.eq(account_id))
        .filter(external_calls::resolved_at.is_null())
        .filter(external_calls::parked_at.is_not_null())
        .select(external_calls::reference)
        .into_boxed()
}
