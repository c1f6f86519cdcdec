//! Reading entitlements, without a lock: good for an answer, not for a decision to write.

use actix_web::HttpResponse;
use actix_web::web::Data;
use diesel::dsl::{exists, select};
use diesel::prelude::*;
use uuid::Uuid;

use super::{Entitlement, no_entitlement};
use crate::db::Db;
use crate::http::ApiError;
use crate::http::auth::Account;
use crate::http::endpoint::{Endpoint, endpoint};
use crate::http::rules::slug;
use crate::http::{By, Id, Page, Paging, object};
use crate::schema::entitlements;
use crate::shop::CUSTOMER;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![endpoint(__path_list, list), endpoint(__path_get, get)]
}

object! {
    /// The filters of the list of entitlements.
    pub struct Filter {
        /// Only entitlements of this customer.
        customer: Option<String> = CUSTOMER,
        /// Only entitlements of this feature.
        feature: Option<String> = slug(),
    }
}

/// `GET /v1/entitlements`
///
/// # Errors
/// 422 for a bad page, customer or feature.
#[utoipa::path(get, path = "/v1/entitlements", operation_id = "listEntitlements", tag = "Entitlements", summary = "List entitlements",
    description = "Returns your customers' entitlements, newest first.",
    params(Paging<Uuid, By<Filter>>),
    responses((status = 200, body = Page<Entitlement>, description = "A page of entitlements")))]
pub async fn list(account: Account, paging: Paging<Uuid, By<Filter>>, db: Data<Db>) -> Result<HttpResponse, ApiError> {
    let page = db
        .read(account.id, move |conn| {
            let query = entitlements::table
                .filter(entitlements::account_id.eq(account.id))
                .select(Entitlement::as_select())
                .into_boxed();
            let mut query = paging.filter.within_ids(query, entitlements::created_at, entitlements::id);
            let Filter { customer, feature } = &paging.filter.filter;
            if let Some(customer) = customer {
                query = query.filter(entitlements::customer.eq(customer));
            }
            if let Some(feature) = feature {
                query = query.filter(entitlements::feature.eq(feature));
            }
            let items = entitlements::table;
            paging.check_after(|after| select(exists(items.find((account.id, after)))).get_result(conn))?;
            if let Some(after) = paging.after {
                query = query.filter(entitlements::id.lt(after));
            }
            let rows: Vec<Entitlement> = query.order(entitlements::id.desc()).limit(paging.rows()).load(conn)?;
            Ok::<_, ApiError>(paging.page(rows))
        })
        .await?;
    Ok(HttpResponse::Ok().json(page))
}

/// `GET /v1/entitlements/{id}`
///
/// # Errors
/// 404.
#[utoipa::path(get, path = "/v1/entitlements/{id}", operation_id = "getEntitlement", tag = "Entitlements", summary = "Retrieve an entitlement",
    description = "Returns the entitlement as it is now.",
    params(Id),
    responses((status = 200, body = Entitlement, description = "The entitlement")))]
pub async fn get(account: Account, id: Id, db: Data<Db>) -> Result<HttpResponse, ApiError> {
    let entitlement: Option<Entitlement> = db
        .read(account.id, move |conn| {
            let entitlement = entitlements::table.find((account.id, id.0)).select(Entitlement::as_select());
            entitlement.first(conn).optional().map_err(ApiError::from)
        })
        .await?;
    Ok(HttpResponse::Ok().json(entitlement.ok_or_else(no_entitlement)?))
}
