//! Charges as they are now: one, and a page of them. No lock: good for an answer, not for a decision to write.

use actix_web::HttpResponse;
use actix_web::web::Data;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use uuid::Uuid;

use super::{Charge, Row, no_charge};
use crate::auth::Account;
use crate::db::Db;
use crate::error::ApiError;
use crate::schema::charges;
use crate::settlement::progress;
use crate::status::PaymentStatus;
use crate::wire::{Id, Page, Paging};

/// A charge as it is now. No lock: good for an answer, not for a decision to write.
///
/// # Errors
/// 404.
pub(crate) fn find(conn: &mut PgConnection, account_id: Uuid, id: Uuid) -> Result<Charge, ApiError> {
    let row: Option<Row> = charges::table.find((account_id, id)).select(Row::as_select()).first(conn).optional()?;
    let mut charges = with_progress(conn, account_id, row.into_iter().collect())?;
    charges.pop().ok_or_else(no_charge)
}

fn with_progress(conn: &mut PgConnection, account_id: Uuid, rows: Vec<Row>) -> QueryResult<Vec<Charge>> {
    let processing = rows.iter().filter(|row| row.status == PaymentStatus::Processing);
    let references: Vec<_> = processing.map(|row| row.reference.as_str()).collect();
    let open = progress(conn, account_id, &references)?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let progress = open.get(&row.reference).copied();
            row.into_charge(progress)
        })
        .collect())
}

/// `GET /v1/charges`
///
/// # Errors
/// 422 for a bad page.
#[utoipa::path(get, path = "/v1/charges", operation_id = "listCharges", tag = "Charges", summary = "Charges",
    description = "Newest first.",
    params(Paging<Uuid>),
    responses((status = 200, body = Page<Charge>, description = "A page")))]
pub async fn list(account: Account, paging: Paging<Uuid>, db: Data<Db>) -> Result<HttpResponse, ApiError> {
    let page = db
        .read(account.id, move |conn| {
            let mut query =
                charges::table.filter(charges::account_id.eq(account.id)).select(Row::as_select()).into_boxed();
            if let Some(after) = paging.after {
                query = query.filter(charges::id.lt(after));
            }
            let rows: Vec<Row> = query.order(charges::id.desc()).limit(paging.rows()).load(conn)?;
            Ok::<_, ApiError>(paging.page(with_progress(conn, account.id, rows)?))
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
pub async fn get(account: Account, id: Id, db: Data<Db>) -> Result<HttpResponse, ApiError> {
    let charge = db.read(account.id, move |conn| find(conn, account.id, id.0)).await?;
    Ok(HttpResponse::Ok().json(charge))
}
