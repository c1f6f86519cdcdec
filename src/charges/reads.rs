//! Looking at charges and refunds, as they are now. No locks: good for an answer, not for a decision to write.

use actix_web::HttpResponse;
use actix_web::web::Data;
use diesel::prelude::*;
use uuid::Uuid;

use super::refunds::{Refund, Row as RefundRow};
use super::{Charge, Row as ChargeRow, no_charge};
use crate::auth::Account;
use crate::db::Db;
use crate::error::ApiError;
use crate::schema::{charges, refunds};
use crate::wire::{Id, Page, Paging};

/// `GET /v1/charges`
///
/// # Errors
/// 422 for a bad page.
#[utoipa::path(get, path = "/v1/charges", operation_id = "listCharges", tag = "Charges", summary = "Charges",
    description = "Newest first.",
    params(Paging<Uuid>),
    responses((status = 200, body = Page<Charge>, description = "A page")))]
pub async fn charges_of_account(
    account: Account,
    paging: Paging<Uuid>,
    db: Data<Db>,
) -> Result<HttpResponse, ApiError> {
    let page = db
        .read(account.id, move |conn| {
            let mut query =
                charges::table.filter(charges::account_id.eq(account.id)).select(ChargeRow::as_select()).into_boxed();
            if let Some(after) = paging.after {
                query = query.filter(charges::id.lt(after));
            }
            let rows: Vec<ChargeRow> = query.order(charges::id.desc()).limit(paging.rows()).load(conn)?;
            Ok::<_, ApiError>(paging.page(rows.into_iter().map(Charge::from).collect()))
        })
        .await?;
    Ok(HttpResponse::Ok().json(page))
}

/// `GET /v1/charges/{id}`
///
/// # Errors
/// 404.
#[utoipa::path(get, path = "/v1/charges/{id}", operation_id = "getCharge", tag = "Charges", summary = "A charge",
    description = "As it is now.",
    params(Id),
    responses((status = 200, body = Charge, description = "The charge")))]
pub async fn charge(account: Account, id: Id, db: Data<Db>) -> Result<HttpResponse, ApiError> {
    let row: Option<ChargeRow> = db
        .read(account.id, move |conn| {
            charges::table
                .find((account.id, id.0))
                .select(ChargeRow::as_select())
                .first(conn)
                .optional()
                .map_err(ApiError::from)
        })
        .await?;
    Ok(HttpResponse::Ok().json(Charge::from(row.ok_or_else(no_charge)?)))
}

/// `GET /v1/charges/{id}/refunds`
///
/// # Errors
/// 404 for the charge; 422 for a bad page.
#[utoipa::path(get, path = "/v1/charges/{id}/refunds", operation_id = "listRefunds", tag = "Refunds", summary = "Refunds of a charge",
    description = "Newest first.",
    params(Id, Paging<Uuid>),
    responses((status = 200, body = Page<Refund>, description = "A page")))]
pub async fn refunds_of_charge(
    account: Account,
    charge: Id,
    paging: Paging<Uuid>,
    db: Data<Db>,
) -> Result<HttpResponse, ApiError> {
    let page = db
        .read(account.id, move |conn| {
            let known: i64 = charges::table.find((account.id, charge.0)).count().get_result(conn)?;
            if known == 0 {
                return Err(no_charge());
            }
            let mut query = refunds::table
                .filter(refunds::account_id.eq(account.id))
                .filter(refunds::charge_id.eq(charge.0))
                .select(RefundRow::as_select())
                .into_boxed();
            if let Some(after) = paging.after {
                query = query.filter(refunds::id.lt(after));
            }
            let rows: Vec<RefundRow> = query.order(refunds::id.desc()).limit(paging.rows()).load(conn)?;
            Ok::<_, ApiError>(paging.page(rows.into_iter().map(Refund::from).collect()))
        })
        .await?;
    Ok(HttpResponse::Ok().json(page))
}

/// `GET /v1/refunds/{id}`
///
/// # Errors
/// 404.
#[utoipa::path(get, path = "/v1/refunds/{id}", operation_id = "getRefund", tag = "Refunds", summary = "A refund",
    description = "As it is now.",
    params(Id),
    responses((status = 200, body = Refund, description = "The refund")))]
pub async fn refund(account: Account, id: Id, db: Data<Db>) -> Result<HttpResponse, ApiError> {
    let row: Option<RefundRow> = db
        .read(account.id, move |conn| {
            refunds::table
                .find((account.id, id.0))
                .select(RefundRow::as_select())
                .first(conn)
                .optional()
                .map_err(ApiError::from)
        })
        .await?;
    Ok(HttpResponse::Ok().json(Refund::from(row.ok_or_else(|| ApiError::not_found("refund"))?)))
}
