//! The catalogue: products by SKU, with prices, stock and what payment grants.
//!
//! PUT is idempotent by itself and needs no key: it says how the product shall be. It sets the total of the stock and
//! never what is reserved, so a late retry of a PUT never oversells.

use actix_web::HttpResponse;
use actix_web::web::{Data, Path};
use chrono::{DateTime, Utc};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use garde::Validate;
use iso_currency::Currency;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::auth::Account;
use crate::db::Db;
use crate::error::ApiError;
use crate::events;
use crate::problems::OUT_OF_STOCK;
use crate::schema::products;
use crate::wire::{By, Json, NoFilter, Page, Paging, is_slug, printable, slug};

/// The largest price of one unit, in minor units: with at most 10,000 units of at most 100 items an order's total stays
/// below 2^53, which every JSON parser reads exactly.
pub const MAX_UNIT_AMOUNT: i64 = 99_999_999;

/// What payment of one unit grants the customer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Grants {
    /// What the customer is entitled to.
    #[garde(custom(slug))]
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._-]{1,64}$", example = "pro")]
    pub feature: String,
    /// Units that can be consumed; none is unlimited. Bounded so that payment can never fail after the capture.
    #[garde(range(min = 1, max = 1_000_000_000))]
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    pub units: Option<i64>,
    /// Days until the entitlement expires, from payment; none is never.
    #[garde(range(min = 1, max = 3650))]
    #[schema(minimum = 1, maximum = 3650)]
    pub days: Option<i32>,
}

impl Grants {
    /// As it stands in three columns.
    pub(crate) fn of_columns((feature, units, days): (Option<String>, Option<i64>, Option<i32>)) -> Option<Self> {
        Some(Self { feature: feature?, units, days })
    }
}

/// The body of a PUT.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[schema(example = json!({"name": "Mug", "unit_amount": 1200, "currency": "EUR", "stock": 40}))]
#[serde(deny_unknown_fields)]
pub struct ProductTerms {
    /// What it is called.
    #[garde(length(chars, min = 1, max = 200), custom(printable))]
    #[schema(min_length = 1, max_length = 200, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$", example = "Mug")]
    name: String,
    /// Minor units of the currency.
    #[garde(range(min = 1, max = MAX_UNIT_AMOUNT))]
    #[schema(minimum = 1, maximum = 99_999_999, example = 1200)]
    unit_amount: i64,
    /// ISO 4217.
    #[garde(skip)]
    #[serde(deserialize_with = "currency")]
    #[schema(value_type = String, pattern = "^[A-Z]{3}$", example = "EUR")]
    currency: Currency,
    /// The total ever supplied; none is unlimited.
    #[garde(range(min = 0, max = 1_000_000_000))]
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    stock: Option<i64>,
    #[garde(dive)]
    grants: Option<Grants>,
}

/// For serde, in words for a client.
fn currency<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Currency, D::Error> {
    let code = String::deserialize(deserializer)?;
    Currency::from_code(&code).ok_or_else(|| D::Error::custom("must be a currency of ISO 4217, such as EUR"))
}

/// A product as it is answered.
#[derive(Debug, Serialize, ToSchema)]
pub struct Product {
    /// What it is known by.
    sku: String,
    /// What it is called.
    name: String,
    /// The price of one unit, in minor units of the currency.
    unit_amount: i64,
    /// ISO 4217.
    currency: String,
    /// The total ever supplied; null is unlimited.
    #[schema(required)]
    stock: Option<i64>,
    /// What orders hold of it.
    reserved: i64,
    /// What payment of one unit grants the customer.
    #[schema(required)]
    grants: Option<Grants>,
    /// When it was first put.
    created_at: DateTime<Utc>,
    /// When it last changed.
    updated_at: DateTime<Utc>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = products, check_for_backend(diesel::pg::Pg))]
struct Row {
    sku: String,
    name: String,
    unit_amount: i64,
    currency: String,
    stock: Option<i64>,
    reserved: i64,
    grant_feature: Option<String>,
    grant_units: Option<i64>,
    grant_days: Option<i32>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
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

/// `GET /v1/products`
///
/// # Errors
/// 422 for a bad page.
#[utoipa::path(get, path = "/v1/products", operation_id = "listProducts", tag = "Products", summary = "The catalogue",
    description = "By SKU.",
    params(Paging<String, By<NoFilter>>),
    responses((status = 200, body = Page<Product>, description = "A page")))]
pub async fn list(
    account: Account,
    paging: Paging<String, By<NoFilter>>,
    db: Data<Db>,
) -> Result<HttpResponse, ApiError> {
    let page = db
        .read(account.id, move |conn| {
            let query =
                products::table.filter(products::account_id.eq(account.id)).select(Row::as_select()).into_boxed();
            let mut query = paging.filter.within(query, products::created_at);
            if let Some(after) = &paging.after {
                query = query.filter(products::sku.gt(after.replace('\0', "")));
            }
            let rows = query.order(products::sku).limit(paging.rows()).load(conn)?;
            Ok::<_, ApiError>(paging.page(rows.into_iter().map(Product::from).collect()))
        })
        .await?;
    Ok(HttpResponse::Ok().json(page))
}

/// `GET /v1/products/{sku}`
///
/// # Errors
/// 404.
#[utoipa::path(get, path = "/v1/products/{sku}", operation_id = "getProduct", tag = "Products", summary = "A product",
    description = "As it is now.",
    params(("sku" = String, Path, description = "The product's SKU", example = "sticker")),
    responses((status = 200, body = Product, description = "The product")))]
pub async fn get(account: Account, sku: Path<String>, db: Data<Db>) -> Result<HttpResponse, ApiError> {
    let sku = known_form(sku)?;
    let row: Option<Row> = db
        .read(account.id, move |conn| {
            let product = products::table.find((account.id, &sku)).select(Row::as_select());
            product.first(conn).optional().map_err(ApiError::from)
        })
        .await?;
    Ok(HttpResponse::Ok().json(Product::from(row.ok_or_else(no_product)?)))
}

/// `PUT /v1/products/{sku}`: 201 where it is new, 200 else.
///
/// # Errors
/// 409 out-of-stock where the stock would be below what is reserved.
#[utoipa::path(put, path = "/v1/products/{sku}", operation_id = "putProduct", tag = "Products", summary = "Say how a product shall be",
    description = "Makes it where it is new. Sets the total of the stock, never what is reserved, so a late retry never oversells.",
    params(("sku" = String, Path, description = "The product's SKU", example = "mug")),
    request_body = ProductTerms,
    responses((status = 201, body = Product, description = "It is new"), (status = 200, body = Product, description = "It was there")))]
pub async fn put(
    account: Account,
    sku: Path<String>,
    terms: Json<ProductTerms>,
    db: Data<Db>,
) -> Result<HttpResponse, ApiError> {
    let sku = known_form(sku)?;
    let location = format!("/v1/products/{sku}");
    let (product, is_new) =
        db.run(account.id, move |conn| conn.transaction(|conn| store(conn, account.id, &sku, &terms.0))).await?;
    Ok(if is_new {
        HttpResponse::Created().insert_header(("Location", location)).json(product)
    } else {
        HttpResponse::Ok().json(product)
    })
}

/// Makes the product as the terms say, and tells whether it is new. Terms that it has already change nothing.
pub(crate) fn store(
    conn: &mut PgConnection,
    account_id: Uuid,
    sku: &str,
    terms: &ProductTerms,
) -> Result<(Product, bool), ApiError> {
    let grants = terms.grants.as_ref();
    let columns = (
        products::name.eq(&terms.name),
        products::unit_amount.eq(terms.unit_amount),
        products::currency.eq(terms.currency.code()),
        products::stock.eq(terms.stock),
        products::grant_feature.eq(grants.map(|grants| &grants.feature)),
        products::grant_units.eq(grants.and_then(|grants| grants.units)),
        products::grant_days.eq(grants.and_then(|grants| grants.days)),
    );
    let inserted: Option<Row> = diesel::insert_into(products::table)
        .values((products::account_id.eq(account_id), products::sku.eq(sku), columns))
        .on_conflict_do_nothing()
        .returning(Row::as_returning())
        .get_result(conn)
        .optional()?;
    if let Some(row) = inserted {
        let product = Product::from(row);
        events::record(conn, account_id, "product.updated", &product)?;
        return Ok((product, true));
    }
    // There is no way to delete a product, so it is there.
    let current: Row = products::table.find((account_id, sku)).select(Row::as_select()).for_update().first(conn)?;
    if terms.stock.is_some_and(|stock| stock < current.reserved) {
        let detail = format!("{} units of {sku} are reserved by orders", current.reserved);
        return Err(ApiError::new(&OUT_OF_STOCK, detail).with("sku", sku));
    }
    if terms.describe(&current) {
        return Ok((current.into(), false));
    }
    let row: Row = diesel::update(products::table.find((account_id, sku)))
        .set((columns, products::updated_at.eq(diesel::dsl::now)))
        .returning(Row::as_returning())
        .get_result(conn)?;
    let product = Product::from(row);
    events::record(conn, account_id, "product.updated", &product)?;
    Ok((product, false))
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

    fn describe(&self, row: &Row) -> bool {
        let grants = Grants::of_columns((row.grant_feature.clone(), row.grant_units, row.grant_days));
        self.name == row.name
            && self.unit_amount == row.unit_amount
            && self.currency.code() == row.currency
            && self.stock == row.stock
            && self.grants == grants
    }
}

/// A SKU that no product can have names nothing.
fn known_form(sku: Path<String>) -> Result<String, ApiError> {
    let sku = sku.into_inner();
    if is_slug(&sku) { Ok(sku) } else { Err(no_product()) }
}

fn no_product() -> ApiError {
    ApiError::not_found("product")
}
