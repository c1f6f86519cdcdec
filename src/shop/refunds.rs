//! Refunds: a refund gives back a part of a succeeded charge, or all of it. `payments.rs` has the handler. This file has the
//! handler's two transactions, in the same shape as `charges.rs`.
//!
//! On purpose: the first transaction adds the amount to `amount_refunded`, so that two refunds under way can't give back more
//! than was paid. If a refund fails, the second transaction takes the amount off again. `reads.rs` shows refunds.

pub mod reads;

use chrono::{DateTime, Utc};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

pub(crate) use self::reads::find;
use crate::gateway::Outcome;
use crate::http::ApiError;
use crate::http::object;
use crate::http::problems::{CHARGE_NOT_REFUNDABLE, GATEWAY_FAILED, PAYMENT_IN_PROGRESS, REFUND_EXCEEDS_CHARGE};
use crate::http::rules::int;
use crate::schema::{charges as charges_table, refunds};
use crate::shop::charges;
use crate::shop::status::{OrderStatus, PaymentStatus};
use crate::shop::{entitlements, events, orders};
use external_calls::{Limits, MadeBy, Progress};
use idempotency::{Failure, Failures, MAX_SAFE_INTEGER, Policy, Prepared, Reply, Scope, hours, seconds};

/// As for charges: a retry must not change the outcome of a refund, so failures are kept.
pub const CREATE_REFUND: Policy = Policy {
    route: "POST /v1/charges/{id}/refunds",
    scope: Scope::Resource,
    failures: Failures::CacheFailures { failure_ttl: hours(24) },
    success_ttl: hours(24),
    wait: seconds(5),
};

object! {
    /// The body of `POST /v1/charges/{id}/refunds`.
    pub struct NewRefund {
        /// Minor units. If missing: all that is left.
        #[example = 500]
        pub amount: Option<i64> = int(1, MAX_SAFE_INTEGER),
    }
}

/// A refund, as the API shows it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Refund {
    /// UUIDv7.
    pub id: Uuid,
    /// The refunded charge.
    pub charge_id: Uuid,
    /// The status.
    pub status: PaymentStatus,
    /// In minor units.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
    /// The gateway's name for the refund.
    pub reference: String,
    /// How far the external call is. Null when the refund is final.
    #[schema(required)]
    pub processing: Option<Progress>,
    /// The key of the request that made the refund.
    pub idempotency_key: String,
    /// The id of the request that made the refund.
    pub request_id: Uuid,
    /// When the refund was made.
    pub created_at: DateTime<Utc>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = refunds, check_for_backend(diesel::pg::Pg))]
struct Row {
    id: Uuid,
    charge_id: Uuid,
    status: PaymentStatus,
    amount: i64,
    currency: String,
    reference: String,
    idempotency_key: String,
    request_id: Uuid,
    created_at: DateTime<Utc>,
}

impl Row {
    fn into_refund(self, processing: Option<Progress>) -> Refund {
        Refund {
            id: self.id,
            charge_id: self.charge_id,
            status: self.status,
            amount: self.amount,
            currency: self.currency,
            reference: self.reference,
            processing,
            idempotency_key: self.idempotency_key,
            request_id: self.request_id,
            created_at: self.created_at,
        }
    }
}

/// The call to the gateway, and the ids that `apply` needs: stored with the external call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GiveBack {
    /// The refund that the call is for.
    pub refund_id: Uuid,
    /// The charge that is refunded.
    pub charge_id: Uuid,
    /// The order that the charge paid.
    pub order_id: Uuid,
    /// The reference of the capture.
    pub capture: String,
    /// In minor units.
    pub amount: i64,
    /// ISO 4217, the charge's.
    pub currency: String,
}

/// The path of a refund.
pub(crate) fn location(id: Uuid) -> String {
    format!("/v1/refunds/{id}")
}

/// The first transaction: inserts a refund of a succeeded charge, as processing.
///
/// # Errors
/// 404 for the charge; 409 charge-not-refundable, refund-exceeds-charge, payment-in-progress.
pub(crate) fn insert(
    conn: &mut PgConnection,
    account_id: Uuid,
    made_by: &MadeBy,
    charge_id: Uuid,
    new: &NewRefund,
) -> Result<(Refund, GiveBack), ApiError> {
    let charge = charges::lock(conn, account_id, charge_id)?;
    let amount = refundable(conn, account_id, &charge, new.amount)?;
    add_refunded(conn, account_id, charge_id, amount)?;
    let row: Row = diesel::insert_into(refunds::table)
        .values((
            refunds::account_id.eq(account_id),
            refunds::id.eq(Uuid::now_v7()),
            refunds::charge_id.eq(charge_id),
            refunds::status.eq(PaymentStatus::Processing),
            refunds::amount.eq(amount),
            refunds::currency.eq(&charge.currency),
            refunds::reference.eq(&made_by.reference),
            refunds::idempotency_key.eq(&made_by.key),
            refunds::request_id.eq(made_by.request_id),
        ))
        .returning(Row::as_returning())
        .get_result(conn)?;
    let call = GiveBack {
        refund_id: row.id,
        charge_id,
        order_id: charge.order_id,
        capture: charge.reference,
        amount,
        currency: charge.currency,
    };
    let begun = Progress::first(row.created_at, &Limits::DEFAULT);
    Ok((row.into_refund(Some(begun)), call))
}

/// The amount to refund of a locked charge.
fn refundable(
    conn: &mut PgConnection,
    account_id: Uuid,
    charge: &charges::Row,
    amount: Option<i64>,
) -> Result<i64, ApiError> {
    let in_progress = |what: &str| ApiError::new(&PAYMENT_IN_PROGRESS, what.to_owned());
    match charge.status {
        PaymentStatus::Succeeded => {}
        PaymentStatus::Processing => return Err(in_progress("the charge is still processing")),
        PaymentStatus::Failed => return Err(ApiError::new(&CHARGE_NOT_REFUNDABLE, "the charge did not succeed")),
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
    // If the refunds under way fail, enough will be left. So this is not a final answer.
    if wanted <= left + processing {
        return Err(in_progress("a refund of this charge is under way"));
    }
    let detail = format!("{left} of the charge are left, {wanted} were to be refunded");
    Err(ApiError::new(&REFUND_EXCEEDS_CHARGE, detail).with("available", left))
}

/// The sum of the refunds under way of a locked charge.
fn processing_amount(conn: &mut PgConnection, account_id: Uuid, charge_id: Uuid) -> QueryResult<i64> {
    let amounts: Vec<i64> = refunds::table
        .filter(refunds::account_id.eq(account_id))
        .filter(refunds::charge_id.eq(charge_id))
        .filter(refunds::status.eq(PaymentStatus::Processing))
        .select(refunds::amount)
        .load(conn)?;
    Ok(amounts.iter().sum())
}

/// Adds an amount to a locked charge's `amount_refunded`, or takes it off if `amount` is negative.
fn add_refunded(conn: &mut PgConnection, account_id: Uuid, charge_id: Uuid, amount: i64) -> QueryResult<i64> {
    let charge = diesel::update(charges_table::table.find((account_id, charge_id)))
        .set(charges_table::amount_refunded.eq(charges_table::amount_refunded + amount));
    Prepared(charge.returning(charges_table::amount_refunded)).get_result(conn)
}

/// The second transaction: writes the outcome of the refund, with the charge, the order, its entitlements and the events.
///
/// # Errors
/// The database's.
pub(crate) fn apply(
    conn: &mut PgConnection,
    account_id: Uuid,
    call: &GiveBack,
    outcome: &Outcome,
) -> Result<Reply, ApiError> {
    orders::lock(conn, account_id, call.order_id)?;
    let charge = charges::lock(conn, account_id, call.charge_id)?;
    if *outcome != Outcome::Succeeded {
        set_outcome(conn, account_id, call.refund_id, PaymentStatus::Failed)?;
        add_refunded(conn, account_id, call.charge_id, -call.amount)?;
        return Ok(failed(call.refund_id).reply(Uuid::nil()));
    }
    let refund = set_outcome(conn, account_id, call.refund_id, PaymentStatus::Succeeded)?;
    // A refund that is still under way may fail, so the charge is not yet refunded whole.
    if charge.amount_refunded == charge.amount && processing_amount(conn, account_id, charge.id)? == 0 {
        orders::set_status(conn, account_id, call.order_id, OrderStatus::Refunded)?;
        entitlements::revoke_of_order(conn, account_id, call.order_id)?;
    }
    Ok(Reply::created(location(call.refund_id), &refund)?)
}

fn set_outcome(conn: &mut PgConnection, account_id: Uuid, id: Uuid, status: PaymentStatus) -> Result<Refund, ApiError> {
    let processing = refunds::table.find((account_id, id)).filter(refunds::status.eq(PaymentStatus::Processing));
    let outcome = diesel::update(processing).set(refunds::status.eq(status));
    let row: Row = Prepared(outcome.returning(Row::as_returning())).get_result(conn)?;
    let refund = row.into_refund(None);
    events::record(conn, account_id, &format!("refund.{}", status.as_str()), &refund)?;
    Ok(refund)
}

fn failed(id: Uuid) -> ApiError {
    // The problem's instance is the refund's path, so no request's id is needed.
    ApiError::new(&GATEWAY_FAILED, "the gateway refused the refund or failed for good; no money moved")
        .with("refund_id", id.to_string())
        .at(location(id))
}
