//! The sandbox's books: every PaymentIntent and every refund.
//!
//! Guarantees: refunds by [`enter_refund`] never exceed what was paid.
//!
//! Not guaranteed: that a reference in the metadata is unique. That way the books show a double payment: if a key is
//! forgotten and sent again, the second call is a second payment.

use chrono::{DateTime, Duration, Utc};
use diesel::dsl::insert_into;
use diesel::prelude::*;
use serde_json::Value;

use super::calls::{NewPayment, NewRefund};
use super::list::Listing;
use super::methods::Card;
use super::refusal::Refusal;

/// How long a refund is pending, or seems to have succeeded, for the cards whose refunds are late.
pub const LATER: Duration = Duration::seconds(2);

diesel::table! {
    sandbox.payment_intents (id) {
        position -> BigInt,
        id -> Text,
        amount -> BigInt,
        currency -> Text,
        payment_method -> Text,
        status -> Text,
        error_code -> Nullable<Text>,
        decline_code -> Nullable<Text>,
        metadata -> Jsonb,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    sandbox.refunds (id) {
        position -> BigInt,
        id -> Text,
        payment_intent -> Text,
        amount -> BigInt,
        currency -> Text,
        status -> Text,
        changes_at -> Nullable<Timestamptz>,
        later_status -> Nullable<Text>,
        metadata -> Jsonb,
        created_at -> Timestamptz,
    }
}

#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = payment_intents, check_for_backend(diesel::pg::Pg))]
pub struct PaymentIntent {
    pub position: i64,
    pub id: String,
    pub amount: i64,
    pub currency: String,
    pub payment_method: String,
    pub status: String,
    pub error_code: Option<String>,
    pub decline_code: Option<String>,
    pub metadata: Value,
    pub created_at: DateTime<Utc>,
}

#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = refunds, check_for_backend(diesel::pg::Pg))]
pub struct Refund {
    pub position: i64,
    pub id: String,
    pub payment_intent: String,
    pub amount: i64,
    pub currency: String,
    status: String,
    changes_at: Option<DateTime<Utc>>,
    later_status: Option<String>,
    pub metadata: Value,
    pub created_at: DateTime<Utc>,
}

impl Refund {
    /// The status now.
    pub fn status(&self) -> &str {
        match (&self.changes_at, &self.later_status) {
            (Some(at), Some(later)) if *at <= Utc::now() => later,
            _ => &self.status,
        }
    }

    /// Whether the status will change.
    pub fn changes_later(&self) -> bool {
        self.changes_at.is_some_and(|at| at > Utc::now())
    }
}

/// Writes a PaymentIntent that was confirmed.
pub fn enter_payment(conn: &mut PgConnection, new: &NewPayment) -> QueryResult<PaymentIntent> {
    let (status, error_code, decline_code) = match new.card {
        Card::Declines { code, decline_code } => ("requires_payment_method", Some(code), decline_code),
        Card::Asks if new.error_on_requires_action => {
            ("requires_payment_method", Some("authentication_required"), Some("authentication_required"))
        }
        Card::Asks => ("requires_action", None, None),
        _ => ("succeeded", None, None),
    };
    insert_into(payment_intents::table)
        .values((
            payment_intents::amount.eq(new.amount),
            payment_intents::currency.eq(&new.currency),
            payment_intents::payment_method.eq(&new.payment_method),
            payment_intents::status.eq(status),
            payment_intents::error_code.eq(error_code),
            payment_intents::decline_code.eq(decline_code),
            payment_intents::metadata.eq(&new.metadata),
        ))
        .returning(PaymentIntent::as_returning())
        .get_result(conn)
}

/// Writes a refund if enough of the payment is left. Call it in a READ COMMITTED transaction. The inner error is a
/// refusal that the gateway stores under the key, since it had begun to carry out the call.
///
/// # Errors
/// [`Refusal`] if there is no such payment.
pub fn enter_refund(conn: &mut PgConnection, new: &NewRefund) -> Result<Result<Refund, Value>, Refusal> {
    // First the lock, then the refunds in a separate statement. A single statement would read the refunds as they were
    // before the wait for the lock.
    let intent: Option<PaymentIntent> = payment_intents::table
        .find(&new.payment_intent)
        .select(PaymentIntent::as_select())
        .for_update()
        .first(conn)
        .optional()?;
    let Some(intent) = intent else {
        let message = format!("No such payment_intent: '{}'", new.payment_intent);
        return Err(Refusal::parameter("payment_intent", Some("resource_missing"), message));
    };
    let refused = |refusal: Refusal| Ok(Err(refusal.envelope()));
    if intent.status != "succeeded" {
        let message = format!("This PaymentIntent ({}) does not have a successful charge to refund.", intent.id);
        return refused(Refusal::state(None, message));
    }
    let earlier: Vec<Refund> =
        refunds::table.filter(refunds::payment_intent.eq(&intent.id)).select(Refund::as_select()).load(conn)?;
    let given_back: i64 = earlier.iter().filter(|refund| refund.status() != "failed").map(|refund| refund.amount).sum();
    let left = intent.amount - given_back;
    if left == 0 {
        let message = format!("Charge {} has already been refunded.", charge(&intent.id));
        return refused(Refusal::state(Some("charge_already_refunded"), message));
    }
    let amount = new.amount.unwrap_or(left);
    if amount > left {
        let message = format!("Refund amount ({amount}) is greater than unrefunded amount on charge ({left})");
        return refused(Refusal::parameter("amount", None, message));
    }
    let (status, later_status) = match Card::of(&intent.payment_method) {
        Some(Card::RefundsLate) => ("pending", Some("succeeded")),
        Some(Card::RefundsFail) => ("succeeded", Some("failed")),
        _ => ("succeeded", None),
    };
    let refund = insert_into(refunds::table)
        .values((
            refunds::payment_intent.eq(&intent.id),
            refunds::amount.eq(amount),
            refunds::currency.eq(&intent.currency),
            refunds::status.eq(status),
            refunds::changes_at.eq(later_status.map(|_| Utc::now() + LATER)),
            refunds::later_status.eq(later_status),
            refunds::metadata.eq(&new.metadata),
        ))
        .returning(Refund::as_returning())
        .get_result(conn)?;
    Ok(Ok(refund))
}

pub fn payment(conn: &mut PgConnection, id: &str) -> Result<PaymentIntent, Refusal> {
    let found = payment_intents::table.find(id).select(PaymentIntent::as_select()).first(conn).optional()?;
    found.ok_or_else(|| Refusal::NotFound { kind: "payment_intent", id: id.to_owned() })
}

pub fn refund(conn: &mut PgConnection, id: &str) -> Result<Refund, Refusal> {
    let found = refunds::table.find(id).select(Refund::as_select()).first(conn).optional()?;
    found.ok_or_else(|| Refusal::NotFound { kind: "refund", id: id.to_owned() })
}

/// A page of PaymentIntents as `show` writes them, newest first.
pub fn payments(
    conn: &mut PgConnection,
    listing: &Listing,
    show: impl Fn(&PaymentIntent) -> Value,
) -> Result<Value, Refusal> {
    let mut query = payment_intents::table.select(PaymentIntent::as_select()).into_boxed();
    if let Some(after) = &listing.starting_after {
        query = query.filter(payment_intents::position.lt(payment(conn, after)?.position));
    }
    if let Some(from) = listing.from {
        query = query.filter(payment_intents::created_at.ge(from));
    }
    if let Some(before) = listing.before {
        query = query.filter(payment_intents::created_at.lt(before));
    }
    let rows = query.order(payment_intents::position.desc()).limit(listing.limit + 1).load(conn)?;
    Ok(listing.page("/v1/payment_intents", &rows, show))
}

/// A page of refunds as `show` writes them, newest first.
pub fn refunds(conn: &mut PgConnection, listing: &Listing, show: impl Fn(&Refund) -> Value) -> Result<Value, Refusal> {
    let mut query = refunds::table.select(Refund::as_select()).into_boxed();
    if let Some(after) = &listing.starting_after {
        query = query.filter(refunds::position.lt(refund(conn, after)?.position));
    }
    if let Some(payment) = &listing.payment_intent {
        query = query.filter(refunds::payment_intent.eq(payment));
    }
    if let Some(from) = listing.from {
        query = query.filter(refunds::created_at.ge(from));
    }
    if let Some(before) = listing.before {
        query = query.filter(refunds::created_at.lt(before));
    }
    let rows = query.order(refunds::position.desc()).limit(listing.limit + 1).load(conn)?;
    Ok(listing.page("/v1/refunds", &rows, show))
}

/// The id of a PaymentIntent's charge.
pub fn charge(intent: &str) -> String {
    intent.replacen("pi_", "ch_", 1)
}
