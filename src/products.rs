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
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::auth::Account;
use crate::db::Db;
use crate::error::ApiError;
use crate::events;
use crate::problems::OUT_OF_STOCK;
use crate::schema::products;
use crate::wire::{Json, Paging, is_slug, printable, slug};

/// The largest price of one unit, in minor units: with at most 10,000 units of at most 100 items an order's total stays
/// below 2^53, which every JSON parser reads exactly.
pub const MAX_UNIT_AMOUNT: i64 = 99_999_999;

/// What payment of one unit grants the customer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct Grants {
    /// What the customer is entitled to.
    #[garde(custom(slug))]
    pub feature: String,
    /// Units that can be consumed; none is unlimited. Bounded so that payment can never fail after the capture.
    #[garde(range(min = 1, max = 1_000_000_000))]
    pub units: Option<i64>,
    /// Days until the entitlement expires, from payment; none is never.
    #[garde(range(min = 1, max = 3650))]
    pub days: Option<i32>,
}

impl Grants {
    /// As it stands in three columns.
    pub(crate) fn of_columns((feature, units, days): (Option<String>, Option<i64>, Option<i32>)) -> Option<Self> {
        Some(Self { feature: feature?, units, days })
    }
}

/// The body of a PUT.
#[derive(Debug, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct ProductTerms {
    #[garde(length(chars, min = 1, max = 200), custom(printable))]
    name: String,
    /// Minor units of the currency.
    #[garde(range(min = 1, max = MAX_UNIT_AMOUNT))]
    unit_amount: i64,
    #[garde(skip)]
    currency: Currency,
    /// The total ever supplied; none is unlimited.
    #[garde(range(min = 0, max = 1_000_000_000))]
    stock: Option<i64>,
    #[garde(dive)]
    grants: Option<Grants>,
}

/// A product as it is answered.
#[derive(Debug, Serialize)]
pub struct Product {
    sku: String,
    name: String,
    unit_amount: i64,
    currency: String,
    stock: Option<i64>,
    reserved: i64,
    grants: Option<Grants>,
    created_at: DateTime<Utc>,
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
pub async fn list(account: Account, paging: Paging<String>, db: Data<Db>) -> Result<HttpResponse, ApiError> {
    let page = db
        .read(move |conn| {
            let mut query =
                products::table.filter(products::account_id.eq(account.id)).select(Row::as_select()).into_boxed();
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
pub async fn get(account: Account, sku: Path<String>, db: Data<Db>) -> Result<HttpResponse, ApiError> {
    let sku = known_form(sku)?;
    let row: Option<Row> = db
        .read(move |conn| {
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
pub async fn put(
    account: Account,
    sku: Path<String>,
    terms: Json<ProductTerms>,
    db: Data<Db>,
) -> Result<HttpResponse, ApiError> {
    let sku = known_form(sku)?;
    let location = format!("/v1/products/{sku}");
    let (product, is_new) =
        db.run(move |conn| conn.transaction(|conn| store(conn, account.id, &sku, &terms.0))).await?;
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
