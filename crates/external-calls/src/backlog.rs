// SPDX-License-Identifier: MIT OR Apache-2.0
//! The backlog: how many external calls have no outcome yet, for metrics and alerts.
//!
//! Guarantees: nothing here locks or writes. The numbers read the partial index of the open rows, which is as small as the open
//! work.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::dsl::{count, count_star, min, now};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::Timestamptz;

use super::schema::external_calls;

/// How large and how old the backlog is, of all accounts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// External calls without an outcome that the resolver works on.
    pub open: i64,
    /// The age of the oldest of them, by the database's clock. None if there are none.
    pub oldest: Option<Duration>,
    /// External calls that wait until a person resumes them. Neither `open` nor `oldest` includes them.
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
