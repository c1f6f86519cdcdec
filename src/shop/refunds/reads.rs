//! Reading refunds, without a lock: good enough for an answer, not for a decision to write.

use std::slice;

use actix_web::web::{Data, Json};
use diesel::dsl::{exists, select};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use uuid::Uuid;

use super::Refund;
use crate::db::Db;
use crate::http::{Account, ApiError, By, Endpoint, Id, NoFilter, OrNotFound as _, Page, Paging, endpoint};
use crate::schema::{charges, refunds};
use crate::shop::processing::show_progress;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![endpoint(__path_list, list), endpoint(__path_get, get)]
}

/// `GET /v1/charges/{id}/refunds`
///
/// # Errors
/// 404 for the charge; 422 for a bad page.
#[utoipa::path(get, path = "/v1/charges/{id}/refunds", operation_id = "listRefunds", tag = "Refunds", summary = "List the refunds of a charge",
    description = "Returns the refunds of a charge, newest first.",
    params(Id, Paging<Uuid, By<NoFilter>>),
    responses((status = 200, body = Page<Refund>, description = "A page of refunds")))]
pub async fn list(
    account: Account,
    charge: Id,
    paging: Paging<Uuid, By<NoFilter>>,
    db: Data<Db>,
) -> Result<Json<Page<Refund>>, ApiError> {
    let page = move |conn: &mut PgConnection| {
        let known = charges::table.find((account.id, charge.0)).select(charges::id).first::<Uuid>(conn);
        known.or_not_found("charge")?;
        let of_charge =
            refunds::table.filter(refunds::account_id.eq(account.id)).filter(refunds::charge_id.eq(charge.0));
        paging.check_after(|after| select(exists(of_charge.filter(refunds::id.eq(after)))).get_result(conn))?;
        let query = of_charge.select(Refund::as_select()).into_boxed();
        let mut rows = paging.newest_first(query, refunds::created_at, refunds::id).load(conn)?;
        show_progress(conn, account.id, &mut rows)?;
        Ok(paging.page(rows))
    };
    db.read(account.id, page).await.map(Json)
}

/// `GET /v1/refunds/{id}`
///
/// # Errors
/// 404.
#[utoipa::path(get, path = "/v1/refunds/{id}", operation_id = "getRefund", tag = "Refunds", summary = "Retrieve a refund",
    description = "Returns the refund as it is now.",
    params(Id),
    responses((status = 200, body = Refund, description = "The refund")))]
pub async fn get(account: Account, id: Id, db: Data<Db>) -> Result<Json<Refund>, ApiError> {
    db.read(account.id, move |conn| find(conn, account.id, id.0)).await.map(Json)
}

/// A refund now.
///
/// # Errors
/// 404.
pub(crate) fn find(conn: &mut PgConnection, account_id: Uuid, id: Uuid) -> Result<Refund, ApiError> {
    let row = refunds::table.find((account_id, id)).select(Refund::as_select()).first(conn);
    let mut refund = row.or_not_found("refund")?;
    show_progress(conn, account_id, slice::from_mut(&mut refund))?;
    Ok(refund)
}
