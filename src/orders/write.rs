//! Writing an order: one statement for the order, its event, what it reserves, and (behind it) the record.
//!
//! What was decided about stock is held here, under locks on the stocked products. The table refuses to reserve more than
//! there is; and where a product is no longer stocked, fewer rows move than the order says, and it has no items, which the
//! table refuses too. Either way nothing is written, and the order is decided again.

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::sql_types::{Array, BigInt, Jsonb, Text, Timestamptz, Uuid as SqlUuid};
use uuid::Uuid;

use super::Row;
use crate::idempotency::{Statement, Write};

/// What an order takes of stocked products.
#[derive(Default)]
pub(super) struct Reserves {
    pub skus: Vec<String>,
    pub quantities: Vec<i64>,
}

/// The order, its event, and what it reserves.
pub(super) struct WriteOrder {
    pub account_id: Uuid,
    pub reserves: Reserves,
    pub row: Row,
    pub event_id: Uuid,
    /// The order as it is answered.
    pub event: String,
}

impl Write for WriteOrder {
    fn is_outdated(&self, refusal: &DieselError) -> bool {
        let DieselError::DatabaseError(kind, information) = refusal else { return false };
        match kind {
            DatabaseErrorKind::CheckViolation => {
                information.constraint_name() == Some("products_reserved_within_stock")
            }
            DatabaseErrorKind::NotNullViolation => information.column_name() == Some("items"),
            _ => false,
        }
    }
}

/// Products are locked in the order of their SKUs, as everybody does.
const RESERVE: &str = "WITH wanted AS (
      SELECT * FROM unnest(?, ?) AS wanted (sku, quantity)
    ), stocked AS (
      SELECT products.sku, wanted.quantity FROM products JOIN wanted ON wanted.sku = products.sku
      WHERE products.account_id = ? AND products.stock IS NOT NULL
      ORDER BY products.sku FOR UPDATE OF products
    ), moved AS (
      UPDATE products SET reserved = products.reserved + stocked.quantity FROM stocked
      WHERE products.account_id = ? AND products.sku = stocked.sku RETURNING products.sku
    ), ";

/// The items, where as many products were there to reserve of as the order says.
const ITEMS_IF_RESERVED: &str = "CASE WHEN (SELECT count(*) FROM moved) = (SELECT count(*) FROM wanted) THEN ? END";

/// Two texts at most, one for orders that reserve and one for those that don't; Diesel knows them by their text.
impl QueryId for WriteOrder {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl QueryFragment<Pg> for WriteOrder {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        let Self { account_id, reserves, row, event_id, event } = self;
        let reserving = !reserves.skus.is_empty();
        let mut sql = Statement::new(out.reborrow(), if reserving { RESERVE } else { "WITH " });
        if reserving {
            sql.bind::<Array<Text>, _>(&reserves.skus)?;
            sql.bind::<Array<BigInt>, _>(&reserves.quantities)?;
            sql.bind::<SqlUuid, _>(account_id)?;
            sql.bind::<SqlUuid, _>(account_id)?;
        }
        sql.end();
        let mut sql = Statement::new(
            out.reborrow(),
            "placed AS (
               INSERT INTO orders (account_id, id, customer, status, currency, amount, created_at, items)
               VALUES (?, ?, ?, ?, ?, ?, ?, ",
        );
        sql.bind::<SqlUuid, _>(account_id)?;
        sql.bind::<SqlUuid, _>(&row.id)?;
        sql.bind::<Text, _>(&row.customer)?;
        sql.bind::<Text, _>(&row.status)?;
        sql.bind::<Text, _>(&row.currency)?;
        sql.bind::<BigInt, _>(&row.amount)?;
        sql.bind::<Timestamptz, _>(&row.created_at)?;
        sql.end();
        let mut sql = Statement::new(out.reborrow(), if reserving { ITEMS_IF_RESERVED } else { "?" });
        sql.bind::<Jsonb, _>(&row.lines)?;
        sql.end();
        let mut sql = Statement::new(
            out,
            ")), told AS (INSERT INTO events (account_id, id, type, data) VALUES (?, ?, 'order.created', ?::json))",
        );
        sql.bind::<SqlUuid, _>(account_id)?;
        sql.bind::<SqlUuid, _>(event_id)?;
        sql.bind::<Text, _>(event)?;
        sql.end();
        Ok(())
    }
}

/// The same without a record, for `bench/`.
#[cfg(feature = "bench")]
pub(super) struct WriteOrderAlone(pub WriteOrder);

#[cfg(feature = "bench")]
impl QueryId for WriteOrderAlone {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

#[cfg(feature = "bench")]
impl RunQueryDsl<diesel::pg::PgConnection> for WriteOrderAlone {}

#[cfg(feature = "bench")]
impl QueryFragment<Pg> for WriteOrderAlone {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.0.walk_ast(out.reborrow())?;
        out.push_sql(" SELECT 1");
        Ok(())
    }
}
