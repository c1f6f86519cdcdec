//! Reading entitlements, without a lock: good enough for an answer, not for a decision to write.

use actix_web::web::{Data, Json};
use diesel::dsl::{exists, select};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use uuid::Uuid;

use super::Entitlement;
use crate::db::Db;
use crate::http::{Account, ApiError, By, Endpoint, Id, OrNotFound as _, Page, Paging, endpoint};
use crate::schema::entitlements;
use crate::shop::{CUSTOMER, SLUG};
use checked_body::object;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![endpoint(__path_list, list), endpoint(__path_get, get)]
}

object! {
    /// The filters of the list of entitlements.
    pub struct Filter {
        /// Only entitlements of this customer.
        customer: Option<String> = CUSTOMER,
        /// Only entitlements of this feature.
        feature: Option<String> = SLUG,
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
pub async fn list(
    account: Account,
    paging: Paging<Uuid, By<Filter>>,
    db: Data<Db>,
) -> Result<Json<Page<Entitlement>>, ApiError> {
    let page = move |conn: &mut PgConnection| {
        let of_account = entitlements::table.filter(entitlements::account_id.eq(account.id));
        let mut query = of_account.select(Entitlement::as_select()).into_boxed();
        let Filter { customer, feature } = &paging.filter.filter;
        if let Some(customer) = customer {
            query = query.filter(entitlements::customer.eq(customer));
        }
        if let Some(feature) = feature {
            query = query.filter(entitlements::feature.eq(feature));
        }
        paging.check_after(|after| select(exists(of_account.filter(entitlements::id.eq(after)))).get_result(conn))?;
        Ok(paging.page(paging.newest_first(query, entitlements::created_at, entitlements::id).load(conn)?))
    };
    db.read(account.id, page).await.map(Json)
}

/// `GET /v1/entitlements/{id}`
///
/// # Errors
/// 404.
#[utoipa::path(get, path = "/v1/entitlements/{id}", operation_id = "getEntitlement", tag = "Entitlements", summary = "Retrieve an entitlement",
    description = "Returns the entitlement as it is now.",
    params(Id),
    responses((status = 200, body = Entitlement, description = "The entitlement")))]
pub async fn get(account: Account, id: Id, db: Data<Db>) -> Result<Json<Entitlement>, ApiError> {
    let entitlement = move |conn: &mut PgConnection| {
        let row = entitlements::table.find((account.id, id.0)).select(Entitlement::as_select()).first(conn);
        row.or_not_found("entitlement")
    };
    db.read(account.id, entitlement).await.map(Json)
}
