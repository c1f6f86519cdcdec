//! Refunds: a refund gives back part or all of a charge that succeeded. `payments.rs` has the handler. This file has
//! the handler's two transactions, in the same shape as `charges.rs`.
//!
//! The first transaction already adds the amount to `amount_refunded`, so that two open refunds can't give back more
//! than was paid. If a refund fails, the second transaction takes the amount off again. `reads.rs` reads refunds.

pub mod reads;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

pub(crate) use self::reads::find;
use crate::db::Jsonb;
use crate::http::ApiError;
use crate::http::problems::{CHARGE_NOT_REFUNDABLE, GATEWAY_FAILED, PAYMENT_IN_PROGRESS, REFUND_EXCEEDS_CHARGE};
use crate::schema::{charges as charges_table, refunds};
use crate::shop::charges;
use crate::shop::metadata::{METADATA, Metadata};
use crate::shop::processing::{Processed, Unset};
use crate::shop::status::{OrderStatus, PaymentStatus};
use crate::shop::{check_expressible, entitlements, events, orders};
use checked_body::{int, object};
use external_calls::{MadeBy, Progress};
use idempotency::{Failure as _, Failures, MAX_SAFE_INTEGER, Policy, Prepared, Reply, Scope, hours, seconds};
use stripe_gateway::Outcome;

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
        /// Minor units. All that is left if missing.
        #[example = 500]
        pub amount: Option<i64> = int(1, MAX_SAFE_INTEGER),
        /// Your own data about the refund. It is returned and never interpreted.
        #[example = serde_json::json!({"reason": "damaged"})]
        pub metadata: Option<BTreeMap<String, String>> = METADATA,
    }
}

/// A refund gives back part or all of a charge.
#[derive(Debug, Serialize, ToSchema, Queryable, Selectable)]
#[diesel(table_name = refunds, check_for_backend(diesel::pg::Pg))]
pub struct Refund {
    /// UUIDv7.
    pub id: Uuid,
    /// The refunded charge.
    pub charge_id: Uuid,
    /// `processing`: the outcome is not known yet. `succeeded`: the money moved. `failed`: no money moved.
    pub status: PaymentStatus,
    /// In minor units.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
    /// The refund's name at the gateway: its `metadata[reference]` there.
    pub reference: String,
    /// The id of the refund at the gateway. Null until it is known, or if the gateway created none.
    #[schema(required)]
    pub gateway_id: Option<String>,
    /// Why the refund failed. Null if it did not fail.
    #[schema(required)]
    pub failure_code: Option<String>,
    /// What the server does about an outcome that it doesn't know yet. Null when the status is final: `succeeded` or `failed`.
    /// While it is not null, get the refund again later, or repeat its request with the same key.
    #[schema(required)]
    #[diesel(column_name = status, deserialize_as = Unset)]
    pub processing: Option<Progress>,
    /// Your own data, as the request had it.
    #[diesel(deserialize_as = Jsonb<Metadata>)]
    pub metadata: BTreeMap<String, String>,
    /// The key of the request that created the refund.
    pub idempotency_key: String,
    /// The id of the request that created the refund.
    pub request_id: Uuid,
    /// When the refund was created.
    pub created_at: DateTime<Utc>,
}

impl Processed for Refund {
    fn open_call(&self) -> Option<&str> {
        (self.status == PaymentStatus::Processing).then_some(&self.reference)
    }

    fn show(&mut self, processing: Progress) {
        self.processing = Some(processing);
    }

    fn reload(&self, conn: &mut PgConnection, account_id: Uuid) -> QueryResult<Self> {
        refunds::table.find((account_id, self.id)).select(Self::as_select()).first(conn)
    }
}

/// The call to the gateway, and the ids that `apply` needs: stored with the external call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundCall {
    /// The refund.
    pub refund_id: Uuid,
    /// The charge that is refunded.
    pub charge_id: Uuid,
    /// The order that the charge paid.
    pub order_id: Uuid,
    /// What is sent.
    pub refund: stripe_gateway::Refund,
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
    made_by: &MadeBy,
    charge_id: Uuid,
    new: &NewRefund,
) -> Result<(Refund, RefundCall), ApiError> {
    let account_id = made_by.account_id;
    let charge = charges::lock(conn, account_id, charge_id)?;
    let amount = refundable(conn, account_id, &charge, new.amount)?;
    let Some(payment_intent) = charge.gateway_id else {
        return Err(ApiError::new(
            &CHARGE_NOT_REFUNDABLE,
            "the charge was made by version 0.1.0, with another gateway",
        ));
    };
    check_expressible(amount, &charge.currency, "/amount")?;
    add_refunded(conn, account_id, charge_id, amount)?;
    let mut refund: Refund = diesel::insert_into(refunds::table)
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
            refunds::metadata.eq(Jsonb(new.metadata.clone().unwrap_or_default())),
        ))
        .returning(Refund::as_returning())
        .get_result(conn)?;
    let call = RefundCall {
        refund_id: refund.id,
        charge_id,
        order_id: charge.order_id,
        refund: stripe_gateway::Refund { account_id, payment_intent, amount, currency: charge.currency },
    };
    refund.processing = Some(Progress::first(refund.created_at, &stripe_gateway::LIMITS));
    Ok((refund, call))
}

/// How much of a locked charge to refund.
fn refundable(
    conn: &mut PgConnection,
    account_id: Uuid,
    charge: &charges::Charge,
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
        return Err(ApiError::new(&CHARGE_NOT_REFUNDABLE, "the charge is already refunded in full"));
    }
    // If the open refunds fail, enough will be left, so this is not a final answer.
    if wanted <= left + processing {
        return Err(in_progress("another refund of this charge is still processing"));
    }
    let detail = format!("{left} of the charge are left, {wanted} were to be refunded");
    Err(ApiError::new(&REFUND_EXCEEDS_CHARGE, detail).with("available", left))
}

/// The sum of a locked charge's open refunds.
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
    call: &RefundCall,
    outcome: &Outcome,
) -> Result<Reply, ApiError> {
    orders::lock(conn, account_id, call.order_id)?;
    let charge = charges::lock(conn, account_id, call.charge_id)?;
    let status = PaymentStatus::after(outcome);
    let processing =
        refunds::table.find((account_id, call.refund_id)).filter(refunds::status.eq(PaymentStatus::Processing));
    let updated = diesel::update(processing).set((
        refunds::status.eq(status),
        refunds::gateway_id.eq(&outcome.gateway_id),
        refunds::failure_code.eq(outcome.end.failure_code()),
    ));
    let refund: Refund = Prepared(updated.returning(Refund::as_returning())).get_result(conn)?;
    events::record(conn, account_id, &format!("refund.{}", status.as_str()), &refund)?;
    if let Some(code) = outcome.end.failure_code() {
        add_refunded(conn, account_id, call.charge_id, -call.refund.amount)?;
        // The problem's instance is the refund's path, so no request id is needed.
        return Ok(failed(call.refund_id, code).reply(Uuid::nil()));
    }
    // A refund that is still processing may fail, so the charge is not yet refunded in full.
    if charge.amount_refunded == charge.amount && processing_amount(conn, account_id, charge.id)? == 0 {
        orders::set_status(conn, account_id, call.order_id, OrderStatus::Refunded)?;
        entitlements::revoke_of_order(conn, account_id, call.order_id)?;
    }
    Ok(Reply::created(location(call.refund_id), &refund)?)
}

fn failed(id: Uuid, code: &str) -> ApiError {
    ApiError::new(&GATEWAY_FAILED, "the gateway refused the refund or failed for good; no money moved")
        .with("failure_code", code)
        .with("refund_id", id.to_string())
        .at(location(id))
}
