// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hints: somebody reports that an outcome may be there, for example the external system by a webhook.
//!
//! Guarantees: a hint only makes the resolver look. A hint never ends a lease: while a holder works, the hint is noted, and the
//! call is due at once when the holder gives it back. A parked call stays parked, since it waits for a person.

use diesel::dsl::now;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::Timestamptz;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use super::lease;
use super::schema::external_calls;
use crate::{ExternalSystem, Resolver};
use idempotency::Database;

/// What a hint met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hinted<C> {
    /// No external call of the account has this reference.
    Unknown,
    /// The external call is open. It is due now, or a holder has it.
    Open,
    /// The external call is resolved, and nothing changed.
    Resolved(C),
}

impl<O: ExternalSystem, D: Database> Resolver<O, D> {
    /// Accepts a hint that the outcome of this external call may be there.
    pub async fn hint(&self, account_id: Uuid, reference: String) -> Result<Hinted<O::Call>, O::Error> {
        self.db.run(account_id, move |conn| Ok(hint(conn, account_id, &reference)?)).await
    }
}

fn hint<C: DeserializeOwned>(conn: &mut PgConnection, account_id: Uuid, reference: &str) -> QueryResult<Hinted<C>> {
    let row = external_calls::table.find((account_id, reference));
    let known: Option<(bool, Value)> =
        row.select((external_calls::resolved_at.is_not_null(), external_calls::call)).first(conn).optional()?;
    match known {
        None => return Ok(Hinted::Unknown),
        Some((true, call)) => return Ok(Hinted::Resolved(lease::parsed(call)?)),
        Some((false, _)) => {}
    }
    let clock = now.into_sql::<Timestamptz>();
    let waits =
        row.filter(external_calls::resolved_at.is_null()).filter(external_calls::next_attempt_at.gt(clock.nullable()));
    // One statement covers both cases, so that no hint is lost when a lease ends meanwhile: if the holder gives the
    // call back first, the call has no lease; if later, the holder finds the hint.
    diesel::update(waits).set(external_calls::hinted.eq(external_calls::leased)).execute(conn)?;
    let pauses = waits.filter(external_calls::leased.eq(false)).filter(external_calls::parked_at.is_null());
    diesel::update(pauses).set(external_calls::next_attempt_at.eq(clock.nullable())).execute(conn)?;
    Ok(Hinted::Open)
}
