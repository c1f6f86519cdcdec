//! Charges: a charge pays the whole of an order, through the gateway. `payments.rs` has the handler. This file has the
//! handler's two transactions: `insert` before the call to the gateway, and `apply` after it. `reads.rs` reads charges.

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
use crate::http::problems::{CARD_DECLINED, GATEWAY_FAILED, ORDER_NOT_PAYABLE, PAYMENT_IN_PROGRESS};
use crate::http::{ApiError, OrNotFound as _};
use crate::schema::charges;
use crate::shop::metadata::{METADATA, Metadata};
use crate::shop::processing::{Processed, Unset};
use crate::shop::status::{OrderStatus, PaymentStatus};
use crate::shop::{check_expressible, entitlements, events, orders};
use checked_body::{object, text, uuid};
use external_calls::{MadeBy, Progress};
use idempotency::{Failure as _, Failures, Policy, Prepared, Reply, Scope, hours, seconds};
use stripe_gateway::{End, Outcome, Payment};

/// A retry must never send a declined card to the bank again, so failures are kept.
pub const CREATE_CHARGE: Policy = Policy {
    route: "POST /v1/charges",
    scope: Scope::Account,
    failures: Failures::CacheFailures { failure_ttl: hours(24) },
    success_ttl: hours(24),
    wait: seconds(5),
};

object! {
    /// The body of `POST /v1/charges`.
    pub struct NewCharge {
        /// The order to pay. The charge pays the whole order.
        pub order_id: Uuid = uuid(),
        /// The name of a stored payment method at the gateway.
        #[example = "pm_card_visa"]
        pub payment_method: String = text(255),
        /// Your own data about the charge. It is returned and never interpreted.
        #[example = serde_json::json!({"invoice": "2027-0042"})]
        pub metadata: Option<BTreeMap<String, String>> = METADATA,
    }
}

/// A charge pays the whole of an order.
#[derive(Debug, Serialize, ToSchema, Queryable, Selectable)]
#[diesel(table_name = charges, check_for_backend(diesel::pg::Pg))]
pub struct Charge {
    /// UUIDv7.
    pub id: Uuid,
    /// The order that the charge pays.
    pub order_id: Uuid,
    /// `processing`: the outcome is not known yet. `succeeded`: the money moved. `failed`: no money moved.
    pub status: PaymentStatus,
    /// The order's amount, in minor units.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
    /// The name of the stored payment method at the gateway.
    pub payment_method: String,
    /// The sum of the refunds that succeeded or are processing, in minor units.
    pub amount_refunded: i64,
    /// Why the charge failed. Null if it did not fail.
    #[schema(required)]
    pub failure_code: Option<String>,
    /// The charge's name at the gateway: `metadata[reference]` of its PaymentIntent.
    pub reference: String,
    /// The id of the gateway's PaymentIntent. Null until it is known, or if the gateway created none.
    #[schema(required)]
    pub gateway_id: Option<String>,
    /// What the server does about an outcome that it doesn't know yet. Null when the status is final: `succeeded` or `failed`.
    /// While it is not null, get the charge again later, or repeat its request with the same key.
    #[schema(required)]
    #[diesel(column_name = status, deserialize_as = Unset)]
    pub processing: Option<Progress>,
    /// Your own data, as the request had it.
    #[diesel(deserialize_as = Jsonb<Metadata>)]
    pub metadata: BTreeMap<String, String>,
    /// The key of the request that created the charge.
    pub idempotency_key: String,
    /// The id of the request that created the charge.
    pub request_id: Uuid,
    /// When the charge was created.
    pub created_at: DateTime<Utc>,
}

impl Processed for Charge {
    fn open_call(&self) -> Option<&str> {
        (self.status == PaymentStatus::Processing).then_some(&self.reference)
    }

    fn show(&mut self, processing: Progress) {
        self.processing = Some(processing);
    }

    fn reload(&self, conn: &mut PgConnection, account_id: Uuid) -> QueryResult<Self> {
        charges::table.find((account_id, self.id)).select(Self::as_select()).first(conn)
    }
}

/// The call to the gateway, and the ids that `apply` needs: stored with the external call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChargeCall {
    /// The charge.
    pub charge_id: Uuid,
    /// The order that the charge pays.
    pub order_id: Uuid,
    /// What is sent.
    pub payment: Payment,
}

/// The path of a charge.
pub(crate) fn location(id: Uuid) -> String {
    format!("/v1/charges/{id}")
}

/// The first transaction: inserts the charge of a pending order, as processing.
///
/// # Errors
/// 404 for the order; 409 order-not-payable, payment-in-progress.
pub(crate) fn insert(
    conn: &mut PgConnection,
    made_by: &MadeBy,
    new: &NewCharge,
) -> Result<(Charge, ChargeCall), ApiError> {
    let account_id = made_by.account_id;
    let order = orders::lock(conn, account_id, new.order_id)?;
    if order.status != OrderStatus::Pending {
        return Err(ApiError::new(&ORDER_NOT_PAYABLE, format!("the order is {}", order.status.as_str())));
    }
    check_expressible(order.amount, &order.currency, "/order_id")?;
    let charge: Option<Charge> = diesel::insert_into(charges::table)
        .values((
            charges::account_id.eq(account_id),
            charges::id.eq(Uuid::now_v7()),
            charges::order_id.eq(order.id),
            charges::status.eq(PaymentStatus::Processing),
            charges::amount.eq(order.amount),
            charges::currency.eq(order.currency),
            charges::payment_method.eq(&new.payment_method),
            charges::reference.eq(&made_by.reference),
            charges::idempotency_key.eq(&made_by.key),
            charges::request_id.eq(made_by.request_id),
            charges::metadata.eq(Jsonb(new.metadata.clone().unwrap_or_default())),
        ))
        // The order is locked and pending, and has at most one live charge, so a conflict means that a payment is still
        // processing.
        .on_conflict_do_nothing()
        .returning(Charge::as_returning())
        .get_result(conn)
        .optional()?;
    let mut charge =
        charge.ok_or_else(|| ApiError::new(&PAYMENT_IN_PROGRESS, "a payment of this order is still processing"))?;
    charge.processing = Some(Progress::first(charge.created_at, &stripe_gateway::LIMITS));
    let payment = Payment {
        account_id,
        amount: charge.amount,
        currency: charge.currency.clone(),
        payment_method: charge.payment_method.clone(),
    };
    let call = ChargeCall { charge_id: charge.id, order_id: charge.order_id, payment };
    Ok((charge, call))
}

/// The second transaction: writes the outcome of the charge, with the order, its entitlements and the events.
///
/// # Errors
/// The database's.
pub(crate) fn apply(
    conn: &mut PgConnection,
    account_id: Uuid,
    call: &ChargeCall,
    outcome: &Outcome,
) -> Result<Reply, ApiError> {
    orders::lock(conn, account_id, call.order_id)?;
    let status = PaymentStatus::after(outcome);
    let processing =
        charges::table.find((account_id, call.charge_id)).filter(charges::status.eq(PaymentStatus::Processing));
    let updated = diesel::update(processing).set((
        charges::status.eq(status),
        charges::gateway_id.eq(&outcome.gateway_id),
        charges::failure_code.eq(outcome.end.failure_code()),
    ));
    let charge: Charge = Prepared(updated.returning(Charge::as_returning())).get_result(conn)?;
    events::record(conn, account_id, &format!("charge.{}", status.as_str()), &charge)?;
    if let Some(code) = outcome.end.failure_code() {
        // The problem's instance is the charge's path, so no request id is needed.
        return Ok(failed(call.charge_id, &outcome.end, code).reply(Uuid::nil()));
    }
    let order = orders::set_status(conn, account_id, call.order_id, OrderStatus::Paid)?;
    entitlements::grant_of_order(conn, account_id, &order)?;
    Ok(Reply::created(location(call.charge_id), &charge)?)
}

fn failed(id: Uuid, end: &End, code: &str) -> ApiError {
    let problem = if matches!(end, End::Declined { .. }) {
        let detail = format!("the payment method was declined: {code}");
        ApiError::new(&CARD_DECLINED, detail).with("decline_code", code)
    } else {
        let detail = "the gateway refused the payment or failed for good; no money moved";
        ApiError::new(&GATEWAY_FAILED, detail).with("failure_code", code)
    };
    problem.with("charge_id", id.to_string()).at(location(id))
}

/// Locks a charge until the transaction ends.
///
/// # Errors
/// 404.
pub(crate) fn lock(conn: &mut PgConnection, account_id: Uuid, id: Uuid) -> Result<Charge, ApiError> {
    charges::table.find((account_id, id)).select(Charge::as_select()).for_update().first(conn).or_not_found("charge")
}
