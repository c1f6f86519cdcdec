//! Entitlements: a customer's right to use a feature. A payment or a person grants it, and it is consumed or revoked.
//!
//! The transaction that records a payment grants entitlements, and the one that records a full refund revokes them.
//! Every decision that depends on an entitlement's state locks the row first, so the consumed units are exact, however
//! many requests come at once.

mod of_order;
pub mod reads;

use actix_web::web::Data;
use chrono::{DateTime, Utc};
use diesel::dsl::now;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::Timestamptz;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use uuid::Uuid;

pub(crate) use self::of_order::{grant_of_order, revoke_of_order};
use crate::db::Db;
use crate::http::problems::{ENTITLEMENT_INACTIVE, INVALID_REQUEST, NOT_FOUND, QUOTA_EXCEEDED};
use crate::http::{Account, ApiError, Endpoint, Id, Keyed, NoBody, OrNotFound as _, endpoint};
use crate::schema::entitlements;
use crate::shop::{CUSTOMER, SLUG, events};
use checked_body::{Int, int, object, time};
use idempotency::{Answer, Failures, MAX_SAFE_INTEGER, Policy, Reply, Scope, hours, seconds};

/// A support tool grants by hand. The endpoint has its own key space, so the tool can use its ticket numbers as keys. The one
/// failure, a past `expires_at`, is not worth keeping.
pub const GRANT_ENTITLEMENT: Policy = Policy {
    route: "POST /v1/entitlements",
    scope: Scope::Route,
    failures: Failures::SuccessOnly,
    success_ttl: hours(24),
    wait: seconds(5),
};

/// A client over its quota often retries in a loop. For a minute it gets the stored answer, which costs one read. Then
/// the same key runs the body again, since more units may have been granted.
pub const CONSUME_ENTITLEMENT: Policy = Policy {
    route: "POST /v1/entitlements/{id}/consume",
    scope: Scope::Resource,
    failures: Failures::CacheFailures { failure_ttl: seconds(60) },
    success_ttl: hours(24),
    wait: seconds(5),
};

/// A retry of a refusal would be refused again, so a failure is not worth keeping.
pub const REVOKE_ENTITLEMENT: Policy = Policy {
    route: "POST /v1/entitlements/{id}/revoke",
    scope: Scope::Resource,
    failures: Failures::SuccessOnly,
    success_ttl: hours(24),
    wait: seconds(5),
};

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        endpoint(__path_grant, grant).keyed(GRANT_ENTITLEMENT).decides([&INVALID_REQUEST]),
        endpoint(__path_consume, consume).keyed(CONSUME_ENTITLEMENT).decides([
            &NOT_FOUND,
            &QUOTA_EXCEEDED,
            &ENTITLEMENT_INACTIVE,
        ]),
        endpoint(__path_revoke, revoke).keyed(REVOKE_ENTITLEMENT).decides([&NOT_FOUND, &ENTITLEMENT_INACTIVE]),
    ]
}

/// The units of one entitlement: at most 10,000 of a product that grants 1,000,000,000. A constraint of the table says the same.
const UNITS: Int<i64> = int(1, 10_000_000_000_000);

object! {
    /// The body of `POST /v1/entitlements`.
    #[example = json!({"customer": "ada", "feature": "api_credits", "units": 1000})]
    pub struct NewEntitlement {
        /// The merchant's name for its customer.
        #[example = "ada"]
        customer: String = CUSTOMER,
        /// The feature that the customer may use.
        #[example = "api_credits"]
        feature: String = SLUG,
        /// The units that can be consumed. If missing: unlimited.
        #[example = 1000]
        units: Option<i64> = UNITS,
        /// When the entitlement ends. Never if missing.
        expires_at: Option<DateTime<Utc>> = time(),
    }
}

object! {
    /// The body of `POST /v1/entitlements/{id}/consume`.
    pub struct Consumption {
        /// The units to consume.
        #[example = 30]
        units: i64 = UNITS,
    }
}

/// An entitlement: what a customer may use, how much of it, and until when.
#[derive(Debug, Serialize, Queryable, Selectable, ToSchema)]
#[diesel(table_name = entitlements, check_for_backend(diesel::pg::Pg))]
pub struct Entitlement {
    /// UUIDv7.
    id: Uuid,
    /// The merchant's name for its customer.
    customer: String,
    /// The feature that the customer may use.
    feature: String,
    /// The units that can be consumed. Null if unlimited.
    #[schema(required)]
    units: Option<i64>,
    /// The units consumed so far, counted for an unlimited entitlement too.
    units_used: i64,
    /// The order whose payment granted the entitlement. Null if it was granted by hand.
    #[schema(required)]
    order_id: Option<Uuid>,
    /// When the entitlement ends. Null if never.
    #[schema(required)]
    expires_at: Option<DateTime<Utc>>,
    /// When the entitlement was revoked. Null if it was not.
    #[schema(required)]
    revoked_at: Option<DateTime<Utc>>,
    /// When the entitlement was granted.
    created_at: DateTime<Utc>,
}

/// `POST /v1/entitlements`
///
/// # Errors
/// 422: `expires_at` is in the past. The errors of the idempotency key.
#[utoipa::path(post, path = "/v1/entitlements", operation_id = "grantEntitlement", tag = "Entitlements", summary = "Grant an entitlement",
    description = "Grants a customer the use of a feature by hand. What a product grants comes with its payment.",
    request_body = NewEntitlement,
    responses((status = 201, body = Entitlement, description = "The entitlement")))]
pub async fn grant(account: Account, request: Keyed<NewEntitlement>, db: Data<Db>) -> Result<Answer, ApiError> {
    GRANT_ENTITLEMENT
        .run(&**db, account.id, request, move |conn, new| {
            let entitlement = insert(conn, account.id, new)?;
            Ok(Reply::created(format!("/v1/entitlements/{}", entitlement.id), &entitlement)?)
        })
        .await
}

fn insert(conn: &mut PgConnection, account_id: Uuid, new: &NewEntitlement) -> Result<Entitlement, ApiError> {
    if let Some(expires_at) = new.expires_at {
        // Checked inside the body, by the database's clock, so that a retry after `expires_at` still gets its reply.
        let is_past: bool =
            diesel::select(expires_at.into_sql::<Timestamptz>().le(now.into_sql::<Timestamptz>())).get_result(conn)?;
        if is_past {
            return Err(ApiError::invalid_member("/expires_at", "must be in the future"));
        }
    }
    let entitlement: Entitlement = diesel::insert_into(entitlements::table)
        .values((
            entitlements::account_id.eq(account_id),
            entitlements::id.eq(Uuid::now_v7()),
            entitlements::customer.eq(&new.customer),
            entitlements::feature.eq(&new.feature),
            entitlements::units.eq(new.units),
            entitlements::expires_at.eq(new.expires_at),
        ))
        .returning(Entitlement::as_returning())
        .get_result(conn)?;
    events::record(conn, account_id, "entitlement.granted", &entitlement)?;
    Ok(entitlement)
}

/// `POST /v1/entitlements/{id}/consume`. An unlimited entitlement only counts.
///
/// # Errors
/// 404; 409 quota-exceeded, entitlement-inactive. The errors of the idempotency key.
#[utoipa::path(post, path = "/v1/entitlements/{id}/consume", operation_id = "consumeEntitlement", tag = "Entitlements", summary = "Consume units",
    description = "Consumes units of an entitlement. The count is exact, however many requests come at once. An unlimited entitlement only counts what is used.",
    params(Id),
    request_body = Consumption,
    responses((status = 200, body = Entitlement, description = "The entitlement after the consumption")))]
pub async fn consume(account: Account, id: Id, request: Keyed<Consumption>, db: Data<Db>) -> Result<Answer, ApiError> {
    CONSUME_ENTITLEMENT
        .run(&**db, account.id, request.on(id.0), move |conn, consumption| {
            let entitlement = use_up(conn, account.id, id.0, consumption.units)?;
            Ok(Reply::ok(&entitlement)?)
        })
        .await
}

fn use_up(conn: &mut PgConnection, account_id: Uuid, id: Uuid, units: i64) -> Result<Entitlement, ApiError> {
    let (entitlement, is_expired) = lock(conn, account_id, id)?;
    if entitlement.revoked_at.is_some() {
        return Err(inactive("revoked"));
    }
    if is_expired {
        return Err(inactive("expired"));
    }
    // An unlimited entitlement counts to the largest integer that every JSON parser reads: 285 years of a million units
    // a second.
    let left = entitlement.units.unwrap_or(MAX_SAFE_INTEGER) - entitlement.units_used;
    if units > left {
        let detail = format!("{left} units are left, {units} were to be consumed");
        return Err(ApiError::new(&QUOTA_EXCEEDED, detail).with("available", left));
    }
    let entitlement: Entitlement = diesel::update(entitlements::table.find((account_id, id)))
        .set(entitlements::units_used.eq(entitlements::units_used + units))
        .returning(Entitlement::as_returning())
        .get_result(conn)?;
    events::record(conn, account_id, "entitlement.consumed", &entitlement)?;
    Ok(entitlement)
}

/// `POST /v1/entitlements/{id}/revoke`. An expired entitlement can be revoked too.
///
/// # Errors
/// 404. 409 entitlement-inactive: revoked already. The errors of the idempotency key.
#[utoipa::path(post, path = "/v1/entitlements/{id}/revoke", operation_id = "revokeEntitlement", tag = "Entitlements", summary = "Revoke an entitlement",
    description = "Revokes an entitlement for good.",
    params(Id),
    request_body = Option<NoBody>,
    responses((status = 200, body = Entitlement, description = "The revoked entitlement")))]
pub async fn revoke(account: Account, id: Id, request: Keyed<NoBody>, db: Data<Db>) -> Result<Answer, ApiError> {
    REVOKE_ENTITLEMENT
        .run(&**db, account.id, request.on(id.0), move |conn, _| {
            let (entitlement, _) = lock(conn, account.id, id.0)?;
            if entitlement.revoked_at.is_some() {
                return Err(inactive("revoked already"));
            }
            Ok(Reply::ok(&set_revoked(conn, account.id, id.0)?)?)
        })
        .await
}

fn inactive(how: &str) -> ApiError {
    ApiError::new(&ENTITLEMENT_INACTIVE, format!("the entitlement is {how}"))
}

/// Locks an entitlement until the transaction ends. Returns whether it was expired when the transaction began.
fn lock(conn: &mut PgConnection, account_id: Uuid, id: Uuid) -> Result<(Entitlement, bool), ApiError> {
    let (entitlement, is_expired): (_, Option<bool>) = entitlements::table
        .find((account_id, id))
        .select((Entitlement::as_select(), entitlements::expires_at.le(now.into_sql::<Timestamptz>().nullable())))
        .for_update()
        .first(conn)
        .or_not_found("entitlement")?;
    Ok((entitlement, is_expired.unwrap_or(false)))
}

/// Revokes a locked entitlement.
fn set_revoked(conn: &mut PgConnection, account_id: Uuid, id: Uuid) -> Result<Entitlement, ApiError> {
    let entitlement: Entitlement = diesel::update(entitlements::table.find((account_id, id)))
        .set(entitlements::revoked_at.eq(now.into_sql::<Timestamptz>().nullable()))
        .returning(Entitlement::as_returning())
        .get_result(conn)?;
    events::record(conn, account_id, "entitlement.revoked", &entitlement)?;
    Ok(entitlement)
}
