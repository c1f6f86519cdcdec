// SPDX-License-Identifier: MIT OR Apache-2.0
//! The progress of external calls, read without a lock: good enough for an answer, not for a decision to write.

use chrono::{DateTime, Utc};
use diesel::dsl::auto_type;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use serde::Serialize;
use serde_json::Value;

use super::schema::external_calls;
use crate::{Limits, MadeBy};

/// The attempts to find an outcome that is not known yet.
#[derive(Clone, Copy, Debug, Queryable, Serialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct Progress {
    /// Attempts so far.
    pub attempts: i32,
    /// When the next attempt is due, unless `parked`.
    pub next_attempt_at: DateTime<Utc>,
    /// Whether the attempts have ended without an outcome. A person must look and resume them.
    pub parked: bool,
}

#[auto_type]
pub(super) fn progress_columns() -> _ {
    // An open external call has a time: the table's CHECK says so.
    (
        external_calls::attempts,
        external_calls::next_attempt_at.assume_not_null(),
        external_calls::parked_at.is_not_null(),
    )
}

impl Progress {
    /// For an external call that has just begun, with its first lease taken.
    #[must_use]
    pub fn first(begun_at: DateTime<Utc>, limits: &Limits) -> Self {
        Self { attempts: 1, next_attempt_at: begun_at + limits.lease, parked: false }
    }
}

/// The stored call and the progress of an open external call.
pub(super) fn open(conn: &mut PgConnection, made_by: &MadeBy) -> QueryResult<Option<(Value, Progress)>> {
    external_calls::table
        .find((made_by.account_id, &made_by.reference))
        .filter(external_calls::resolved_at.is_null())
        .select((external_calls::call, progress_columns()))
        .first(conn)
        .optional()
}
