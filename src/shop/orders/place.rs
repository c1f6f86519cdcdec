//! Placing an order: offers, one currency, stock, the order, its event. `place` runs in the order in which it reads. Canceling
//! gives the stock back.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::iter::zip;

use diesel::pg::PgConnection;
use diesel::prelude::*;
use serde_json::json;
use uuid::Uuid;

use super::order::{Item, Order, Stored};
use crate::db::Jsonb;
use crate::http::ApiError;
use crate::http::problems::{MIXED_CURRENCIES, OUT_OF_STOCK, UNKNOWN_PRODUCT};
use crate::schema::{orders, products};
use crate::shop::metadata::METADATA;
use crate::shop::products::Product;
use crate::shop::status::OrderStatus;
use crate::shop::{CUSTOMER, SLUG, events};
use checked_body::{int, list, object};
use idempotency::Prepared;

/// The most items of one order, so that the reply stays well below the limit of the idempotency record.
const MAX_ITEMS: usize = 100;

object! {
    /// The body of `POST /v1/orders`.
    #[example = json!({"customer": "ada", "items": [{"sku": "pro-monthly", "quantity": 1}]})]
    pub struct NewOrder {
        /// The merchant's name for its customer.
        #[example = "ada"]
        customer: String = CUSTOMER,
        /// What is ordered. No two items have the same SKU.
        items: Vec<NewItem> = list(1, MAX_ITEMS, ("sku", |item: &NewItem| &item.sku)),
        /// Your own data about the order, such as its number in your system. It is returned and never interpreted.
        #[example = json!({"order_number": "A-1001"})]
        metadata: Option<BTreeMap<String, String>> = METADATA,
    }
}

object! {
    struct NewItem {
        #[example = "pro-monthly"]
        sku: String = SLUG,
        #[example = 1]
        quantity: i32 = int(1, 10_000),
    }
}

/// Places an order, in the transaction that holds its key.
///
/// # Errors
/// 422 unknown-product, mixed-currencies; 409 out-of-stock.
pub(crate) fn place(conn: &mut PgConnection, account_id: Uuid, new: &NewOrder) -> Result<Order, ApiError> {
    let offers = offers(conn, account_id, new)?;
    one_currency(&offers)?;
    let reserved = reserve(conn, account_id, new, &offers)?;
    let order = insert(conn, account_id, new, offers, &reserved)?;
    events::record(conn, account_id, "order.created", &order)?;
    Ok(order)
}

/// The products of the order, one for each item. They are not locked, so that an unlimited product never becomes a hot
/// row.
fn offers(conn: &mut PgConnection, account_id: Uuid, new: &NewOrder) -> Result<Vec<Product>, ApiError> {
    let skus: Vec<_> = new.items.iter().map(|item| item.sku.as_str()).collect();
    let found: Vec<Product> = products::table
        .filter(products::account_id.eq(account_id))
        .filter(products::sku.eq_any(skus))
        .select(Product::as_select())
        .load(conn)?;
    let mut by_sku: HashMap<String, Product> = found.into_iter().map(|offer| (offer.sku.clone(), offer)).collect();
    let of_item = |item: &NewItem| by_sku.remove(&item.sku).ok_or_else(|| unknown_product(&item.sku));
    new.items.iter().map(of_item).collect()
}

fn one_currency(offers: &[Product]) -> Result<(), ApiError> {
    let first = &offers[0];
    match offers.iter().find(|offer| offer.currency != first.currency) {
        None => Ok(()),
        Some(other) => Err(ApiError::new(
            &MIXED_CURRENCIES,
            format!("{} is in {}, but {} is in {}", first.sku, first.currency, other.sku, other.currency),
        )),
    }
}

/// Reserves the units of the products with a stock. The products are locked `FOR UPDATE`, so their stock can't change before
/// COMMIT. Every transaction locks products in the order of their SKUs, so they don't deadlock. Returns the reserved
/// SKUs. A product that became unlimited after it was read is not among them.
fn reserve(
    conn: &mut PgConnection,
    account_id: Uuid,
    new: &NewOrder,
    offers: &[Product],
) -> Result<HashSet<String>, ApiError> {
    let stocked: HashMap<&str, i64> = zip(&new.items, offers)
        .filter(|(_, offer)| offer.stock.is_some())
        .map(|(item, _)| (item.sku.as_str(), i64::from(item.quantity)))
        .collect();
    let mut reserved = HashSet::new();
    for (sku, left) in lock_stock(conn, account_id, stocked.keys().copied())? {
        let (Some(left), quantity) = (left, stocked[sku.as_str()]) else { continue };
        if quantity > left {
            let detail = format!("{left} of {sku} are left, {quantity} were ordered");
            return Err(ApiError::new(&OUT_OF_STOCK, detail).with("sku", sku).with("available", left));
        }
        move_reserved(conn, account_id, &sku, quantity)?;
        reserved.insert(sku);
    }
    Ok(reserved)
}

/// Returns the units that a locked order reserved to the stock.
pub(super) fn give_back(conn: &mut PgConnection, account_id: Uuid, order: &Order) -> QueryResult<()> {
    let reserving = order.items.iter().filter(|item| item.reserves);
    let reserved: HashMap<&str, i32> = reserving.map(|item| (item.sku.as_str(), item.quantity)).collect();
    for (sku, _) in lock_stock(conn, account_id, reserved.keys().copied())? {
        move_reserved(conn, account_id, &sku, -i64::from(reserved[sku.as_str()]))?;
    }
    Ok(())
}

/// Locks products until the transaction ends, in the order of their SKUs. Returns how many units of each are left, or
/// None for an unlimited product.
fn lock_stock<'a>(
    conn: &mut PgConnection,
    account_id: Uuid,
    skus: impl Iterator<Item = &'a str>,
) -> QueryResult<Vec<(String, Option<i64>)>> {
    let skus: Vec<_> = skus.collect();
    if skus.is_empty() {
        return Ok(Vec::new());
    }
    products::table
        .filter(products::account_id.eq(account_id))
        .filter(products::sku.eq_any(skus))
        .order(products::sku)
        .select((products::sku, products::stock - products::reserved.nullable()))
        .for_update()
        .load(conn)
}

/// Reserves `quantity` units of a locked product, or gives units back if `quantity` is negative. Returns the new `reserved`.
fn move_reserved(conn: &mut PgConnection, account_id: Uuid, sku: &str, quantity: i64) -> QueryResult<i64> {
    let product = diesel::update(products::table.find((account_id, sku)));
    let moved = product.set(products::reserved.eq(products::reserved + quantity)).returning(products::reserved);
    Prepared(moved).get_result(conn)
}

fn insert(
    conn: &mut PgConnection,
    account_id: Uuid,
    new: &NewOrder,
    offers: Vec<Product>,
    reserved: &HashSet<String>,
) -> Result<Order, ApiError> {
    let currency = offers[0].currency.clone();
    let sold = |(item, offer): (&NewItem, Product)| Item {
        reserves: reserved.contains(&offer.sku),
        sku: offer.sku,
        name: offer.name,
        quantity: item.quantity,
        unit_amount: offer.unit_amount,
        grants: offer.grants,
    };
    let items: Vec<Item> = zip(&new.items, offers).map(sold).collect();
    let amount: i64 = items.iter().map(|item| item.unit_amount * i64::from(item.quantity)).sum();
    let order = diesel::insert_into(orders::table)
        .values((
            orders::account_id.eq(account_id),
            orders::id.eq(Uuid::now_v7()),
            orders::customer.eq(&new.customer),
            orders::status.eq(OrderStatus::Pending),
            orders::currency.eq(currency),
            orders::amount.eq(amount),
            orders::items.eq(Jsonb(items.into_iter().map(Stored::from).collect::<Vec<_>>())),
            orders::metadata.eq(Jsonb(new.metadata.clone().unwrap_or_default())),
        ))
        .returning(Order::as_returning())
        .get_result(conn)?;
    Ok(order)
}

fn unknown_product(sku: &str) -> ApiError {
    ApiError::new(&UNKNOWN_PRODUCT, format!("there is no product {sku}")).with("sku", sku)
}
