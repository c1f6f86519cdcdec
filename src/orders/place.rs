//! Making an order: what the catalogue offers, stock reserved, and the order written with its event.

use std::collections::HashMap;
use std::iter::zip;

use chrono::{DateTime, Utc};
use diesel::dsl::now;
use diesel::pg::{Pg, PgConnection};
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::{BigInt, Jsonb, Text, Timestamptz, Uuid as SqlUuid};
use garde::Validate;
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Line, Lines, Order, Row, lock_products};
use crate::error::ApiError;
use crate::idempotency::{Reply, Statement};
use crate::problems::{MIXED_CURRENCIES, OUT_OF_STOCK, UNKNOWN_PRODUCT};
use crate::products::Grants;
use crate::schema::products;
use crate::wire::{printable, slug};

/// Items in one order at most: the reply stays well below what the idempotency record may hold.
const MAX_ITEMS: usize = 100;

/// The body of `POST /v1/orders`.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[schema(example = json!({"customer": "ada", "items": [{"sku": "pro-monthly", "quantity": 1}]}))]
#[serde(deny_unknown_fields)]
pub struct NewOrder {
    #[garde(length(chars, min = 1, max = 255), custom(printable))]
    #[schema(min_length = 1, max_length = 255, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$", example = "ada")]
    customer: String,
    #[garde(length(min = 1, max = MAX_ITEMS), dive, custom(each_sku_once))]
    #[schema(min_items = 1, max_items = 100)]
    items: Vec<NewItem>,
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewItem {
    #[garde(custom(slug))]
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._-]{1,64}$", example = "pro-monthly")]
    sku: String,
    #[garde(range(min = 1, max = 10_000))]
    #[schema(minimum = 1, maximum = 10_000, example = 1)]
    quantity: i32,
}

fn each_sku_once(items: &[NewItem], (): &()) -> garde::Result {
    let mut seen = std::collections::HashSet::new();
    match items.iter().find(|item| !seen.insert(&item.sku)) {
        Some(twice) => Err(garde::Error::new(format!("the SKU {} stands twice; add up its quantities", twice.sku))),
        None => Ok(()),
    }
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = products, check_for_backend(Pg))]
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

/// Decides about the order at today's terms, and reserves its stock. Writing it is left to the record's statement.
///
/// # Errors
/// 422 unknown-product, mixed-currencies; 409 out-of-stock.
pub(super) fn place(
    conn: &mut PgConnection,
    account_id: Uuid,
    new: &NewOrder,
) -> Result<(Reply, WriteOrder), ApiError> {
    let (offers, created_at) = offers(conn, account_id, new)?;
    let stocked: HashMap<&str, i64> = zip(&new.items, &offers)
        .filter(|(_, offer)| offer.stock.is_some())
        .map(|(item, _)| (item.sku.as_str(), i64::from(item.quantity)))
        .collect();
    let reserved = reserve(conn, account_id, &stocked)?;
    let currency = offers[0].currency.clone();
    let lines: Vec<Line> = zip(&new.items, offers).map(|(item, offer)| line(item, offer, &reserved)).collect();
    let row = Row {
        id: Uuid::now_v7(),
        customer: new.customer.clone(),
        status: "pending".to_owned(),
        currency,
        amount: lines.iter().map(|line| line.unit_amount * i64::from(line.quantity)).sum(),
        lines: Lines(lines),
        created_at,
    };
    let reply = Reply::created(format!("/v1/orders/{}", row.id), &Order::from(&row))?;
    let event = String::from_utf8_lossy(&reply.body).into_owned();
    Ok((reply, WriteOrder { account_id, row, event_id: Uuid::now_v7(), event }))
}

fn line(item: &NewItem, offer: Offer, reserved: &[String]) -> Line {
    Line {
        reserves: reserved.contains(&offer.sku),
        sku: offer.sku,
        name: offer.name,
        quantity: item.quantity,
        unit_amount: offer.unit_amount,
        grants: Grants::of_columns((offer.grant_feature, offer.grant_units, offer.grant_days)),
    }
}

/// The products of the order's items, in their order, at today's terms. No lock: these are snapshots, and an unlimited
/// product must never be a hot row. With them comes the transaction's time, so that the reply is known before the write.
fn offers(conn: &mut PgConnection, account_id: Uuid, new: &NewOrder) -> Result<(Vec<Offer>, DateTime<Utc>), ApiError> {
    let skus: Vec<&str> = new.items.iter().map(|item| item.sku.as_str()).collect();
    let found: Vec<(Offer, DateTime<Utc>)> = products::table
        .filter(products::account_id.eq(account_id))
        .filter(products::sku.eq_any(skus))
        .select((Offer::as_select(), now.into_sql::<Timestamptz>()))
        .load(conn)?;
    let created_at = found.first().map_or_else(Utc::now, |(_, at)| *at);
    let mut by_sku: HashMap<String, Offer> = found.into_iter().map(|(offer, _)| (offer.sku.clone(), offer)).collect();
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
    Ok((offers, created_at))
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

/// The order and its event, as the last write: on the hottest path, two round trips less. The text never changes, so
/// PostgreSQL plans it once a connection.
#[derive(QueryId)]
pub(super) struct WriteOrder {
    account_id: Uuid,
    row: Row,
    event_id: Uuid,
    /// The order as it is answered.
    event: String,
}

impl QueryFragment<Pg> for WriteOrder {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        let Row { id, customer, status, currency, amount, lines, created_at } = &self.row;
        let mut sql = Statement::new(
            out,
            "WITH placed AS (
               INSERT INTO orders (account_id, id, customer, status, currency, amount, items, created_at)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?)
             ), told AS (
               INSERT INTO events (account_id, id, type, data) VALUES (?, ?, 'order.created', ?::json)
             )",
        );
        sql.bind::<SqlUuid, _>(&self.account_id)?;
        sql.bind::<SqlUuid, _>(id)?;
        sql.bind::<Text, _>(customer)?;
        sql.bind::<Text, _>(status)?;
        sql.bind::<Text, _>(currency)?;
        sql.bind::<BigInt, _>(amount)?;
        sql.bind::<Jsonb, _>(lines)?;
        sql.bind::<Timestamptz, _>(created_at)?;
        sql.bind::<SqlUuid, _>(&self.account_id)?;
        sql.bind::<SqlUuid, _>(&self.event_id)?;
        sql.bind::<Text, _>(&self.event)?;
        sql.end();
        Ok(())
    }
}

/// The same without a record, for `bench/`.
#[cfg(feature = "bench")]
#[derive(QueryId)]
pub(super) struct WriteOrderAlone(pub WriteOrder);

#[cfg(feature = "bench")]
impl RunQueryDsl<PgConnection> for WriteOrderAlone {}

#[cfg(feature = "bench")]
impl QueryFragment<Pg> for WriteOrderAlone {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.0.walk_ast(out.reborrow())?;
        out.push_sql(" SELECT 1");
        Ok(())
    }
}
