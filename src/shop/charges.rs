//! Charges: a charge pays the whole of an order, through the gateway. `payments.rs` has the handler. This file has the
//! handler's two transactions: `insert` before the call to the gateway, and `apply` after it.

pub mod reads;

use chrono::{DateTime, Utc};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::gateway::Outcome;
use crate::http::ApiError;
use crate::http::object;
use crate::http::problems::{CARD_DECLINED, GATEWAY_FAILED, ORDER_NOT_PAYABLE, PAYMENT_IN_PROGRESS};
use crate::http::rules::{text, uuid};
use crate::schema::charges;
use crate::shop::status::{OrderStatus, PaymentStatus};
use crate::shop::{entitlements, events, orders};
use external_calls::{Limits, MadeBy, Progress, progress};
use idempotency::{Failure, Failures, Policy, Prepared, Reply, Scope, hours, seconds};

/// A retry must never send a declined card to the bank a second time, so failures are kept.
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
    }
}

/// A charge, as the API shows it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Charge {
    /// UUIDv7.
    pub id: Uuid,
    /// The order that the charge pays.
    pub order_id: Uuid,
    /// The status.
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
    /// The gateway's name for the charge.
    pub reference: String,
    /// How far the external call is. Null when the charge is final.
    #[schema(required)]
    pub processing: Option<Progress>,
    /// The key of the request that made the charge.
    pub idempotency_key: String,
    /// The id of the request that made the charge.
    pub request_id: Uuid,
    /// When the charge was made.
    pub created_at: DateTime<Utc>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = charges, check_for_backend(diesel::pg::Pg))]
pub(crate) struct Row {
    pub id: Uuid,
    pub order_id: Uuid,
    pub status: PaymentStatus,
    pub amount: i64,
    pub currency: String,
    pub payment_method: String,
    pub amount_refunded: i64,
    pub failure_code: Option<String>,
    pub reference: String,
    idempotency_key: String,
    request_id: Uuid,
    created_at: DateTime<Utc>,
}

impl Row {
    fn into_charge(self, processing: Option<Progress>) -> Charge {
        Charge {
            id: self.id,
            order_id: self.order_id,
            status: self.status,
            amount: self.amount,
            currency: self.currency,
            payment_method: self.payment_method,
            amount_refunded: self.amount_refunded,
            failure_code: self.failure_code,
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
pub struct Capture {
    /// The charge that the capture is for.
    pub charge_id: Uuid,
    /// The order that the charge pays.
    pub order_id: Uuid,
    /// In minor units.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
    /// The name of the stored payment method at the gateway.
    pub payment_method: String,
}

impl From<&Charge> for Capture {
    fn from(charge: &Charge) -> Self {
        Self {
            charge_id: charge.id,
            order_id: charge.order_id,
            amount: charge.amount,
            currency: charge.currency.clone(),
            payment_method: charge.payment_method.clone(),
        }
    }
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
    account_id: Uuid,
    made_by: &MadeBy,
    new: &NewCharge,
) -> Result<Charge, ApiError> {
    let order = orders::lock(conn, account_id, new.order_id)?;
    if order.status != OrderStatus::Pending {
        return Err(ApiError::new(&ORDER_NOT_PAYABLE, format!("the order is {}", order.status.as_str())));
    }
    let row: Option<Row> = diesel::insert_into(charges::table)
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
        ))
        // The order is locked and pending, and an order has one live charge. So a conflict means a payment under way.
        .on_conflict_do_nothing()
        .returning(Row::as_returning())
        .get_result(conn)
        .optional()?;
    let row = row.ok_or_else(|| ApiError::new(&PAYMENT_IN_PROGRESS, "a payment of this order is under way"))?;
    let begun = Progress::first(row.created_at, &Limits::DEFAULT);
    Ok(row.into_charge(Some(begun)))
}

/// The second transaction: writes the outcome of the charge, with the order, its entitlements and the events.
///
/// # Errors
/// The database's.
pub(crate) fn apply(
    conn: &mut PgConnection,
    account_id: Uuid,
    call: &Capture,
    outcome: &Outcome,
) -> Result<Reply, ApiError> {
    orders::lock(conn, account_id, call.order_id)?;
    let Some((code, problem)) = failure(call.charge_id, outcome) else {
        let charge = set_outcome(conn, account_id, call.charge_id, PaymentStatus::Succeeded, None)?;
        let order = orders::set_status(conn, account_id, call.order_id, OrderStatus::Paid)?;
        entitlements::grant_of_order(conn, account_id, &order)?;
        return Ok(Reply::created(location(call.charge_id), &charge)?);
    };
    set_outcome(conn, account_id, call.charge_id, PaymentStatus::Failed, Some(&code))?;
    // The problem's instance is the charge's path, so no request's id is needed.
    Ok(problem.reply(Uuid::nil()))
}

fn set_outcome(
    conn: &mut PgConnection,
    account_id: Uuid,
    id: Uuid,
    status: PaymentStatus,
    failure_code: Option<&str>,
) -> Result<Charge, ApiError> {
    let processing = charges::table.find((account_id, id)).filter(charges::status.eq(PaymentStatus::Processing));
    let outcome = diesel::update(processing).set((charges::status.eq(status), charges::failure_code.eq(failure_code)));
    let row: Row = Prepared(outcome.returning(Row::as_returning())).get_result(conn)?;
    let charge = row.into_charge(None);
    events::record(conn, account_id, &format!("charge.{}", status.as_str()), &charge)?;
    Ok(charge)
}

/// The failure code and the problem of an outcome that is not a success.
fn failure(id: Uuid, outcome: &Outcome) -> Option<(String, ApiError)> {
    let (code, problem) = match outcome {
        Outcome::Succeeded => return None,
        Outcome::Declined { decline_code } => {
            let detail = format!("the payment method was declined: {decline_code}");
            let problem = ApiError::new(&CARD_DECLINED, detail).with("decline_code", decline_code.as_str());
            (decline_code.clone(), problem)
        }
        Outcome::Failed => {
            let detail = "the gateway refused the payment or failed for good; no money moved";
            ("gateway_failed".to_owned(), ApiError::new(&GATEWAY_FAILED, detail))
        }
    };
    Some((code, problem.with("charge_id", id.to_string()).at(location(id))))
}

/// Locks a charge until the transaction ends.
///
/// # Errors
/// 404.
pub(crate) fn lock(conn: &mut PgConnection, account_id: Uuid, id: Uuid) -> Result<Row, ApiError> {
    let row = charges::table.find((account_id, id)).select(Row::as_select()).for_update().first(conn).optional()?;
    row.ok_or_else(no_charge)
}

/// A charge now, read without a lock: good for an answer, not for a decision to write.
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
    let shown = |row: Row| match open.get(&row.reference).copied() {
        // The charge was resolved between the two statements, so the row is final by now.
        None if row.status == PaymentStatus::Processing => {
            let row: Row = charges::table.find((account_id, row.id)).select(Row::as_select()).first(conn)?;
            Ok(row.into_charge(None))
        }
        progress => Ok(row.into_charge(progress)),
    };
    rows.into_iter().map(shown).collect()
}

/// 404.
pub(crate) fn no_charge() -> ApiError {
    ApiError::not_found("charge")
}
