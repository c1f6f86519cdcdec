//! Events: one row for each change, written by the transaction that made the change.
//!
//! If the transaction is rolled back, so is its event.

use diesel::pg::PgConnection;
use diesel::prelude::*;
use serde::Serialize;
use uuid::Uuid;

use crate::error::ApiError;
use crate::schema::events;

/// Writes the event of a change: `data` is the object after it.
///
/// # Errors
/// The database's.
pub fn record<T: Serialize>(conn: &mut PgConnection, account_id: Uuid, kind: &str, data: &T) -> Result<(), ApiError> {
    diesel::insert_into(events::table)
        .values((
            events::account_id.eq(account_id),
            events::id.eq(Uuid::now_v7()),
            events::type_.eq(kind),
            events::data.eq(serde_json::to_value(data)?),
        ))
        .execute(conn)?;
    Ok(())
}
