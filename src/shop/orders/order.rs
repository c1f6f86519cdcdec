//! An order: its row, its lines, its lock.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::db::Jsonb;
use crate::http::ApiError;
use crate::schema::orders;
use crate::shop::events;
use crate::shop::metadata::Metadata;
use crate::shop::products::Grants;
use crate::shop::status::OrderStatus;
use idempotency::Prepared;

/// An order of products at the prices when it was made.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Order {
    /// UUIDv7.
    pub id: Uuid,
    /// The merchant's name for its customer.
    pub customer: String,
    /// `pending`: not paid yet. `paid`, `canceled` before a payment, or `refunded` in full.
    pub status: OrderStatus,
    /// ISO 4217.
    pub currency: String,
    /// The total, in minor units.
    pub amount: i64,
    /// The items, in the order of the request.
    pub items: Vec<Item>,
    /// Your own data, as the request had it.
    pub metadata: BTreeMap<String, String>,
    /// When the order was made.
    pub created_at: DateTime<Utc>,
}

/// One item of an order, at the price when the order was made.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Item {
    /// The product's SKU.
    pub sku: String,
    /// The product's name when the order was made.
    pub name: String,
    /// The number of units.
    pub quantity: i32,
    /// The price of one unit when the order was made, in minor units.
    pub unit_amount: i64,
}

impl From<&Line> for Item {
    fn from(line: &Line) -> Self {
        Self { sku: line.sku.clone(), name: line.name.clone(), quantity: line.quantity, unit_amount: line.unit_amount }
    }
}

/// An order's row.
#[derive(Queryable, Selectable)]
#[diesel(table_name = orders, check_for_backend(diesel::pg::Pg))]
pub(crate) struct Row {
    pub id: Uuid,
    pub customer: String,
    pub status: OrderStatus,
    pub currency: String,
    pub amount: i64,
    /// In the order of the request.
    #[diesel(column_name = items)]
    pub lines: Jsonb<Vec<Line>>,
    #[diesel(deserialize_as = Jsonb<Metadata>)]
    pub metadata: Metadata,
    pub created_at: DateTime<Utc>,
}

impl From<&Row> for Order {
    fn from(row: &Row) -> Self {
        Self {
            id: row.id,
            customer: row.customer.clone(),
            status: row.status,
            currency: row.currency.clone(),
            amount: row.amount,
            items: row.lines.0.iter().map(Item::from).collect(),
            metadata: row.metadata.clone(),
            created_at: row.created_at,
        }
    }
}

/// Locks an order until the transaction ends. Each decision by the order's status goes through this lock.
///
/// # Errors
/// 404.
pub(crate) fn lock(conn: &mut PgConnection, account_id: Uuid, id: Uuid) -> Result<Row, ApiError> {
    let row = orders::table.find((account_id, id)).select(Row::as_select()).for_update().first(conn).optional()?;
    row.ok_or_else(no_order)
}

/// Moves a locked order to another status, with the event `order.<status>`.
///
/// # Errors
/// The database's.
pub(crate) fn set_status(
    conn: &mut PgConnection,
    account_id: Uuid,
    id: Uuid,
    status: OrderStatus,
) -> Result<Row, ApiError> {
    let order = diesel::update(orders::table.find((account_id, id))).set(orders::status.eq(status));
    let row = Prepared(order.returning(Row::as_returning())).get_result(conn)?;
    events::record(conn, account_id, &format!("order.{}", status.as_str()), &Order::from(&row))?;
    Ok(row)
}

/// 404.
pub(super) fn no_order() -> ApiError {
    ApiError::not_found("order")
}

/// One line of the row. A later change of the catalogue doesn't change it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    pub sku: String,
    pub name: String,
    pub quantity: i32,
    /// In minor units of the order's currency.
    pub unit_amount: i64,
    /// Whether the line moved `reserved`. Only then, canceling gives units back. The product may have become unlimited since.
    pub reserves: bool,
    /// What the payment of one unit grants to the customer.
    pub grants: Option<Grants>,
}
