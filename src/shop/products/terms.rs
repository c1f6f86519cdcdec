//! A product and its terms: in a request, in the table, and in an answer.

use actix_web::http::header::EntityTag;
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use iso_currency::Currency;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::schema::products;
use crate::shop::SLUG;
use checked_body::{Form, int, nested, object, text};

/// The largest price of one unit, in minor units. An order has at most 100 items of at most 10,000 units, so its total
/// stays below 2^53, which every JSON parser reads exactly.
pub const MAX_UNIT_AMOUNT: i64 = 99_999_999;

object! {
    /// What the payment of one unit grants to the customer.
    #[derive(PartialEq, Eq, Serialize, Deserialize)]
    pub struct Grants {
        /// The feature that the customer may use.
        #[example = "pro"]
        pub feature: String = SLUG,
        /// The units that can be consumed. If missing: unlimited. The limit guarantees that a payment never fails after its capture.
        pub units: Option<i64> = int(1, 1_000_000_000),
        /// Days from the payment until the entitlement ends. It never ends if missing.
        pub days: Option<i32> = int(1, 3650),
    }
}

/// The table's three columns.
#[derive(Queryable)]
pub struct GrantColumns {
    feature: Option<String>,
    units: Option<i64>,
    days: Option<i32>,
}

impl From<GrantColumns> for Option<Grants> {
    fn from(columns: GrantColumns) -> Self {
        Some(Grants { feature: columns.feature?, units: columns.units, days: columns.days })
    }
}

object! {
    /// The body of a PUT.
    #[example = json!({"name": "Mug", "unit_amount": 1200, "currency": "EUR", "stock": 40})]
    pub struct ProductTerms {
        /// The name.
        #[example = "Mug"]
        name: String = text(200),
        /// Minor units of the currency.
        #[example = 1200]
        pub(super) unit_amount: i64 = int(1, MAX_UNIT_AMOUNT),
        /// ISO 4217.
        #[example = "EUR"]
        pub(super) currency: Currency = CURRENCY,
        /// The total ever supplied. Unlimited if missing.
        pub(super) stock: Option<i64> = int(0, 1_000_000_000),
        grants: Option<Grants> = nested::<Grants>(),
    }
}

const CURRENCY: Form<Currency> = Form {
    parse: Currency::from_code,
    fault: "must be a currency of ISO 4217, such as EUR",
    schema: || json!({"type": "string", "pattern": "^[A-Z]{3}$"}),
};

/// A product of the catalogue.
#[derive(Debug, Serialize, ToSchema, Queryable, Selectable)]
#[diesel(table_name = products, check_for_backend(diesel::pg::Pg))]
pub struct Product {
    /// The SKU.
    pub sku: String,
    /// The name.
    pub name: String,
    /// The price of one unit, in minor units of the currency.
    pub unit_amount: i64,
    /// ISO 4217.
    pub currency: String,
    /// The total ever supplied. Null if unlimited.
    #[schema(required)]
    pub stock: Option<i64>,
    /// The units that orders have reserved.
    pub reserved: i64,
    /// What the payment of one unit grants to the customer.
    #[schema(required)]
    #[diesel(
        select_expression = (products::grant_feature, products::grant_units, products::grant_days),
        select_expression_type = (products::grant_feature, products::grant_units, products::grant_days),
        deserialize_as = GrantColumns
    )]
    pub grants: Option<Grants>,
    /// When the product was created.
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

impl Product {
    /// The version of the terms, for `If-Match`. An order that reserves units doesn't change it, so that a PUT can
    /// succeed on a product that keeps selling.
    pub(super) fn etag(&self) -> EntityTag {
        let terms = (&self.name, self.unit_amount, &self.currency, self.stock, &self.grants);
        let version = format!("{terms:?} {}", self.updated_at.timestamp_micros());
        let digest = Sha256::digest(version.as_bytes());
        // Half of the digest is more than enough to tell one product's versions apart.
        EntityTag::new_strong(
            digest[..16].iter().fold(String::with_capacity(32), |hex, byte| format!("{hex}{byte:02x}")),
        )
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

    pub(super) fn describe(&self, product: &Product) -> bool {
        self.name == product.name
            && self.unit_amount == product.unit_amount
            && self.currency.code() == product.currency
            && self.stock == product.stock
            && self.grants == product.grants
    }
}
