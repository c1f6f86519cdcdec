//! Settling: the final reply takes the place of a provisional one, in the transaction that records the outcome.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::pg::{Pg, PgConnection};
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::Error as DieselError;
use diesel::sql_types::{Binary, Double, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};

use super::key::Address;
use super::reply::{MAX_BODY, Reply};
use super::statement::Statement;
use super::store::{ReplyTooLarge, expires_in, guard, status_column};

/// Why a record was not settled. Each is a defect or a lost lease, and the transaction must roll back.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// The record is final already, or gone.
    #[error("the record to settle is {0}")]
    NotProvisional(&'static str),
    /// The final reply is over the limit.
    #[error(transparent)]
    TooLarge(#[from] ReplyTooLarge),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DieselError),
}

/// Puts the final reply in the place of a provisional one, and returns when it expires. Belongs into the transaction that
/// records the outcome, after the business rows were locked.
///
/// # Errors
/// [`SettleError`]; the caller must roll back, loudly.
pub fn settle(
    conn: &mut PgConnection,
    address: &Address,
    reply: &Reply,
    ttl: Duration,
) -> Result<Option<DateTime<Utc>>, SettleError> {
    if reply.body.len() > MAX_BODY {
        return Err(SettleError::TooLarge(ReplyTooLarge(reply.body.len())));
    }
    match guard(conn, address)? {
        Some(record) if record.reply.is_provisional() => {
            let status = status_column(reply)?;
            Ok(ReplaceReply { address, status, reply, ttl: expires_in(reply, ttl) }.get_result(conn)?)
        }
        Some(_) => Err(SettleError::NotProvisional("final already")),
        None => Err(SettleError::NotProvisional("gone")),
    }
}

struct ReplaceReply<'a> {
    address: &'a Address,
    status: i16,
    reply: &'a Reply,
    ttl: Option<f64>,
}

impl QueryId for ReplaceReply<'_> {
    type QueryId = ReplaceReply<'static>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for ReplaceReply<'_> {
    type SqlType = Nullable<Timestamptz>;
}

impl RunQueryDsl<PgConnection> for ReplaceReply<'_> {}

impl QueryFragment<Pg> for ReplaceReply<'_> {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        let mut sql = Statement::new(
            out,
            "UPDATE idempotency_keys SET status = ?, content_type = ?, location = ?, body = ?,
               expires_at = now() + make_interval(secs => ?)
             WHERE account_id = ? AND scope = ? AND key = ?
             RETURNING expires_at",
        );
        sql.bind::<SmallInt, _>(&self.status)?;
        sql.bind::<Nullable<Text>, _>(&self.reply.content_type)?;
        sql.bind::<Nullable<Text>, _>(&self.reply.location)?;
        sql.bind::<Binary, _>(&*self.reply.body)?;
        sql.bind::<Nullable<Double>, _>(&self.ttl)?;
        sql.bind::<SqlUuid, _>(&self.address.account_id)?;
        sql.bind::<Text, _>(&self.address.scope)?;
        sql.bind::<Text, _>(&self.address.key)?;
        sql.end();
        Ok(())
    }
}
