//! Reading refunds, without a lock: good for an answer, not for a decision to write.

use actix_web::HttpResponse;
use actix_web::web::Data;
use diesel::dsl::{exists, select};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use uuid::Uuid;

use super::Refund;
use crate::db::Db;
use crate::http::ApiError;
use crate::http::auth::Account;
use crate::http::endpoint::{Endpoint, endpoint};
use crate::http::{By, Id, NoFilter, Page, Paging};
use crate::schema::{charges as charges_table, refunds};
use crate::shop::charges;
use crate::shop::processing::with_progress;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![endpoint(__path_list, list), endpoint(__path_get, get)]
}

/// A refund now.
///
/// # Errors
/// 404.
pub(crate) fn find(conn: &mut PgConnection, account_id: Uuid, id: Uuid) -> Result<Refund, ApiError> {
    let row: Option<Refund> =
        refunds::table.find((account_id, id)).select(Refund::as_select()).first(conn).optional()?;
    let mut refunds = with_progress(conn, account_id, row.into_iter().collect())?;
    refunds.pop().ok_or_else(|| ApiError::not_found("refund"))
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
) -> Result<HttpResponse, ApiError> {
    let page = db
        .read(account.id, move |conn| {
            let known: i64 = charges_table::table.find((account.id, charge.0)).count().get_result(conn)?;
            if known == 0 {
                return Err(charges::no_charge());
            }
            let query = refunds::table
                .filter(refunds::account_id.eq(account.id))
                .filter(refunds::charge_id.eq(charge.0))
                .select(Refund::as_select())
                .into_boxed();
            let mut query = paging.filter.within_ids(query, refunds::created_at, refunds::id);
            paging.check_after(|after| {
                let refund = refunds::table.find((account.id, after)).filter(refunds::charge_id.eq(charge.0));
                select(exists(refund)).get_result(conn)
            })?;
            if let Some(after) = paging.after {
                query = query.filter(refunds::id.lt(after));
            }
            let rows: Vec<Refund> = query.order(refunds::id.desc()).limit(paging.rows()).load(conn)?;
            Ok::<_, ApiError>(paging.page(with_progress(conn, account.id, rows)?))
        })
        .await?;
    Ok(HttpResponse::Ok().json(page))
}

/// `GET /v1/refunds/{id}`
///
/// # Errors
/// 404.
#[utoipa::path(get, path = "/v1/refunds/{id}", operation_id = "getRefund", tag = "Refunds", summary = "Retrieve a refund",
    description = "Returns the refund as it is now.",
    params(Id),
    responses((status = 200, body = Refund, description = "The refund")))]
pub async fn get(account: Account, id: Id, db: Data<Db>) -> Result<HttpResponse, ApiError> {
    let refund = db.read(account.id, move |conn| find(conn, account.id, id.0)).await?;
    Ok(HttpResponse::Ok().json(refund))
}
