//! Making an order: one read of the catalogue, a decision, and one write (`write.rs`).

use std::collections::HashMap;
use std::iter::zip;

use chrono::{DateTime, Utc};
use diesel::dsl::{auto_type, now};
use diesel::prelude::*;
use diesel::sql_types::Timestamptz;
use garde::Validate;
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::write::{Reserves, WriteOrder};
use super::{Line, Lines, Order, Row};
use crate::error::ApiError;
use crate::idempotency::{Decision, Read, Reply};
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

/// A product at the terms of the moment at which it was read.
#[derive(Queryable)]
pub(super) struct Offer {
    sku: String,
    name: String,
    unit_amount: i64,
    currency: String,
    stock: Option<i64>,
    reserved: i64,
    grant_feature: Option<String>,
    grant_units: Option<i64>,
    grant_days: Option<i32>,
    /// By the database's clock.
    read_at: DateTime<Utc>,
}

/// The products of these SKUs. No lock: terms are snapshots, an unlimited product must never be a hot row, and a stocked one
/// is locked by the write.
#[auto_type]
#[expect(clippy::elidable_lifetime_names, reason = "auto_type asks for a name")]
pub(super) fn offers<'a>(account_id: Uuid, skus: Vec<&'a str>) -> _ {
    products::table.filter(products::account_id.eq(account_id)).filter(products::sku.eq_any(skus)).select((
        products::sku,
        products::name,
        products::unit_amount,
        products::currency,
        products::stock,
        products::reserved,
        products::grant_feature,
        products::grant_units,
        products::grant_days,
        now.into_sql::<Timestamptz>(),
    ))
}

impl NewOrder {
    pub(super) fn skus(&self) -> Vec<&str> {
        self.items.iter().map(|item| item.sku.as_str()).collect()
    }
}

/// How an order is made for an account.
pub(super) struct PlaceOrder {
    pub account_id: Uuid,
}

impl Decision for PlaceOrder {
    type Request = NewOrder;
    type Row = Offer;
    type Write = WriteOrder;
    type Error = ApiError;

    fn read<'a>(&'a self, new: &'a NewOrder) -> impl Read<'a, Offer> {
        offers(self.account_id, new.skus())
    }

    /// # Errors
    /// 422 unknown-product, mixed-currencies; 409 out-of-stock.
    fn decide(&self, new: &NewOrder, offers: Vec<Offer>) -> Result<(Reply, WriteOrder), ApiError> {
        let offers = in_order_of_items(new, offers)?;
        one_currency(&offers)?;
        let mut reserves = Reserves::default();
        for (item, offer) in zip(&new.items, &offers) {
            reserves.add(item, offer)?;
        }
        let (currency, created_at) = (offers[0].currency.clone(), offers[0].read_at);
        let lines: Vec<Line> = zip(&new.items, offers).map(|(item, offer)| line(item, offer)).collect();
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
        Ok((reply, WriteOrder { account_id: self.account_id, reserves, row, event_id: Uuid::now_v7(), event }))
    }
}

fn in_order_of_items(new: &NewOrder, offers: Vec<Offer>) -> Result<Vec<Offer>, ApiError> {
    let mut by_sku: HashMap<String, Offer> = offers.into_iter().map(|offer| (offer.sku.clone(), offer)).collect();
    let of_item = |item: &NewItem| {
        by_sku.remove(&item.sku).ok_or_else(|| {
            ApiError::new(&UNKNOWN_PRODUCT, format!("there is no product {}", item.sku)).with("sku", item.sku.clone())
        })
    };
    new.items.iter().map(of_item).collect()
}

fn one_currency(offers: &[Offer]) -> Result<(), ApiError> {
    let first = &offers[0];
    match offers.iter().find(|offer| offer.currency != first.currency) {
        None => Ok(()),
        Some(other) => Err(ApiError::new(
            &MIXED_CURRENCIES,
            format!("{} is in {}, but {} is in {}", first.sku, first.currency, other.sku, other.currency),
        )),
    }
}

fn line(item: &NewItem, offer: Offer) -> Line {
    Line {
        reserves: offer.stock.is_some(),
        sku: offer.sku,
        name: offer.name,
        quantity: item.quantity,
        unit_amount: offer.unit_amount,
        grants: Grants::of_columns((offer.grant_feature, offer.grant_units, offer.grant_days)),
    }
}

impl Reserves {
    fn add(&mut self, item: &NewItem, offer: &Offer) -> Result<(), ApiError> {
        let Some(stock) = offer.stock else { return Ok(()) };
        let (left, quantity) = (stock - offer.reserved, i64::from(item.quantity));
        if quantity > left {
            let detail = format!("{left} of {} are left, {quantity} were ordered", item.sku);
            return Err(ApiError::new(&OUT_OF_STOCK, detail).with("sku", item.sku.clone()).with("available", left));
        }
        self.skus.push(item.sku.clone());
        self.quantities.push(quantity);
        Ok(())
    }
}
