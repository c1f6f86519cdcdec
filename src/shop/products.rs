//! The catalogue: products by SKU, with prices, stock and what payment grants.
//!
//! PUT needs no key: it replaces the product's terms, so two PUTs leave what one leaves. A PUT sets `stock`, the total
//! ever supplied, and never `reserved`, so a late retry never oversells.
//!
//! Being idempotent is not enough for a PUT that arrives late: one that hung in a proxy would undo another client's
//! newer PUT. So the client may name the version that it saw with `If-Match`, and the API refuses to replace any other.
//! It never refuses a PUT whose terms the product already has, which may be the retry of the PUT that set them.

mod precondition;
mod terms;

use actix_web::http::header::ETag;
use actix_web::web::{self, Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use uuid::Uuid;

use self::precondition::{IfMatch, failed};
pub use self::terms::{Grants, MAX_UNIT_AMOUNT, Product, ProductTerms};
use crate::db::Db;
use crate::http::problems::{OUT_OF_STOCK, PRECONDITION_FAILED};
use crate::http::{Account, After, ApiError, By, Endpoint, Json, NoFilter, OrNotFound as _, Page, Paging, endpoint};
use crate::schema::products;
use crate::shop::{SLUG, check_expressible, events};
use checked_body::Form;
use idempotency::Database as _;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        endpoint(__path_list, list),
        endpoint(__path_get, get),
        endpoint(__path_put, put).decides([&OUT_OF_STOCK, &PRECONDITION_FAILED]),
    ]
}

/// A SKU names the last item of a page.
impl After for String {
    const FORM: Form<Self> = SLUG;
}

/// `GET /v1/products`
///
/// # Errors
/// 422 for a bad page.
#[utoipa::path(get, path = "/v1/products", operation_id = "listProducts", tag = "Products", summary = "List products",
    description = "Returns your catalogue, ordered by SKU.",
    params(Paging<String, By<NoFilter>>),
    responses((status = 200, body = Page<Product>, description = "A page of products")))]
pub async fn list(
    account: Account,
    paging: Paging<String, By<NoFilter>>,
    db: Data<Db>,
) -> Result<web::Json<Page<Product>>, ApiError> {
    let page = move |conn: &mut PgConnection| {
        let query = products::table.filter(products::account_id.eq(account.id)).select(Product::as_select());
        let mut query = paging.filter.within(query.into_boxed(), products::created_at);
        if let Some(after) = &paging.after {
            query = query.filter(products::sku.gt(after));
        }
        Ok(paging.page(query.order(products::sku).limit(paging.rows()).load(conn)?))
    };
    db.read(account.id, page).await.map(web::Json)
}

/// `GET /v1/products/{sku}`
///
/// # Errors
/// 404.
#[utoipa::path(get, path = "/v1/products/{sku}", operation_id = "getProduct", tag = "Products", summary = "Retrieve a product",
    description = "Returns the product as it is now. Its `ETag` names this version.",
    params(("sku" = String, Path, description = "The product's SKU", example = "sticker")),
    responses((status = 200, body = Product, description = "The product")))]
pub async fn get(account: Account, sku: Path<String>, db: Data<Db>) -> Result<HttpResponse, ApiError> {
    let sku = known_form(&sku)?;
    let product = move |conn: &mut PgConnection| {
        products::table.find((account.id, &sku)).select(Product::as_select()).first(conn).or_not_found("product")
    };
    let product = db.read(account.id, product).await?;
    Ok(HttpResponse::Ok().insert_header(ETag(product.etag())).json(product))
}

/// `PUT /v1/products/{sku}`: 201 for a new product, else 200.
///
/// # Errors
/// 409 out-of-stock: `stock` is lower than `reserved`. 412: the product is not the version that `If-Match` names.
#[utoipa::path(put, path = "/v1/products/{sku}", operation_id = "putProduct", tag = "Products", summary = "Create or replace a product",
    description = "Creates the product, or replaces its terms. `stock` is the total ever supplied, and no request sets `reserved`, so \
        a late retry never oversells. Send `If-Match` to keep a late PUT from undoing a newer one. A PUT of the terms that the \
        product already has always succeeds.",
    params(
        ("sku" = String, Path, description = "The product's SKU", example = "mug"),
        ("If-Match" = Option<String>, Header, nullable = false, description = "The `ETag` of the version that you changed, or `*` for any version", example = "*"),
    ),
    request_body = ProductTerms,
    responses((status = 201, body = Product, description = "The product was created"), (status = 200, body = Product, description = "The product was replaced, or has these terms already")))]
pub async fn put(
    account: Account,
    sku: Path<String>,
    request: HttpRequest,
    terms: Json<ProductTerms>,
    db: Data<Db>,
) -> Result<HttpResponse, ApiError> {
    let sku = known_form(&sku)?;
    check_expressible(terms.0.unit_amount, terms.0.currency.code(), "/unit_amount")?;
    let location = format!("/v1/products/{sku}");
    let if_match = IfMatch::of(&request)?;
    let (product, is_new) = db
        .run(account.id, move |conn| {
            conn.transaction(|conn| store(conn, account.id, &sku, &terms.0, if_match.as_ref()))
        })
        .await?;
    let mut response = if is_new { HttpResponse::Created() } else { HttpResponse::Ok() };
    if is_new {
        response.insert_header(("Location", location));
    }
    Ok(response.insert_header(ETag(product.etag())).json(product))
}

/// Gives the product these terms. Returns whether the product is new. If it already has the terms, nothing changes.
fn store(
    conn: &mut PgConnection,
    account_id: Uuid,
    sku: &str,
    terms: &ProductTerms,
    if_match: Option<&IfMatch>,
) -> Result<(Product, bool), ApiError> {
    if if_match.is_none()
        && let Some(product) = insert(conn, account_id, sku, terms)?
    {
        return Ok((product, true));
    }
    // A product is never deleted, so it is there, unless `If-Match` forbade creating it.
    let current = products::table.find((account_id, sku)).select(Product::as_select()).for_update().first(conn);
    let current: Product = current.optional()?.ok_or_else(|| failed("there is no such product"))?;
    if terms.describe(&current) {
        return Ok((current, false));
    }
    if let Some(if_match) = if_match {
        if_match.check(&current.etag())?;
    }
    if terms.stock.is_some_and(|stock| stock < current.reserved) {
        let detail = format!("{} units of {sku} are reserved by orders", current.reserved);
        return Err(ApiError::new(&OUT_OF_STOCK, detail).with("sku", sku));
    }
    let product: Product = diesel::update(products::table.find((account_id, sku)))
        .set((terms.columns(), products::updated_at.eq(diesel::dsl::now)))
        .returning(Product::as_returning())
        .get_result(conn)?;
    events::record(conn, account_id, "product.updated", &product)?;
    Ok((product, false))
}

/// Creates the product, unless it exists.
pub(crate) fn insert(
    conn: &mut PgConnection,
    account_id: Uuid,
    sku: &str,
    terms: &ProductTerms,
) -> Result<Option<Product>, ApiError> {
    let product: Option<Product> = diesel::insert_into(products::table)
        .values((products::account_id.eq(account_id), products::sku.eq(sku), terms.columns()))
        .on_conflict_do_nothing()
        .returning(Product::as_returning())
        .get_result(conn)
        .optional()?;
    if let Some(product) = &product {
        events::record(conn, account_id, "product.created", product)?;
    }
    Ok(product)
}

/// 404 for a SKU that no product can have.
fn known_form(sku: &str) -> Result<String, ApiError> {
    (SLUG.parse)(sku).ok_or_else(|| ApiError::not_found("product"))
}
