//! The catalogue: products by SKU, with prices, stock and what payment grants.
//!
//! PUT is idempotent by itself and needs no key: it says how the product shall be. It sets the total of the stock and
//! never what is reserved, so a late retry of a PUT never oversells.
//!
//! "Idempotent" alone is not enough for a PUT that arrives late. A PUT sent twice leaves what one leaves, but only if nobody
//! else writes in between: a PUT that hung in a proxy undoes a newer one of somebody else. So the client may say with
//! `If-Match` which version it saw, and a PUT of another version is refused. A PUT whose terms the product has already is
//! never refused: it may be the retry of the one that made them.

use actix_web::http::header::{ETag, EntityTag, Header, IF_MATCH, IfMatch};
use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use chrono::{DateTime, Utc};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use garde::Validate;
use iso_currency::Currency;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::auth::Account;
use crate::db::Db;
use crate::error::ApiError;
use crate::events;
use crate::problems::{MALFORMED_REQUEST, OUT_OF_STOCK, PRECONDITION_FAILED};
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

/// The terms, as they stand in the table.
#[derive(Insertable, AsChangeset)]
#[diesel(table_name = products, treat_none_as_null = true)]
struct Columns<'a> {
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
    reserved: i64,
    grant_feature: Option<String>,
    grant_units: Option<i64>,
    grant_days: Option<i32>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl Row {
    /// The version of the terms, in quotes: what `If-Match` names. Orders that reserve units don't change it, on purpose:
    /// a PUT doesn't touch what is reserved, and would never get through on a product that sells.
    fn etag(&self) -> EntityTag {
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
    let row = row.ok_or_else(no_product)?;
    Ok(HttpResponse::Ok().insert_header(ETag(row.etag())).json(Product::from(row)))
}

/// `PUT /v1/products/{sku}`: 201 where it is new, 200 else.
///
/// # Errors
/// 409 out-of-stock where the stock would be below what is reserved; 412 where the product is not what `If-Match` says.
#[utoipa::path(put, path = "/v1/products/{sku}", operation_id = "putProduct", tag = "Products", summary = "Say how a product shall be",
    description = "Makes it where it is new. Sets the total of the stock, never what is reserved, so a late retry never oversells. \
        With `If-Match`, a late PUT can't undo a newer one. A PUT whose terms the product has already succeeds all the same.",
    params(
        ("sku" = String, Path, description = "The product's SKU", example = "mug"),
        ("If-Match" = Option<String>, Header, nullable = false, description = "The `ETag` that the change is based on; `*` for any", example = "*"),
    ),
    request_body = ProductTerms,
    responses((status = 201, body = Product, description = "It is new"), (status = 200, body = Product, description = "It was there")))]
pub async fn put(
    account: Account,
    sku: Path<String>,
    request: HttpRequest,
    terms: Json<ProductTerms>,
    db: Data<Db>,
) -> Result<HttpResponse, ApiError> {
    let sku = known_form(sku)?;
    let location = format!("/v1/products/{sku}");
    let if_match = if_match(&request)?;
    let (row, is_new) = db
        .run(account.id, move |conn| {
            conn.transaction(|conn| store(conn, account.id, &sku, &terms.0, if_match.as_ref()))
        })
        .await?;
    let mut response = if is_new { HttpResponse::Created() } else { HttpResponse::Ok() };
    if is_new {
        response.insert_header(("Location", location));
    }
    Ok(response.insert_header(ETag(row.etag())).json(Product::from(row)))
}

/// Makes the product as the terms say, and tells whether it is new. Terms that it has already change nothing.
fn store(
    conn: &mut PgConnection,
    account_id: Uuid,
    sku: &str,
    terms: &ProductTerms,
    if_match: Option<&IfMatch>,
) -> Result<(Row, bool), ApiError> {
    if if_match.is_none()
        && let Some(row) = insert(conn, account_id, sku, terms)?
    {
        return Ok((row, true));
    }
    // There is no way to delete a product. So it is there, unless `If-Match` kept it from being made.
    let current = products::table.find((account_id, sku)).select(Row::as_select()).for_update().first(conn);
    let current: Row = current.optional()?.ok_or_else(|| changed("the product is not there"))?;
    if terms.describe(&current) {
        return Ok((current, false));
    }
    if !if_match.is_none_or(|if_match| names(if_match, &current.etag())) {
        return Err(changed("the product was changed since"));
    }
    if terms.stock.is_some_and(|stock| stock < current.reserved) {
        let detail = format!("{} units of {sku} are reserved by orders", current.reserved);
        return Err(ApiError::new(&OUT_OF_STOCK, detail).with("sku", sku));
    }
    let row: Row = diesel::update(products::table.find((account_id, sku)))
        .set((terms.columns(), products::updated_at.eq(diesel::dsl::now)))
        .returning(Row::as_returning())
        .get_result(conn)?;
    events::record(conn, account_id, "product.updated", &Product::from(row.clone()))?;
    Ok((row, false))
}

/// Makes the product, unless there is one.
pub(crate) fn insert(
    conn: &mut PgConnection,
    account_id: Uuid,
    sku: &str,
    terms: &ProductTerms,
) -> Result<Option<Row>, ApiError> {
    let row: Option<Row> = diesel::insert_into(products::table)
        .values((products::account_id.eq(account_id), products::sku.eq(sku), terms.columns()))
        .on_conflict_do_nothing()
        .returning(Row::as_returning())
        .get_result(conn)
        .optional()?;
    if let Some(row) = &row {
        events::record(conn, account_id, "product.updated", &Product::from(row.clone()))?;
    }
    Ok(row)
}

/// The precondition, if there is one. A header that can't be read must not be taken for none.
fn if_match(request: &HttpRequest) -> Result<Option<IfMatch>, ApiError> {
    if !request.headers().contains_key(IF_MATCH) {
        return Ok(None);
    }
    let unreadable = |_| ApiError::new(&MALFORMED_REQUEST, "If-Match must be * or ETags in quotes");
    IfMatch::parse(request).map(Some).map_err(unreadable)
}

/// Whether `If-Match` names the version. By RFC 9110 a weak tag never does.
fn names(if_match: &IfMatch, version: &EntityTag) -> bool {
    match if_match {
        IfMatch::Any => true,
        IfMatch::Items(tags) => tags.iter().any(|tag| tag.strong_eq(version)),
    }
}

fn changed(how: &str) -> ApiError {
    ApiError::new(&PRECONDITION_FAILED, how.to_owned())
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

    fn columns(&self) -> Columns<'_> {
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
