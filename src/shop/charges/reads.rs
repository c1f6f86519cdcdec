//! Reading charges, without a lock: good enough for an answer, not for a decision to write.

use std::slice;

use actix_web::web::{Data, Json};
use diesel::dsl::{exists, select};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use uuid::Uuid;

use super::Charge;
use crate::db::Db;
use crate::http::{Account, ApiError, By, Endpoint, Id, OrNotFound as _, Page, Paging, endpoint};
use crate::schema::{charges, orders};
use crate::shop::CUSTOMER;
use crate::shop::processing::show_progress;
use crate::shop::status::PaymentStatus;
use checked_body::{boolean, object, one_of, uuid};
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
        /// True for only parked charges, which wait until a person resumes them. False for only the others.
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
pub async fn list(
    account: Account,
    paging: Paging<Uuid, By<Filter>>,
    db: Data<Db>,
) -> Result<Json<Page<Charge>>, ApiError> {
    let page = move |conn: &mut PgConnection| {
        let mut query =
            charges::table.filter(charges::account_id.eq(account.id)).select(Charge::as_select()).into_boxed();
        let Filter { order_id, customer, status, parked } = &paging.filter.filter;
        if let Some(order_id) = order_id {
            query = query.filter(charges::order_id.eq(order_id));
        }
        if let Some(customer) = customer {
            let theirs = orders::table.filter(orders::account_id.eq(account.id)).filter(orders::customer.eq(customer));
            query = query.filter(charges::order_id.eq_any(theirs.select(orders::id)));
        }
        if let Some(status) = *status {
            query = query.filter(charges::status.eq(status));
        }
        let references = parked_references(account.id);
        query = match *parked {
            Some(true) => query.filter(charges::reference.eq_any(references)),
            Some(false) => query.filter(charges::reference.ne_all(references)),
            None => query,
        };
        paging.check_after(|after| select(exists(charges::table.find((account.id, after)))).get_result(conn))?;
        let mut rows = paging.newest_first(query, charges::created_at, charges::id).load(conn)?;
        show_progress(conn, account.id, &mut rows)?;
        Ok(paging.page(rows))
    };
    db.read(account.id, page).await.map(Json)
}

/// `GET /v1/charges/{id}`
///
/// # Errors
/// 404.
#[utoipa::path(get, path = "/v1/charges/{id}", operation_id = "getCharge", tag = "Charges", summary = "Retrieve a charge",
    description = "Returns the charge as it is now.",
    params(Id),
    responses((status = 200, body = Charge, description = "The charge")))]
pub async fn get(account: Account, id: Id, db: Data<Db>) -> Result<Json<Charge>, ApiError> {
    db.read(account.id, move |conn| find(conn, account.id, id.0)).await.map(Json)
}

/// A charge now.
///
/// # Errors
/// 404.
pub(crate) fn find(conn: &mut PgConnection, account_id: Uuid, id: Uuid) -> Result<Charge, ApiError> {
    let row = charges::table.find((account_id, id)).select(Charge::as_select()).first(conn);
    let mut charge = row.or_not_found("charge")?;
    show_progress(conn, account_id, slice::from_mut(&mut charge))?;
    Ok(charge)
}
