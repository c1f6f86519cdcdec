// SPDX-License-Identifier: MIT OR Apache-2.0
//! How far external calls are, read without a lock: good for an answer, not for a decision to write.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::dsl::auto_type;
use diesel::pg::{Pg, PgConnection};
use diesel::prelude::*;
use diesel::sql_types::Varchar;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::schema::external_calls;
use crate::Limits;
use idempotency::Address;

/// The attempts to learn an outcome that is not known yet.
#[derive(Clone, Copy, Debug, Queryable, Serialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct Progress {
    /// Attempts so far.
    pub attempts: i32,
    /// When the next attempt is due, unless `parked`.
    pub next_attempt_at: DateTime<Utc>,
    /// True: the attempts have ended without an outcome. A person must look and resume them.
    pub parked: bool,
}

#[auto_type]
fn progress_columns() -> _ {
    // An open external call has a time: the table's CHECK says so.
    (
        external_calls::attempts,
        external_calls::next_attempt_at.assume_not_null(),
        external_calls::parked_at.is_not_null(),
    )
}

impl Progress {
    /// Of an external call that has just begun: its first lease is taken.
    #[must_use]
    pub fn first(begun_at: DateTime<Utc>, limits: &Limits) -> Self {
        Self { attempts: 1, next_attempt_at: begun_at + limits.lease, parked: false }
    }
}

/// The stored call and the progress of an open external call.
pub(super) fn open(conn: &mut PgConnection, address: &Address) -> QueryResult<Option<(Value, Progress)>> {
    external_calls::table
        .find((address.account_id, address.reference()))
        .filter(external_calls::resolved_at.is_null())
        .select((external_calls::call, progress_columns()))
        .first(conn)
        .optional()
}

/// How far the open external calls of these references are.
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
