//! Refunds: part or all of a succeeded charge given back, settled as charges are.
//!
//! A refund takes its amount off what can be refunded when it is made, not when it succeeds, so that two under way can't
//! give back more than was paid; a failed one puts it back.

use actix_web::HttpResponse;
use actix_web::web::Data;
use chrono::{DateTime, Utc};
use diesel::dsl::now;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::Timestamptz;
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::key_expired;
use super::lease::{self, Lease, Settlement, What};
use super::settle::{self, Settled, Settler, Unsettled};
use crate::auth::Account;
use crate::crash::crash_point;
use crate::db::Db;
use crate::error::ApiError;
use crate::gateway::{Call, Outcome, Refund as RefundCall};
use crate::idempotency::{Address, Failure, Failures, Keyed, MAX_SAFE_INTEGER, Policy, Reply, Scope, hours, seconds};
use crate::openapi::shapes::PaymentStatus;
use crate::problems::{CHARGE_NOT_REFUNDABLE, GATEWAY_FAILED, REFUND_EXCEEDS_CHARGE, SETTLEMENT_IN_PROGRESS};
use crate::schema::{charges, refunds};
use crate::wire::Id;
use crate::{entitlements, events, orders};

/// As for charges: what became of a refund must not change because it is asked again.
pub const CREATE_REFUND: Policy = Policy {
    route: "POST /v1/charges/{id}/refunds",
    scope: Scope::Resource,
    failures: Failures::CacheFailures { failure_ttl: hours(24) },
    success_ttl: hours(24),
    wait: seconds(5),
};

/// The body of `POST /v1/charges/{id}/refunds`.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRefund {
    /// Minor units; none is all that is left.
    #[garde(range(min = 1, max = MAX_SAFE_INTEGER))]
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64, example = 500)]
    amount: Option<i64>,
}

/// A refund as it is answered.
#[derive(Debug, Serialize, ToSchema)]
pub struct Refund {
    /// UUIDv7.
    id: Uuid,
    /// The charge that it gives back.
    charge_id: Uuid,
    /// Where it stands.
    #[schema(value_type = PaymentStatus)]
    status: String,
    /// In minor units.
    amount: i64,
    /// ISO 4217.
    currency: String,
    /// What the gateway knows it by.
    reference: String,
    /// How far the settling is; null once it is final.
    #[schema(required)]
    settlement: Option<Settlement>,
    /// When it was made.
    created_at: DateTime<Utc>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = refunds, check_for_backend(diesel::pg::Pg))]
pub(super) struct Row {
    id: Uuid,
    charge_id: Uuid,
    status: String,
    amount: i64,
    currency: String,
    reference: String,
    idempotency_scope: String,
    idempotency_key: String,
    attempts: i32,
    next_attempt_at: Option<DateTime<Utc>>,
    parked_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
}

impl From<Row> for Refund {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            charge_id: row.charge_id,
            status: row.status,
            amount: row.amount,
            currency: row.currency,
            reference: row.reference,
            settlement: Settlement::of(row.attempts, row.next_attempt_at, row.parked_at),
            created_at: row.created_at,
        }
    }
}

/// `POST /v1/charges/{id}/refunds`: 201 where it succeeded, 402 where the gateway refused, 202 while that is unknown.
///
/// # Errors
/// 404 for the charge; 409 charge-not-refundable, refund-exceeds-charge, settlement-in-progress, idempotency-key-expired;
/// what the idempotency key says.
#[utoipa::path(post, path = "/v1/charges/{id}/refunds", operation_id = "createRefund", tag = "Refunds", summary = "Refund a charge",
    description = "Part of it, or all that is left. 202 while the outcome is not known.",
    params(Id),
    request_body = Option<NewRefund>,
    responses((status = 201, body = Refund, description = "It succeeded"), (status = 202, body = Refund, description = "Still processing")))]
pub async fn create(
    account: Account,
    charge: Id,
    request: Keyed<NewRefund>,
    db: Data<Db>,
    settler: Data<Settler>,
) -> Result<HttpResponse, ApiError> {
    let id = Uuid::now_v7();
    let address = request.address(account.id, &CREATE_REFUND);
    crash_point("before-claim");
    let first = async move {
        let begin = move |conn: &mut PgConnection, new: &NewRefund| {
            crash_point("after-claim");
            let refund = insert(conn, &address, charge.0, id, new.amount)?;
            Ok::<_, ApiError>(Reply { location: Some(location(id)), ..Reply::json(202, &refund)? })
        };
        CREATE_REFUND.answer(&**db, account.id, request, begin).await
    };
    let answer = settler.carry(first, What::Refund, account.id, id).await?;
    crash_point("before-answer");
    Ok(answer.into_response())
}

fn insert(
    conn: &mut PgConnection,
    address: &Address,
    charge_id: Uuid,
    id: Uuid,
    amount: Option<i64>,
) -> Result<Refund, ApiError> {
    let account_id = address.account_id;
    refuse_late_retry(conn, address)?;
    // The order of a charge never changes, so it can be looked up before the locks, which go order first.
    let order_id: Option<Uuid> =
        charges::table.find((account_id, charge_id)).select(charges::order_id).first(conn).optional()?;
    orders::lock(conn, account_id, order_id.ok_or_else(super::no_charge)?)?;
    let charge = super::lock(conn, account_id, charge_id)?;
    let amount = refundable(conn, account_id, &charge, amount)?;
    diesel::update(charges::table.find((account_id, charge_id)))
        .set(charges::amount_refunded.eq(charges::amount_refunded + amount))
        .execute(conn)?;
    let row: Row = diesel::insert_into(refunds::table)
        .values((
            refunds::account_id.eq(account_id),
            refunds::id.eq(id),
            refunds::charge_id.eq(charge_id),
            refunds::status.eq("processing"),
            refunds::amount.eq(amount),
            refunds::currency.eq(&charge.currency),
            refunds::reference.eq(lease::reference(address)),
            refunds::idempotency_scope.eq(&address.scope),
            refunds::idempotency_key.eq(&address.key),
            refunds::next_attempt_at.eq((now.into_sql::<Timestamptz>() + lease::interval()).nullable()),
        ))
        .returning(Row::as_returning())
        .get_result(conn)?;
    Ok(row.into())
}

/// The amount to refund of a locked charge, if it may be.
fn refundable(
    conn: &mut PgConnection,
    account_id: Uuid,
    charge: &super::Row,
    amount: Option<i64>,
) -> Result<i64, ApiError> {
    let in_progress = |what: &str| ApiError::new(&SETTLEMENT_IN_PROGRESS, what.to_owned());
    match charge.status.as_str() {
        "succeeded" => {}
        "processing" => return Err(in_progress("the charge is still processing")),
        _ => return Err(ApiError::new(&CHARGE_NOT_REFUNDABLE, "the charge did not succeed")),
    }
    let left = charge.amount - charge.amount_refunded;
    let wanted = amount.unwrap_or(left);
    if (1..=left).contains(&wanted) {
        return Ok(wanted);
    }
    let processing = processing_amount(conn, account_id, charge.id)?;
    if left + processing == 0 {
        return Err(ApiError::new(&CHARGE_NOT_REFUNDABLE, "the charge is refunded whole"));
    }
    // Should the refunds under way fail, there would be enough: not a final answer.
    if wanted <= left + processing {
        return Err(in_progress("a refund of this charge is under way"));
    }
    let detail = format!("{left} of the charge are left, {wanted} were to be refunded");
    Err(ApiError::new(&REFUND_EXCEEDS_CHARGE, detail).with("available", left))
}

/// What refunds under way hold of a locked charge.
fn processing_amount(conn: &mut PgConnection, account_id: Uuid, charge_id: Uuid) -> QueryResult<i64> {
    let amounts: Vec<i64> = refunds::table
        .filter(refunds::account_id.eq(account_id))
        .filter(refunds::charge_id.eq(charge_id))
        .filter(refunds::status.eq("processing"))
        .select(refunds::amount)
        .load(conn)?;
    Ok(amounts.iter().sum())
}

fn refuse_late_retry(conn: &mut PgConnection, address: &Address) -> Result<(), ApiError> {
    let made: Option<Uuid> = refunds::table
        .filter(refunds::account_id.eq(address.account_id))
        .filter(refunds::idempotency_scope.eq(&address.scope))
        .filter(refunds::idempotency_key.eq(&address.key))
        .select(refunds::id)
        .first(conn)
        .optional()?;
    made.map_or(Ok(()), |id| Err(key_expired(location(id))))
}

fn location(id: Uuid) -> String {
    format!("/v1/refunds/{id}")
}

/// What a lease on a refund is about.
///
/// # Errors
/// The database's.
pub(crate) fn leased(conn: &mut PgConnection, account_id: Uuid, id: Uuid) -> QueryResult<Lease> {
    let (row, look_first): (Row, bool) = refunds::table
        .find((account_id, id))
        .select((
            Row::as_select(),
            refunds::created_at.lt(now.into_sql::<Timestamptz>() - lease::key_lifetime_interval()),
        ))
        .first(conn)?;
    let (order_id, capture) =
        charges::table.find((account_id, row.charge_id)).select((charges::order_id, charges::reference)).first(conn)?;
    Ok(Lease {
        what: What::Refund,
        id,
        attempt: row.attempts,
        call: Call::Refund(RefundCall { reference: row.reference, capture, amount: row.amount }),
        look_first,
        address: Address { account_id, scope: row.idempotency_scope, key: row.idempotency_key },
        order_id,
        charge_id: row.charge_id,
    })
}

/// Records the outcome of a refund: refund, charge, order, record, entitlements and events, in the caller's transaction.
///
/// # Errors
/// [`Unsettled::LostLease`] where the refund is not this lease's any more: nothing may be written.
pub(crate) fn conclude(conn: &mut PgConnection, lease: &Lease, outcome: &Outcome) -> Result<Settled, Unsettled> {
    let account_id = lease.address.account_id;
    orders::lock(conn, account_id, lease.order_id)?;
    let charge = super::lock(conn, account_id, lease.charge_id)?;
    let refund: Row = refunds::table.find((account_id, lease.id)).select(Row::as_select()).for_update().first(conn)?;
    if refund.status != "processing" || refund.attempts != lease.attempt {
        return Err(Unsettled::LostLease);
    }
    let succeeded = *outcome == Outcome::Succeeded;
    let status = if succeeded { "succeeded" } else { "failed" };
    let row: Row = diesel::update(refunds::table.find((account_id, lease.id)))
        .set((
            refunds::status.eq(status),
            refunds::failure_code.eq((!succeeded).then_some("gateway_failed")),
            refunds::next_attempt_at.eq(None::<DateTime<Utc>>),
            refunds::parked_at.eq(None::<DateTime<Utc>>),
        ))
        .returning(Row::as_returning())
        .get_result(conn)?;
    let refund = Refund::from(row);
    if !succeeded {
        diesel::update(charges::table.find((account_id, charge.id)))
            .set(charges::amount_refunded.eq(charges::amount_refunded - refund.amount))
            .execute(conn)?;
    }
    let reply =
        if succeeded { Reply::created(location(lease.id), &refund)? } else { failed(lease.id).reply(Uuid::nil()) };
    let settled = settle::settle_record(conn, lease, &CREATE_REFUND, reply)?;
    events::record(conn, account_id, &format!("refund.{status}"), &refund)?;
    // Whole only when none of it is still under way: that one may yet fail.
    let whole = charge.amount_refunded == charge.amount && processing_amount(conn, account_id, charge.id)? == 0;
    if succeeded && whole {
        orders::set_status(conn, account_id, lease.order_id, "refunded")?;
        entitlements::revoke_of_order(conn, account_id, lease.order_id)?;
    }
    Ok(settled)
}

fn failed(id: Uuid) -> ApiError {
    ApiError::new(&GATEWAY_FAILED, "the gateway refused the refund or failed for good; no money moved")
        .with("refund_id", id.to_string())
        .at(location(id))
}
