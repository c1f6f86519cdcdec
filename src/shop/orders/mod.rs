//! Orders: created at the catalogue's prices, listed, canceled.
//!
//! An order keeps snapshots of its products, so a later change to the catalogue doesn't change the order. The
//! transaction that creates the order reserves stock, and locks the products that have one. Canceling gives the stock
//! back.

mod order;
mod place;

#[cfg(feature = "bench")]
use actix_web::HttpResponse;
use actix_web::web::{Data, Json};
use diesel::dsl::{exists, select};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use uuid::Uuid;

pub use self::order::{Item, Order};
pub(crate) use self::order::{lock, set_status};
pub use self::place::NewOrder;
use self::place::give_back;
pub(crate) use self::place::place;
use crate::db::Db;
use crate::http::problems::{
    MIXED_CURRENCIES, NOT_FOUND, ORDER_NOT_CANCELABLE, OUT_OF_STOCK, PAYMENT_IN_PROGRESS, UNKNOWN_PRODUCT,
};
use crate::http::{Account, ApiError, By, Endpoint, Id, Keyed, NoBody, OrNotFound as _, Page, Paging, endpoint};
use crate::schema::{charges, orders};
use crate::shop::CUSTOMER;
use crate::shop::status::{OrderStatus, PaymentStatus};
use checked_body::{object, one_of};
use idempotency::{Answer, Failures, Policy, Reply, Scope, hours, seconds};

/// A product that is out of stock now may have stock in a minute, so a failure is not worth keeping.
pub const CREATE_ORDER: Policy = Policy {
    route: "POST /v1/orders",
    scope: Scope::Account,
    failures: Failures::SuccessOnly,
    success_ttl: hours(24),
    wait: seconds(5),
};

/// A refusal is cheap to decide again, and a retry does no harm, so a failure is not worth keeping.
pub const CANCEL_ORDER: Policy = Policy {
    route: "POST /v1/orders/{id}/cancel",
    scope: Scope::Resource,
    failures: Failures::SuccessOnly,
    success_ttl: hours(24),
    wait: seconds(5),
};

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        endpoint(__path_create, create).keyed(CREATE_ORDER).decides([
            &OUT_OF_STOCK,
            &UNKNOWN_PRODUCT,
            &MIXED_CURRENCIES,
        ]),
        endpoint(__path_list, list),
        endpoint(__path_get, get),
        endpoint(__path_cancel, cancel).keyed(CANCEL_ORDER).decides([
            &NOT_FOUND,
            &ORDER_NOT_CANCELABLE,
            &PAYMENT_IN_PROGRESS,
        ]),
    ]
}

object! {
    /// The filters of the list of orders.
    pub struct Filter {
        /// Only orders of this customer.
        customer: Option<String> = CUSTOMER,
        /// Only orders with this status.
        status: Option<OrderStatus> = one_of(OrderStatus::ALL, OrderStatus::as_str),
    }
}

/// `POST /v1/orders`
///
/// # Errors
/// 422 unknown-product, mixed-currencies; 409 out-of-stock. The errors of the idempotency key.
#[utoipa::path(post, path = "/v1/orders", operation_id = "createOrder", tag = "Orders", summary = "Create an order",
    description = "Creates a pending order at the catalogue's current prices, and reserves its units of the products that have a `stock`.",
    request_body = NewOrder,
    responses((status = 201, body = Order, description = "The order")))]
pub async fn create(account: Account, request: Keyed<NewOrder>, db: Data<Db>) -> Result<Answer, ApiError> {
    CREATE_ORDER
        .run(&**db, account.id, request, move |conn, new| {
            let order = place(conn, account.id, new)?;
            Ok(Reply::created(format!("/v1/orders/{}", order.id), &order)?)
        })
        .await
}

/// The same order without a key: the same body, without claim and record. `bench/` uses it to measure what idempotency
/// costs.
///
/// # Errors
/// As [`create`].
#[cfg(feature = "bench")]
pub async fn create_without_key(
    account: Account,
    request: crate::http::Json<NewOrder>,
    db: Data<Db>,
) -> Result<HttpResponse, ApiError> {
    let work = move |conn: &mut PgConnection| {
        conn.build_transaction().read_committed().run(|conn| place(conn, account.id, &request.0))
    };
    let order = idempotency::Database::run(&**db, account.id, work).await?;
    Ok(HttpResponse::Created().insert_header(("Location", format!("/v1/orders/{}", order.id))).json(order))
}

/// `GET /v1/orders`
///
/// # Errors
/// 422 for a bad page.
#[utoipa::path(get, path = "/v1/orders", operation_id = "listOrders", tag = "Orders", summary = "List orders",
    description = "Returns your orders, newest first.",
    params(Paging<Uuid, By<Filter>>),
    responses((status = 200, body = Page<Order>, description = "A page of orders")))]
pub async fn list(
    account: Account,
    paging: Paging<Uuid, By<Filter>>,
    db: Data<Db>,
) -> Result<Json<Page<Order>>, ApiError> {
    let page = move |conn: &mut PgConnection| {
        let mut query = orders::table.filter(orders::account_id.eq(account.id)).select(Order::as_select()).into_boxed();
        let Filter { customer, status } = &paging.filter.filter;
        if let Some(customer) = customer {
            query = query.filter(orders::customer.eq(customer));
        }
        if let Some(status) = *status {
            query = query.filter(orders::status.eq(status));
        }
        paging.check_after(|after| select(exists(orders::table.find((account.id, after)))).get_result(conn))?;
        Ok(paging.page(paging.newest_first(query, orders::created_at, orders::id).load(conn)?))
    };
    db.read(account.id, page).await.map(Json)
}

/// `GET /v1/orders/{id}`
///
/// # Errors
/// 404.
#[utoipa::path(get, path = "/v1/orders/{id}", operation_id = "getOrder", tag = "Orders", summary = "Retrieve an order",
    description = "Returns the order as it is now.",
    params(Id),
    responses((status = 200, body = Order, description = "The order")))]
pub async fn get(account: Account, id: Id, db: Data<Db>) -> Result<Json<Order>, ApiError> {
    let order = move |conn: &mut PgConnection| {
        orders::table.find((account.id, id.0)).select(Order::as_select()).first(conn).or_not_found("order")
    };
    db.read(account.id, order).await.map(Json)
}

/// `POST /v1/orders/{id}/cancel`
///
/// # Errors
/// 404; 409 order-not-cancelable, payment-in-progress. The errors of the idempotency key.
#[utoipa::path(post, path = "/v1/orders/{id}/cancel", operation_id = "cancelOrder", tag = "Orders", summary = "Cancel an order",
    description = "Cancels a pending order and returns its reserved units to the stock. A paid order can't be canceled: refund its charge.",
    params(Id),
    request_body = Option<NoBody>,
    responses((status = 200, body = Order, description = "The canceled order")))]
pub async fn cancel(account: Account, id: Id, request: Keyed<NoBody>, db: Data<Db>) -> Result<Answer, ApiError> {
    CANCEL_ORDER
        .run(&**db, account.id, request.on(id.0), move |conn, _| {
            let order = cancel_pending(conn, account.id, id.0)?;
            Ok(Reply::ok(&order)?)
        })
        .await
}

fn cancel_pending(conn: &mut PgConnection, account_id: Uuid, id: Uuid) -> Result<Order, ApiError> {
    let order = lock(conn, account_id, id)?;
    if order.status != OrderStatus::Pending {
        return Err(ApiError::new(&ORDER_NOT_CANCELABLE, format!("the order is {}", order.status.as_str())));
    }
    if is_being_paid(conn, account_id, id)? {
        return Err(ApiError::new(&PAYMENT_IN_PROGRESS, "a payment of this order is still processing"));
    }
    give_back(conn, account_id, &order)?;
    set_status(conn, account_id, id, OrderStatus::Canceled)
}

/// Whether a charge of the order is processing. An earlier statement must have locked the order: a locking statement
/// reads other tables with a snapshot from before its wait.
fn is_being_paid(conn: &mut PgConnection, account_id: Uuid, order_id: Uuid) -> QueryResult<bool> {
    let processing = charges::table
        .filter(charges::account_id.eq(account_id))
        .filter(charges::order_id.eq(order_id))
        .filter(charges::status.eq(PaymentStatus::Processing));
    select(exists(processing)).get_result(conn)
}
