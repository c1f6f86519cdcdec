//! Charges: an order paid through an external gateway, with no money lost or taken twice.
//!
//! The call to the gateway never runs inside a transaction. One transaction claims the key and inserts the charge as
//! `processing`, with its first lease taken, and a provisional 202 as its reply. Then the gateway is called. Then a second
//! transaction records the outcome and puts the final reply in the place of the 202. Whatever happens between the two, the
//! settler finishes it (see [`settle`]).

mod lease;
pub mod reads;
pub mod refunds;
pub mod settle;

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

use self::lease::{Lease, Settlement, What};
use self::settle::{Settled, Settler};
use crate::auth::Account;
use crate::crash::crash_point;
use crate::db::Db;
use crate::error::ApiError;
use crate::gateway::{Call, Capture, Gateway, Outcome};
use crate::idempotency::{Address, Failure, Failures, FieldError, Keyed, Policy, Reply, Scope, hours, seconds};
use crate::openapi::shapes::PaymentStatus;
use crate::problems::{CARD_DECLINED, GATEWAY_FAILED, KEY_EXPIRED, ORDER_NOT_PAYABLE, SETTLEMENT_IN_PROGRESS};
use crate::schema::charges;
use crate::wire::printable;
use crate::{entitlements, events, orders};

/// A declined card is an outcome, and must not be tried again behind the customer's back: failures are kept.
pub const CREATE_CHARGE: Policy = Policy {
    route: "POST /v1/charges",
    scope: Scope::Account,
    failures: Failures::CacheFailures { failure_ttl: hours(24) },
    success_ttl: hours(24),
    wait: seconds(5),
};

/// The body of `POST /v1/charges`.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCharge {
    /// The order to pay, whole.
    #[garde(skip)]
    order_id: Uuid,
    /// The name of a stored payment method at the gateway.
    #[garde(length(chars, min = 1, max = 255), custom(printable))]
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$",
        example = "pm_card_visa"
    )]
    payment_method: String,
}

/// A charge as it is answered.
#[derive(Debug, Serialize, ToSchema)]
pub struct Charge {
    /// UUIDv7.
    id: Uuid,
    /// The order it pays.
    order_id: Uuid,
    /// Where it stands.
    #[schema(value_type = PaymentStatus)]
    status: String,
    /// The order's amount, in minor units.
    amount: i64,
    /// ISO 4217.
    currency: String,
    /// The name of the stored payment method at the gateway.
    payment_method: String,
    /// Of refunds that succeeded or are processing.
    amount_refunded: i64,
    /// Why it failed, if it did.
    #[schema(required)]
    failure_code: Option<String>,
    /// What the gateway knows it by.
    reference: String,
    /// How far the settling is; null once it is final.
    #[schema(required)]
    settlement: Option<Settlement>,
    /// When it was made.
    created_at: DateTime<Utc>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = charges, check_for_backend(diesel::pg::Pg))]
pub(crate) struct Row {
    pub id: Uuid,
    pub order_id: Uuid,
    pub status: String,
    pub amount: i64,
    pub currency: String,
    pub payment_method: String,
    pub amount_refunded: i64,
    pub failure_code: Option<String>,
    pub reference: String,
    idempotency_scope: String,
    idempotency_key: String,
    attempts: i32,
    next_attempt_at: Option<DateTime<Utc>>,
    parked_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
}

impl From<Row> for Charge {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            order_id: row.order_id,
            status: row.status,
            amount: row.amount,
            currency: row.currency,
            payment_method: row.payment_method,
            amount_refunded: row.amount_refunded,
            failure_code: row.failure_code,
            reference: row.reference,
            settlement: Settlement::of(row.attempts, row.next_attempt_at, row.parked_at),
            created_at: row.created_at,
        }
    }
}

/// `POST /v1/charges`: 201 where it succeeded, 402 where it was declined, 202 while the outcome is unknown.
///
/// # Errors
/// 404 for the order; 409 order-not-payable, settlement-in-progress, idempotency-key-expired; 422 for a payment method that
/// the gateway doesn't accept; what the idempotency key says.
#[utoipa::path(post, path = "/v1/charges", operation_id = "createCharge", tag = "Charges", summary = "Pay an order",
    description = "Pays the whole of a pending order. 202 while the outcome is not known: send the same request with the same key again.",
    request_body = NewCharge,
    responses((status = 201, body = Charge, description = "It succeeded"), (status = 202, body = Charge, description = "Still processing")))]
pub async fn create(
    account: Account,
    request: Keyed<NewCharge>,
    db: Data<Db>,
    gateway: Data<dyn Gateway>,
    settler: Data<Settler>,
) -> Result<HttpResponse, ApiError> {
    if !gateway.accepts(&request.body.payment_method) {
        let detail = "the gateway does not accept this payment method".to_owned();
        return Err(ApiError::invalid(&[FieldError { pointer: "/payment_method".to_owned(), detail }]));
    }
    let id = Uuid::now_v7();
    let address = request.address(account.id, &CREATE_CHARGE);
    crash_point("before-claim");
    let first = async move {
        let begin = move |conn: &mut PgConnection, new: &NewCharge| {
            crash_point("after-claim");
            let charge = insert(conn, &address, id, new)?;
            Ok::<_, ApiError>(Reply { location: Some(location(id)), ..Reply::json(202, &charge)? })
        };
        CREATE_CHARGE.answer(&**db, account.id, request, begin).await
    };
    let answer = settler.carry(first, What::Charge, account.id, id).await?;
    crash_point("before-answer");
    Ok(answer.into_response())
}

/// The charge as it stands after the first transaction: processing, its first lease taken by this request.
fn insert(conn: &mut PgConnection, address: &Address, id: Uuid, new: &NewCharge) -> Result<Charge, ApiError> {
    let account_id = address.account_id;
    refuse_late_retry(conn, address)?;
    let order = orders::lock(conn, account_id, new.order_id)?;
    if order.status != "pending" {
        return Err(ApiError::new(&ORDER_NOT_PAYABLE, format!("the order is {}", order.status)));
    }
    if orders::is_being_paid(conn, account_id, order.id)? {
        return Err(being_paid());
    }
    let row: Row = diesel::insert_into(charges::table)
        .values((
            charges::account_id.eq(account_id),
            charges::id.eq(id),
            charges::order_id.eq(order.id),
            charges::status.eq("processing"),
            charges::amount.eq(order.amount),
            charges::currency.eq(order.currency),
            charges::payment_method.eq(&new.payment_method),
            charges::reference.eq(lease::reference(address)),
            charges::idempotency_scope.eq(&address.scope),
            charges::idempotency_key.eq(&address.key),
            charges::next_attempt_at.eq((now.into_sql::<Timestamptz>() + lease::interval()).nullable()),
        ))
        .returning(Row::as_returning())
        .get_result(conn)
        .map_err(|error| match ApiError::constraint(&error) {
            // The backstop of the lock and the look above.
            Some("charges_one_live_charge_per_order") => being_paid(),
            _ => error.into(),
        })?;
    Ok(row.into())
}

fn being_paid() -> ApiError {
    ApiError::new(&SETTLEMENT_IN_PROGRESS, "a payment of this order is under way")
}

/// A key that made a charge once never makes another, also when its record is long gone.
fn refuse_late_retry(conn: &mut PgConnection, address: &Address) -> Result<(), ApiError> {
    let made: Option<Uuid> = charges::table
        .filter(charges::account_id.eq(address.account_id))
        .filter(charges::idempotency_scope.eq(&address.scope))
        .filter(charges::idempotency_key.eq(&address.key))
        .select(charges::id)
        .first(conn)
        .optional()?;
    made.map_or(Ok(()), |id| Err(key_expired(location(id))))
}

/// 409 idempotency-key-expired, naming what the key made.
pub(crate) fn key_expired(resource: String) -> ApiError {
    ApiError::new(&KEY_EXPIRED, "the key's reply is no longer kept; it is not done again").with("resource", resource)
}

fn location(id: Uuid) -> String {
    format!("/v1/charges/{id}")
}

/// What a lease on a charge is about.
///
/// # Errors
/// The database's.
pub(crate) fn leased(conn: &mut PgConnection, account_id: Uuid, id: Uuid) -> QueryResult<Lease> {
    let (row, look_first): (Row, bool) = charges::table
        .find((account_id, id))
        .select((
            Row::as_select(),
            charges::created_at.lt(now.into_sql::<Timestamptz>() - lease::key_lifetime_interval()),
        ))
        .first(conn)?;
    Ok(Lease {
        what: What::Charge,
        id,
        attempt: row.attempts,
        call: Call::Capture(Capture {
            reference: row.reference,
            amount: row.amount,
            currency: row.currency,
            payment_method: row.payment_method,
        }),
        look_first,
        address: Address { account_id, scope: row.idempotency_scope, key: row.idempotency_key },
        order_id: row.order_id,
        charge_id: id,
    })
}

/// Records the outcome of a charge: charge, order, record, entitlements and events, in the caller's transaction.
///
/// # Errors
/// [`settle::Unsettled::LostLease`] where the charge is not this lease's any more: nothing may be written.
pub(crate) fn conclude(
    conn: &mut PgConnection,
    lease: &Lease,
    outcome: &Outcome,
) -> Result<Settled, settle::Unsettled> {
    let account_id = lease.address.account_id;
    orders::lock(conn, account_id, lease.order_id)?;
    let charge = lock(conn, account_id, lease.id)?;
    if charge.status != "processing" || charge.attempts != lease.attempt {
        return Err(settle::Unsettled::LostLease);
    }
    let failure = match outcome {
        Outcome::Succeeded => None,
        Outcome::Declined { decline_code } => Some((decline_code.as_str(), declined(lease.id, decline_code))),
        Outcome::Failed => {
            let detail = "the gateway refused the payment or failed for good; no money moved";
            let problem =
                ApiError::new(&GATEWAY_FAILED, detail).with("charge_id", lease.id.to_string()).at(location(lease.id));
            Some(("gateway_failed", problem))
        }
    };
    let status = if failure.is_none() { "succeeded" } else { "failed" };
    let row: Row = diesel::update(charges::table.find((account_id, lease.id)))
        .set((
            charges::status.eq(status),
            charges::failure_code.eq(failure.as_ref().map(|(code, _)| *code)),
            charges::next_attempt_at.eq(None::<DateTime<Utc>>),
            charges::parked_at.eq(None::<DateTime<Utc>>),
        ))
        .returning(Row::as_returning())
        .get_result(conn)?;
    let charge = Charge::from(row);
    let reply = match &failure {
        None => Reply::created(location(lease.id), &charge)?,
        // The instance is the charge's URL, so no request's id is needed.
        Some((_, problem)) => problem.reply(Uuid::nil()),
    };
    let settled = settle::settle_record(conn, lease, &CREATE_CHARGE, reply)?;
    events::record(conn, account_id, &format!("charge.{status}"), &charge)?;
    if failure.is_none() {
        let order = orders::set_status(conn, account_id, lease.order_id, "paid")?;
        entitlements::grant_of_order(conn, account_id, &order)?;
    }
    Ok(settled)
}

fn declined(id: Uuid, decline_code: &str) -> ApiError {
    ApiError::new(&CARD_DECLINED, format!("the payment method was declined: {decline_code}"))
        .with("decline_code", decline_code)
        .with("charge_id", id.to_string())
        .at(location(id))
}

/// Locks a charge until the transaction ends. Its order must be locked already.
///
/// # Errors
/// 404.
pub(crate) fn lock(conn: &mut PgConnection, account_id: Uuid, id: Uuid) -> Result<Row, ApiError> {
    let row = charges::table.find((account_id, id)).select(Row::as_select()).for_update().first(conn).optional()?;
    row.ok_or_else(no_charge)
}

fn no_charge() -> ApiError {
    ApiError::not_found("charge")
}
