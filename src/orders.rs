//! Orders: made at the catalogue's prices, listed, canceled.
//!
//! An order keeps snapshots of what it was made of, so later changes of the catalogue don't change it. Stock is reserved
//! by the transaction that makes the order, under locks on the stocked products, and given back when it is canceled.

use std::collections::HashMap;

use actix_web::HttpResponse;
use actix_web::web::Data;
use chrono::{DateTime, Utc};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use garde::Validate;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::auth::Account;
use crate::db::Db;
use crate::error::ApiError;
use crate::events;
use crate::idempotency::{Failures, Keyed, Policy, Reply, Scope, hours, seconds};
use crate::problems::{MIXED_CURRENCIES, ORDER_NOT_CANCELABLE, OUT_OF_STOCK, SETTLEMENT_IN_PROGRESS, UNKNOWN_PRODUCT};
use crate::schema::{charges, order_items, orders, products};
use crate::wire::{Id, NoBody, Paging, printable, slug};

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

/// Items in one order at most: the reply stays well below what the idempotency record may hold.
const MAX_ITEMS: usize = 100;

/// The body of `POST /v1/orders`.
#[derive(Debug, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct NewOrder {
    #[garde(length(chars, min = 1, max = 255), custom(printable))]
    customer: String,
    #[garde(length(min = 1, max = MAX_ITEMS), dive, custom(each_sku_once))]
    items: Vec<NewItem>,
}

#[derive(Debug, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
struct NewItem {
    #[garde(custom(slug))]
    sku: String,
    #[garde(range(min = 1, max = 10_000))]
    quantity: i32,
}

fn each_sku_once(items: &[NewItem], (): &()) -> garde::Result {
    let mut seen = std::collections::HashSet::new();
    match items.iter().find(|item| !seen.insert(&item.sku)) {
        Some(twice) => Err(garde::Error::new(format!("the SKU {} stands twice; add up its quantities", twice.sku))),
        None => Ok(()),
    }
}

/// An order as it is answered.
#[derive(Clone, Debug, Serialize)]
pub struct Order {
    /// UUIDv7.
    pub id: Uuid,
    /// Whom the merchant sells to, in the merchant's words.
    pub customer: String,
    /// `pending`, `paid`, `canceled` or `refunded`.
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
#[derive(Clone, Debug, Serialize)]
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

/// `POST /v1/orders`
///
/// # Errors
/// 422 unknown-product, mixed-currencies; 409 out-of-stock; what the idempotency key says.
pub async fn create(account: Account, request: Keyed<NewOrder>, db: Data<Db>) -> Result<HttpResponse, ApiError> {
    CREATE_ORDER
        .run(&**db, account.id, request, move |conn, order| {
            let order = insert(conn, account.id, order)?;
            Ok::<_, ApiError>(Reply::created(format!("/v1/orders/{}", order.id), &order)?)
        })
        .await
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = products, check_for_backend(diesel::pg::Pg))]
struct Offer {
    sku: String,
    name: String,
    unit_amount: i64,
    currency: String,
    stock: Option<i64>,
    grant_feature: Option<String>,
    grant_units: Option<i64>,
    grant_days: Option<i32>,
}

fn insert(conn: &mut PgConnection, account_id: Uuid, new: &NewOrder) -> Result<Order, ApiError> {
    let offers = offers(conn, account_id, new)?;
    let stocked: HashMap<&str, i64> = std::iter::zip(&new.items, &offers)
        .filter(|(_, offer)| offer.stock.is_some())
        .map(|(item, _)| (item.sku.as_str(), i64::from(item.quantity)))
        .collect();
    let reserved = reserve(conn, account_id, &stocked)?;
    let amount =
        std::iter::zip(&new.items, &offers).map(|(item, offer)| offer.unit_amount * i64::from(item.quantity)).sum();
    let id = Uuid::now_v7();
    let currency = offers[0].currency.clone();
    let created_at = diesel::insert_into(orders::table)
        .values((
            orders::account_id.eq(account_id),
            orders::id.eq(id),
            orders::customer.eq(&new.customer),
            orders::status.eq("pending"),
            orders::currency.eq(&currency),
            orders::amount.eq::<i64>(amount),
        ))
        .returning(orders::created_at)
        .get_result(conn)?;
    let rows: Vec<_> = std::iter::zip(&new.items, &offers)
        .zip(0_i16..)
        .map(|((item, offer), position)| {
            (
                order_items::account_id.eq(account_id),
                order_items::order_id.eq(id),
                order_items::sku.eq(&item.sku),
                order_items::position.eq(position),
                order_items::name.eq(&offer.name),
                order_items::quantity.eq(item.quantity),
                order_items::unit_amount.eq(offer.unit_amount),
                order_items::reserves.eq(reserved.contains(&item.sku)),
                order_items::grant_feature.eq(&offer.grant_feature),
                order_items::grant_units.eq(offer.grant_units),
                order_items::grant_days.eq(offer.grant_days),
            )
        })
        .collect();
    diesel::insert_into(order_items::table).values(rows).execute(conn)?;
    let items = std::iter::zip(&new.items, offers)
        .map(|(item, offer)| Item {
            sku: offer.sku,
            name: offer.name,
            quantity: item.quantity,
            unit_amount: offer.unit_amount,
        })
        .collect();
    let order =
        Order { id, customer: new.customer.clone(), status: "pending".into(), currency, amount, items, created_at };
    events::record(conn, account_id, "order.created", &order)?;
    Ok(order)
}

/// The products of the order's items, in their order, at today's terms. No lock: these are snapshots, and an unlimited
/// product must never be a hot row.
fn offers(conn: &mut PgConnection, account_id: Uuid, new: &NewOrder) -> Result<Vec<Offer>, ApiError> {
    let skus: Vec<&str> = new.items.iter().map(|item| item.sku.as_str()).collect();
    let found: Vec<Offer> = products::table
        .filter(products::account_id.eq(account_id))
        .filter(products::sku.eq_any(skus))
        .select(Offer::as_select())
        .load(conn)?;
    let mut by_sku: HashMap<String, Offer> = found.into_iter().map(|offer| (offer.sku.clone(), offer)).collect();
    let mut offers = Vec::with_capacity(new.items.len());
    for item in &new.items {
        let unknown = || {
            ApiError::new(&UNKNOWN_PRODUCT, format!("there is no product {}", item.sku)).with("sku", item.sku.clone())
        };
        offers.push(by_sku.remove(&item.sku).ok_or_else(unknown)?);
    }
    if let Some(other) = offers.iter().find(|offer| offer.currency != offers[0].currency) {
        let detail =
            format!("{} is in {}, but {} is in {}", offers[0].sku, offers[0].currency, other.sku, other.currency);
        return Err(ApiError::new(&MIXED_CURRENCIES, detail));
    }
    Ok(offers)
}

/// Reserves stock for the quantities wanted of stocked products, and returns the SKUs for which it did.
fn reserve(conn: &mut PgConnection, account_id: Uuid, wanted: &HashMap<&str, i64>) -> Result<Vec<String>, ApiError> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let stocked = lock_products(conn, account_id, wanted.keys().copied())?;
    let mut reserved = Vec::with_capacity(stocked.len());
    for (sku, stock, already) in stocked {
        // A PUT may have made it unlimited between the offer and the lock.
        let (Some(stock), Some(&quantity)) = (stock, wanted.get(sku.as_str())) else { continue };
        let left = stock - already;
        if quantity > left {
            let detail = format!("{left} of {sku} are left, {quantity} were ordered");
            return Err(ApiError::new(&OUT_OF_STOCK, detail).with("sku", sku).with("available", left));
        }
        diesel::update(products::table.find((account_id, &sku)))
            .set(products::reserved.eq(products::reserved + quantity))
            .execute(conn)?;
        reserved.push(sku);
    }
    Ok(reserved)
}

/// Locks products in the order of their SKUs, as everybody does: (sku, stock, reserved).
fn lock_products<'a>(
    conn: &mut PgConnection,
    account_id: Uuid,
    skus: impl Iterator<Item = &'a str>,
) -> QueryResult<Vec<(String, Option<i64>, i64)>> {
    products::table
        .filter(products::account_id.eq(account_id))
        .filter(products::sku.eq_any(skus.collect::<Vec<_>>()))
        .order(products::sku)
        .select((products::sku, products::stock, products::reserved))
        .for_update()
        .load(conn)
}

/// `GET /v1/orders`
///
/// # Errors
/// 422 for a bad page.
pub async fn list(account: Account, paging: Paging<Uuid>, db: Data<Db>) -> Result<HttpResponse, ApiError> {
    let page = db
        .run(move |conn| {
            let mut query =
                orders::table.filter(orders::account_id.eq(account.id)).select(Row::as_select()).into_boxed();
            if let Some(after) = paging.after {
                query = query.filter(orders::id.lt(after));
            }
            let rows: Vec<Row> = query.order(orders::id.desc()).limit(paging.rows()).load(conn)?;
            Ok::<_, ApiError>(paging.page(with_items(conn, account.id, rows)?))
        })
        .await?;
    Ok(HttpResponse::Ok().json(page))
}

/// `GET /v1/orders/{id}`
///
/// # Errors
/// 404.
pub async fn get(account: Account, id: Id, db: Data<Db>) -> Result<HttpResponse, ApiError> {
    let order = db
        .run(move |conn| {
            let row: Option<Row> =
                orders::table.find((account.id, id.0)).select(Row::as_select()).first(conn).optional()?;
            let row = row.ok_or_else(no_order)?;
            with_items(conn, account.id, vec![row])?.pop().ok_or_else(no_order)
        })
        .await?;
    Ok(HttpResponse::Ok().json(order))
}

/// `POST /v1/orders/{id}/cancel`
///
/// # Errors
/// 404; 409 order-not-cancelable, settlement-in-progress; what the idempotency key says.
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
    let reserving: HashMap<String, i32> = order_items::table
        .filter(order_items::account_id.eq(account_id))
        .filter(order_items::order_id.eq(id))
        .filter(order_items::reserves)
        .select((order_items::sku, order_items::quantity))
        .load::<(String, i32)>(conn)?
        .into_iter()
        .collect();
    for (sku, ..) in lock_products(conn, account_id, reserving.keys().map(String::as_str))? {
        let quantity = i64::from(reserving[&sku]);
        diesel::update(products::table.find((account_id, sku)))
            .set(products::reserved.eq(products::reserved - quantity))
            .execute(conn)?;
    }
    let order = set_status(conn, account_id, id, "canceled")?;
    events::record(conn, account_id, "order.canceled", &order)?;
    Ok(order)
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

/// An order's row.
#[derive(Queryable, Selectable)]
#[diesel(table_name = orders, check_for_backend(diesel::pg::Pg))]
pub(crate) struct Row {
    pub id: Uuid,
    pub customer: String,
    pub status: String,
    pub currency: String,
    pub amount: i64,
    pub created_at: DateTime<Utc>,
}

/// Locks an order until the transaction ends: whoever decides by its status goes through here.
///
/// # Errors
/// 404.
pub(crate) fn lock(conn: &mut PgConnection, account_id: Uuid, id: Uuid) -> Result<Row, ApiError> {
    let row = orders::table.find((account_id, id)).select(Row::as_select()).for_update().first(conn).optional()?;
    row.ok_or_else(no_order)
}

/// Moves a locked order to another status, and returns it whole.
///
/// # Errors
/// The database's.
pub(crate) fn set_status(conn: &mut PgConnection, account_id: Uuid, id: Uuid, status: &str) -> Result<Order, ApiError> {
    let row = diesel::update(orders::table.find((account_id, id)))
        .set(orders::status.eq(status))
        .returning(Row::as_returning())
        .get_result(conn)?;
    with_items(conn, account_id, vec![row])?.pop().ok_or_else(no_order)
}

fn with_items(conn: &mut PgConnection, account_id: Uuid, rows: Vec<Row>) -> QueryResult<Vec<Order>> {
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let found = order_items::table
        .filter(order_items::account_id.eq(account_id))
        .filter(order_items::order_id.eq_any(ids))
        .order((order_items::order_id, order_items::position))
        .select((
            order_items::order_id,
            order_items::sku,
            order_items::name,
            order_items::quantity,
            order_items::unit_amount,
        ))
        .load::<(Uuid, String, String, i32, i64)>(conn)?;
    let mut items: HashMap<Uuid, Vec<Item>> = HashMap::new();
    for (order_id, sku, name, quantity, unit_amount) in found {
        items.entry(order_id).or_default().push(Item { sku, name, quantity, unit_amount });
    }
    let whole = |row: Row| Order {
        items: items.remove(&row.id).unwrap_or_default(),
        id: row.id,
        customer: row.customer,
        status: row.status,
        currency: row.currency,
        amount: row.amount,
        created_at: row.created_at,
    };
    Ok(rows.into_iter().map(whole).collect())
}

fn no_order() -> ApiError {
    ApiError::not_found("order")
}
