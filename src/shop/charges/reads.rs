//! Reading charges, without a lock: good for an answer, not for a decision to write.

use actix_web::HttpResponse;
use actix_web::web::Data;
use diesel::dsl::{exists, select};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use uuid::Uuid;

use super::{Charge, find};
use crate::db::Db;
use crate::http::ApiError;
use crate::http::auth::Account;
use crate::http::endpoint::{Endpoint, endpoint};
use crate::http::rules::{boolean, one_of, uuid};
use crate::http::{By, Id, Page, Paging, object};
use crate::schema::{charges, orders};
use crate::shop::CUSTOMER;
use crate::shop::processing::with_progress;
use crate::shop::status::PaymentStatus;
use external_calls::parked_references;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![endpoint(__path_list, list), endpoint(__path_get, get)]
}

object! {
    /// The filters of the list of charges.
    pub struct Filter {
        /// Only charges of this order.
        order_id: Option<Uuid> = uuid(),
        /// Only charges of this customer's orders.
        customer: Option<String> = CUSTOMER,
        /// Only charges with this status.
        status: Option<PaymentStatus> = one_of(PaymentStatus::ALL, PaymentStatus::as_str),
        /// True: only parked charges, which wait until a person resumes them. False: only the others.
        parked: Option<bool> = boolean(),
    }
}

/// `GET /v1/charges`
///
/// # Errors
/// 422 for a bad page or filter.
#[utoipa::path(get, path = "/v1/charges", operation_id = "listCharges", tag = "Charges", summary = "List charges",
    description = "Returns your charges, newest first.",
    params(Paging<Uuid, By<Filter>>),
    responses((status = 200, body = Page<Charge>, description = "A page of charges")))]
pub async fn list(account: Account, paging: Paging<Uuid, By<Filter>>, db: Data<Db>) -> Result<HttpResponse, ApiError> {
    let page = db
        .read(account.id, move |conn| {
            paging.check_after(|after| select(exists(charges::table.find((account.id, after)))).get_result(conn))?;
            let rows = rows(conn, account.id, &paging)?;
            Ok::<_, ApiError>(paging.page(with_progress(conn, account.id, rows)?))
        })
        .await?;
    Ok(HttpResponse::Ok().json(page))
}

fn rows(conn: &mut PgConnection, account_id: Uuid, paging: &Paging<Uuid, By<Filter>>) -> QueryResult<Vec<Charge>> {
    let query = charges::table.filter(charges::account_id.eq(account_id)).select(Charge::as_select()).into_boxed();
    let mut query = paging.filter.within_ids(query, charges::created_at, charges::id);
    let Filter { order_id, customer, status, parked } = &paging.filter.filter;
    if let Some(order_id) = order_id {
        query = query.filter(charges::order_id.eq(order_id));
    }
    if let Some(customer) = customer {
        let theirs = orders::table.filter(orders::account_id.eq(account_id)).filter(orders::customer.eq(customer));
        query = query.filter(charges::order_id.eq_any(theirs.select(orders::id)));
    }
    if let Some(status) = *status {
        query = query.filter(charges::status.eq(status));
    }
    if let Some(parked) = *parked {
        let references = parked_references(account_id);
        query = if parked {
            query.filter(charges::reference.eq_any(references))
        } else {
            query.filter(charges::reference.ne_all(references))
        };
    }
    if let Some(after) = paging.after {
        query = query.filter(charges::id.lt(after));
    }
    query.order(charges::id.desc()).limit(paging.rows()).load(conn)
}

/// `GET /v1/charges/{id}`
///
/// # Errors
/// 404.
#[utoipa::path(get, path = "/v1/charges/{id}", operation_id = "getCharge", tag = "Charges", summary = "Retrieve a charge",
    description = "Returns the charge as it is now.",
    params(Id),
    responses((status = 200, body = Charge, description = "The charge")))]
pub async fn get(account: Account, id: Id, db: Data<Db>) -> Result<HttpResponse, ApiError> {
    let charge = db.read(account.id, move |conn| find(conn, account.id, id.0)).await?;
    Ok(HttpResponse::Ok().json(charge))
}
