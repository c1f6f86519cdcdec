//! An order: its row, its lines, its lock.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::db::Jsonb;
use crate::http::{ApiError, OrNotFound as _};
use crate::schema::orders;
use crate::shop::events;
use crate::shop::metadata::Metadata;
use crate::shop::products::Grants;
use crate::shop::status::OrderStatus;
use idempotency::Prepared;

/// An order of products, at the prices of the time when it was created.
#[derive(Debug, Serialize, ToSchema, Queryable, Selectable)]
#[diesel(table_name = orders, check_for_backend(diesel::pg::Pg))]
pub struct Order {
    /// UUIDv7.
    pub id: Uuid,
    /// The merchant's name for its customer.
    pub customer: String,
    /// `pending` until it is paid; then `paid`, or `canceled` before a payment, or `refunded` in full.
    pub status: OrderStatus,
    /// ISO 4217.
    pub currency: String,
    /// The total, in minor units.
    pub amount: i64,
    /// The items, in the order of the request.
    #[diesel(deserialize_as = Jsonb<Vec<Item>>)]
    pub items: Vec<Item>,
    /// Your own data, as the request had it.
    #[diesel(deserialize_as = Jsonb<Metadata>)]
    pub metadata: BTreeMap<String, String>,
    /// When the order was created.
    pub created_at: DateTime<Utc>,
}

/// One item of an order, at the price of the time when the order was created. A later change to the catalogue doesn't
/// change it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Item {
    /// The product's SKU.
    pub sku: String,
    /// The product's name when the order was created.
    pub name: String,
    /// The number of units.
    pub quantity: i32,
    /// The price of one unit when the order was created, in minor units.
    pub unit_amount: i64,
    /// Whether the item moved `reserved`. Only then does canceling give units back: the product may have become
    /// unlimited since.
    #[serde(skip_serializing)]
    #[schema(ignore)]
    pub(crate) reserves: bool,
    /// What the payment of one unit grants to the customer.
    #[serde(skip_serializing)]
    #[schema(ignore)]
    pub(crate) grants: Option<Grants>,
}

/// An item as the column stores it, with what the API doesn't show.
#[derive(Debug, Serialize)]
pub(super) struct Stored {
    #[serde(flatten)]
    item: Item,
    reserves: bool,
    grants: Option<Grants>,
}

impl From<Item> for Stored {
    fn from(item: Item) -> Self {
        Self { reserves: item.reserves, grants: item.grants.clone(), item }
    }
}

impl From<Jsonb<Self>> for Vec<Item> {
    fn from(column: Jsonb<Self>) -> Self {
        column.0
    }
}

/// Locks an order until the transaction ends. Every decision that depends on the order's status goes through this lock.
///
/// # Errors
/// 404.
pub(crate) fn lock(conn: &mut PgConnection, account_id: Uuid, id: Uuid) -> Result<Order, ApiError> {
    orders::table.find((account_id, id)).select(Order::as_select()).for_update().first(conn).or_not_found("order")
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
) -> Result<Order, ApiError> {
    let order = diesel::update(orders::table.find((account_id, id))).set(orders::status.eq(status));
    let order = Prepared(order.returning(Order::as_returning())).get_result(conn)?;
    events::record(conn, account_id, &format!("order.{}", status.as_str()), &order)?;
    Ok(order)
}
