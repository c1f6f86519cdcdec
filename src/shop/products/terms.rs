//! A product and its terms: in a request, in the table, and in an answer.

use actix_web::http::header::EntityTag;
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use garde::Validate;
use iso_currency::Currency;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::gateway::currency;
use crate::http::{printable, slug};
use crate::schema::products;

/// The largest price of one unit, in minor units. An order has at most 100 items of at most 10,000 units, so its total stays
/// below 2^53. Every JSON parser reads such an integer exactly.
pub const MAX_UNIT_AMOUNT: i64 = 99_999_999;

/// What the payment of one unit grants to the customer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Grants {
    /// The feature that the customer may use.
    #[garde(custom(slug))]
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._-]{1,64}$", example = "pro")]
    pub feature: String,
    /// The units that can be consumed. If missing: unlimited. The limit guarantees that a payment never fails after its capture.
    #[garde(range(min = 1, max = 1_000_000_000))]
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    pub units: Option<i64>,
    /// Days from the payment until the entitlement ends. If missing: it never ends.
    #[garde(range(min = 1, max = 3650))]
    #[schema(minimum = 1, maximum = 3650)]
    pub days: Option<i32>,
}

impl Grants {
    /// From the table's three columns.
    pub(crate) fn of_columns((feature, units, days): (Option<String>, Option<i64>, Option<i32>)) -> Option<Self> {
        Some(Self { feature: feature?, units, days })
    }
}

/// The body of a PUT.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[schema(example = json!({"name": "Mug", "unit_amount": 1200, "currency": "EUR", "stock": 40}))]
#[serde(deny_unknown_fields)]
pub struct ProductTerms {
    /// The name.
    #[garde(length(chars, min = 1, max = 200), custom(printable))]
    #[schema(min_length = 1, max_length = 200, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$", example = "Mug")]
    name: String,
    /// Minor units of the currency.
    #[garde(range(min = 1, max = MAX_UNIT_AMOUNT), custom(expressible(&self.currency)))]
    #[schema(minimum = 1, maximum = 99_999_999, example = 1200)]
    unit_amount: i64,
    /// ISO 4217.
    #[garde(skip)]
    #[serde(deserialize_with = "currency")]
    #[schema(value_type = String, pattern = "^[A-Z]{3}$", example = "EUR")]
    currency: Currency,
    /// The total ever supplied. If missing: unlimited.
    #[garde(range(min = 0, max = 1_000_000_000))]
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    pub(super) stock: Option<i64>,
    #[garde(dive)]
    grants: Option<Grants>,
}

/// The gateway can't express every amount of every currency.
fn expressible(currency: &Currency) -> impl FnOnce(&i64, &()) -> garde::Result + '_ {
    move |amount, ()| {
        let code = currency.code();
        match currency::to_gateway(*amount, code) {
            Some(_) => Ok(()),
            None => Err(garde::Error::new(format!(
                "the gateway takes only multiples of {} in {code}",
                currency::step(code)
            ))),
        }
    }
}

/// For serde, with an error in words for a client.
fn currency<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Currency, D::Error> {
    let code = String::deserialize(deserializer)?;
    Currency::from_code(&code).ok_or_else(|| D::Error::custom("must be a currency of ISO 4217, such as EUR"))
}

/// A product, as the API shows it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Product {
    /// The SKU.
    sku: String,
    /// The name.
    name: String,
    /// The price of one unit, in minor units of the currency.
    unit_amount: i64,
    /// ISO 4217.
    currency: String,
    /// The total ever supplied. Null: unlimited.
    #[schema(required)]
    stock: Option<i64>,
    /// The units that orders have reserved.
    reserved: i64,
    /// What the payment of one unit grants to the customer.
    #[schema(required)]
    grants: Option<Grants>,
    /// When the product was made.
    created_at: DateTime<Utc>,
    /// When the product last changed.
    updated_at: DateTime<Utc>,
}

/// The terms, as columns of the table.
#[derive(Insertable, AsChangeset)]
#[diesel(table_name = products, treat_none_as_null = true)]
pub(super) struct Columns<'a> {
    name: &'a str,
    unit_amount: i64,
    currency: &'a str,
    stock: Option<i64>,
    grant_feature: Option<String>,
    grant_units: Option<i64>,
    grant_days: Option<i32>,
}

#[derive(Clone, Queryable, Selectable)]
#[diesel(table_name = products, check_for_backend(diesel::pg::Pg))]
pub(crate) struct Row {
    sku: String,
    name: String,
    unit_amount: i64,
    currency: String,
    stock: Option<i64>,
    pub(super) reserved: i64,
    grant_feature: Option<String>,
    grant_units: Option<i64>,
    grant_days: Option<i32>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl Row {
    /// The version of the terms, for `If-Match`. On purpose: an order that reserves units doesn't change the version, so that a
    /// PUT succeeds on a product that sells.
    pub(super) fn etag(&self) -> EntityTag {
        let grants = (&self.grant_feature, self.grant_units, self.grant_days);
        let terms = (&self.name, self.unit_amount, &self.currency, self.stock, grants);
        let version = format!("{terms:?} {}", self.updated_at.timestamp_micros());
        let digest = Sha256::digest(version.as_bytes());
        // Half of the digest is more than enough to tell versions of one product apart.
        EntityTag::new_strong(
            digest[..16].iter().fold(String::with_capacity(32), |hex, byte| format!("{hex}{byte:02x}")),
        )
    }
}

impl From<Row> for Product {
    fn from(row: Row) -> Self {
        Self {
            sku: row.sku,
            name: row.name,
            unit_amount: row.unit_amount,
            currency: row.currency,
            stock: row.stock,
            reserved: row.reserved,
            grants: Grants::of_columns((row.grant_feature, row.grant_units, row.grant_days)),
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

impl ProductTerms {
    /// For the demo catalogue.
    pub(crate) fn new(
        name: &str,
        unit_amount: i64,
        currency: Currency,
        stock: Option<i64>,
        grants: Option<Grants>,
    ) -> Self {
        Self { name: name.to_owned(), unit_amount, currency, stock, grants }
    }

    pub(super) fn columns(&self) -> Columns<'_> {
        let grants = self.grants.as_ref();
        Columns {
            name: &self.name,
            unit_amount: self.unit_amount,
            currency: self.currency.code(),
            stock: self.stock,
            grant_feature: grants.map(|grants| grants.feature.clone()),
            grant_units: grants.and_then(|grants| grants.units),
            grant_days: grants.and_then(|grants| grants.days),
        }
    }

    pub(super) fn describe(&self, row: &Row) -> bool {
        let grants = Grants::of_columns((row.grant_feature.clone(), row.grant_units, row.grant_days));
        self.name == row.name
            && self.unit_amount == row.unit_amount
            && self.currency.code() == row.currency
            && self.stock == row.stock
            && self.grants == grants
    }
}
