//! Orders: made at the catalogue's prices, listed, canceled.
//!
//! An order keeps snapshots of what it was made of, so later changes of the catalogue don't change it. Stock is reserved
//! by the statement that writes the order, under locks on the stocked products, and given back when it is canceled.

mod lines;
mod place;
mod write;

use std::collections::HashMap;

use actix_web::HttpResponse;
use actix_web::web::Data;
use chrono::{DateTime, Utc};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

pub(crate) use self::lines::{Line, Lines};
pub use self::place::NewOrder;
use self::place::PlaceOrder;
use crate::auth::Account;
use crate::db::Db;
use crate::error::ApiError;
use crate::events;
use crate::idempotency::{Failures, Keyed, Policy, Reply, Scope, hours, seconds};
use crate::openapi::shapes::OrderStatus;
use crate::problems::{ORDER_NOT_CANCELABLE, SETTLEMENT_IN_PROGRESS};
use crate::schema::{charges, orders, products};
use crate::wire::{Id, NoBody, Page, Paging};

/// What is out of stock now may be restocked in a minute: a failure is not worth keeping.
pub const CREATE_ORDER: Policy = Policy {
    route: "POST /v1/orders",
    scope: Scope::Account,
    failures: Failures::SuccessOnly,
    success_ttl: hours(24),
    wait: seconds(5),
};

/// An order that can't be canceled now (its payment is under way) may be cancelable soon.
pub const CANCEL_ORDER: Policy = Policy {
    route: "POST /v1/orders/{id}/cancel",
    scope: Scope::Resource,
    failures: Failures::SuccessOnly,
    success_ttl: hours(24),
    wait: seconds(5),
};

/// An order as it is answered.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Order {
    /// UUIDv7.
    pub id: Uuid,
    /// Whom the merchant sells to, in the merchant's words.
    pub customer: String,
    /// `pending`, `paid`, `canceled` or `refunded`.
    #[schema(value_type = OrderStatus)]
    pub status: String,
    /// ISO 4217.
    pub currency: String,
    /// The total, in minor units.
    pub amount: i64,
    /// As they were sent.
    pub items: Vec<Item>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// One line of an order, with its price then.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Item {
    /// The product's SKU.
    pub sku: String,
    /// Its name then.
    pub name: String,
    /// How many.
    pub quantity: i32,
    /// Its price then, in minor units.
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
    pub status: String,
    pub currency: String,
    pub amount: i64,
    #[diesel(column_name = items)]
    pub lines: Lines,
    pub created_at: DateTime<Utc>,
}

impl From<&Row> for Order {
    fn from(row: &Row) -> Self {
        Self {
            id: row.id,
            customer: row.customer.clone(),
            status: row.status.clone(),
            currency: row.currency.clone(),
            amount: row.amount,
            items: row.lines.0.iter().map(Item::from).collect(),
            created_at: row.created_at,
        }
    }
}

/// `POST /v1/orders`
///
/// # Errors
/// 422 unknown-product, mixed-currencies; 409 out-of-stock; what the idempotency key says.
#[utoipa::path(post, path = "/v1/orders", operation_id = "createOrder", tag = "Orders", summary = "Make an order",
    description = "At the catalogue's prices of now. Stock is reserved where the product has one.",
    request_body = NewOrder,
    responses((status = 201, body = Order, description = "The order, pending")))]
pub async fn create(account: Account, request: Keyed<NewOrder>, db: Data<Db>) -> Result<HttpResponse, ApiError> {
    CREATE_ORDER.decide(&**db, account.id, request, PlaceOrder { account_id: account.id }).await
}

/// The same order without a key, for `bench/` to tell what idempotency costs.
///
/// # Errors
/// As [`create`].
#[cfg(feature = "bench")]
pub async fn create_without_key(
    account: Account,
    request: crate::wire::Json<NewOrder>,
    db: Data<Db>,
) -> Result<HttpResponse, ApiError> {
    use crate::idempotency::Decision;
    let work = move |conn: &mut PgConnection| {
        let offers = place::offers(account.id, request.0.skus()).load(conn)?;
        let (reply, order) = PlaceOrder { account_id: account.id }.decide(&request.0, offers)?;
        write::WriteOrderAlone(order).execute(conn)?;
        Ok::<_, ApiError>(reply)
    };
    let reply = db.run(account.id, work).await?;
    let location = reply.location.unwrap_or_default();
    Ok(HttpResponse::Created().content_type("application/json").insert_header(("Location", location)).body(reply.body))
}

/// Locks products in the order of their SKUs, as `write.rs` does, and returns these.
fn lock_products<'a>(
    conn: &mut PgConnection,
    account_id: Uuid,
    skus: impl Iterator<Item = &'a str>,
) -> QueryResult<Vec<String>> {
    products::table
        .filter(products::account_id.eq(account_id))
        .filter(products::sku.eq_any(skus.collect::<Vec<_>>()))
        .order(products::sku)
        .select(products::sku)
        .for_update()
        .load(conn)
}

/// `GET /v1/orders`
///
/// # Errors
/// 422 for a bad page.
#[utoipa::path(get, path = "/v1/orders", operation_id = "listOrders", tag = "Orders", summary = "Orders",
    description = "Newest first.",
    params(Paging<Uuid>),
    responses((status = 200, body = Page<Order>, description = "A page")))]
pub async fn list(account: Account, paging: Paging<Uuid>, db: Data<Db>) -> Result<HttpResponse, ApiError> {
    let page = db
        .read(account.id, move |conn| {
            let mut query =
                orders::table.filter(orders::account_id.eq(account.id)).select(Row::as_select()).into_boxed();
            if let Some(after) = paging.after {
                query = query.filter(orders::id.lt(after));
            }
            let rows: Vec<Row> = query.order(orders::id.desc()).limit(paging.rows()).load(conn)?;
            Ok::<_, ApiError>(paging.page(rows.iter().map(Order::from).collect()))
        })
        .await?;
    Ok(HttpResponse::Ok().json(page))
}

/// `GET /v1/orders/{id}`
///
/// # Errors
/// 404.
#[utoipa::path(get, path = "/v1/orders/{id}", operation_id = "getOrder", tag = "Orders", summary = "An order",
    description = "As it is now.",
    params(Id),
    responses((status = 200, body = Order, description = "The order")))]
pub async fn get(account: Account, id: Id, db: Data<Db>) -> Result<HttpResponse, ApiError> {
    let row: Option<Row> = db
        .read(account.id, move |conn| {
            let order = orders::table.find((account.id, id.0)).select(Row::as_select());
            order.first(conn).optional().map_err(ApiError::from)
        })
        .await?;
    Ok(HttpResponse::Ok().json(Order::from(&row.ok_or_else(no_order)?)))
}

/// `POST /v1/orders/{id}/cancel`
///
/// # Errors
/// 404; 409 order-not-cancelable, settlement-in-progress; what the idempotency key says.
#[utoipa::path(post, path = "/v1/orders/{id}/cancel", operation_id = "cancelOrder", tag = "Orders", summary = "Cancel a pending order",
    description = "Gives its stock back.",
    params(Id),
    request_body = Option<NoBody>,
    responses((status = 200, body = Order, description = "The order, canceled")))]
pub async fn cancel(account: Account, id: Id, request: Keyed<NoBody>, db: Data<Db>) -> Result<HttpResponse, ApiError> {
    CANCEL_ORDER
        .run(&**db, account.id, request, move |conn, _| {
            let order = cancel_pending(conn, account.id, id.0)?;
            Ok::<_, ApiError>(Reply::ok(&order)?)
        })
        .await
}

fn cancel_pending(conn: &mut PgConnection, account_id: Uuid, id: Uuid) -> Result<Order, ApiError> {
    let order = lock(conn, account_id, id)?;
    if order.status != "pending" {
        return Err(ApiError::new(&ORDER_NOT_CANCELABLE, format!("the order is {}", order.status)));
    }
    if is_being_paid(conn, account_id, id)? {
        return Err(ApiError::new(&SETTLEMENT_IN_PROGRESS, "a payment of this order is under way"));
    }
    let reserving: HashMap<&str, i32> =
        order.lines.0.iter().filter(|line| line.reserves).map(|line| (line.sku.as_str(), line.quantity)).collect();
    for sku in lock_products(conn, account_id, reserving.keys().copied())? {
        let quantity = i64::from(reserving[sku.as_str()]);
        diesel::update(products::table.find((account_id, sku)))
            .set(products::reserved.eq(products::reserved - quantity))
            .execute(conn)?;
    }
    set_status(conn, account_id, id, "canceled").map(|row| Order::from(&row))
}

/// Whether a charge of the order is processing. The order must be locked, and this a later statement than the one that
/// locked it: one statement would look with the snapshot from before it waited.
pub(crate) fn is_being_paid(conn: &mut PgConnection, account_id: Uuid, order_id: Uuid) -> QueryResult<bool> {
    let processing = charges::table
        .filter(charges::account_id.eq(account_id))
        .filter(charges::order_id.eq(order_id))
        .filter(charges::status.eq("processing"));
    diesel::select(diesel::dsl::exists(processing)).get_result(conn)
}

/// Locks an order until the transaction ends: whoever decides by its status goes through here.
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
pub(crate) fn set_status(conn: &mut PgConnection, account_id: Uuid, id: Uuid, status: &str) -> Result<Row, ApiError> {
    let row = diesel::update(orders::table.find((account_id, id)))
        .set(orders::status.eq(status))
        .returning(Row::as_returning())
        .get_result(conn)?;
    events::record(conn, account_id, &format!("order.{status}"), &Order::from(&row))?;
    Ok(row)
}

fn no_order() -> ApiError {
    ApiError::not_found("order")
}
