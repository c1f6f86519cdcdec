//! The sandbox's books: every capture and every refund that the sandbox carried out.
//!
//! Guarantees: a line never changes. Refunds by [`enter_refund`] never exceed the captured amount.
//!
//! Not guaranteed, on purpose: that a reference is unique, so that the books show a double capture. If a key is forgotten and
//! sent again, the second call is a second capture.

use chrono::{DateTime, Utc};
use diesel::dsl::insert_into;
use diesel::prelude::*;
use serde::Serialize;

use super::calls::{Capture, Refund};
use super::refusal::Refusal;

diesel::table! {
    sandbox.captures (id) {
        id -> BigInt,
        reference -> Text,
        amount -> BigInt,
        currency -> Text,
        outcome -> Text,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    sandbox.refunds (id) {
        id -> BigInt,
        reference -> Text,
        capture -> Text,
        amount -> BigInt,
        currency -> Text,
        outcome -> Text,
        created_at -> Timestamptz,
    }
}

/// One line of a book. The answer to a call has the same form.
#[derive(Debug, Queryable, Serialize)]
pub struct Entry {
    reference: String,
    /// In minor units.
    amount: i64,
    currency: String,
    /// `succeeded`, `card_declined`, `insufficient_funds` or `error`.
    outcome: String,
    created_at: DateTime<Utc>,
}

type CaptureEntry =
    (captures::reference, captures::amount, captures::currency, captures::outcome, captures::created_at);
const CAPTURE_ENTRY: CaptureEntry =
    (captures::reference, captures::amount, captures::currency, captures::outcome, captures::created_at);

type RefundEntry = (refunds::reference, refunds::amount, refunds::currency, refunds::outcome, refunds::created_at);
const REFUND_ENTRY: RefundEntry =
    (refunds::reference, refunds::amount, refunds::currency, refunds::outcome, refunds::created_at);

/// The captures, oldest first. With a reference, only the captures of the reference.
pub fn captures(conn: &mut PgConnection, reference: Option<&str>) -> QueryResult<Vec<Entry>> {
    let mut entries = captures::table.select(CAPTURE_ENTRY).order(captures::id).into_boxed();
    if let Some(reference) = reference {
        entries = entries.filter(captures::reference.eq(reference));
    }
    entries.load(conn)
}

/// The refunds, oldest first. With a reference, only the refunds of the reference.
pub fn refunds(conn: &mut PgConnection, reference: Option<&str>) -> QueryResult<Vec<Entry>> {
    let mut entries = refunds::table.select(REFUND_ENTRY).order(refunds::id).into_boxed();
    if let Some(reference) = reference {
        entries = entries.filter(refunds::reference.eq(reference));
    }
    entries.load(conn)
}

/// Writes a capture and its outcome into the book.
pub fn enter_capture(conn: &mut PgConnection, capture: &Capture, outcome: &str) -> QueryResult<Entry> {
    insert_into(captures::table)
        .values((
            captures::reference.eq(&capture.reference),
            captures::amount.eq(capture.amount),
            captures::currency.eq(&capture.currency),
            captures::outcome.eq(outcome),
        ))
        .returning(CAPTURE_ENTRY)
        .get_result(conn)
}

/// Writes a refund into the book if enough of the capture is left. Call this function in a READ COMMITTED transaction.
///
/// # Errors
/// [`Refusal::NotAccepted`] if no such capture succeeded, or too little of the capture is left.
pub fn enter_refund(conn: &mut PgConnection, refund: &Refund) -> Result<Entry, Refusal> {
    // First the lock, then the refunds in a later statement. A single statement would read the refunds as they were before the
    // wait for the lock. If a reference has several captures (a key was forgotten), they are refunded as one capture.
    let captured: Vec<(i64, String)> = captures::table
        .filter(captures::reference.eq(&refund.capture))
        .filter(captures::outcome.eq("succeeded"))
        .order(captures::id)
        .select((captures::amount, captures::currency))
        .for_update()
        .load(conn)?;
    let Some((_, currency)) = captured.first() else {
        return Err(Refusal::NotAccepted("capture is not the reference of a capture that succeeded".to_owned()));
    };
    let refunded: Vec<i64> =
        refunds::table.filter(refunds::capture.eq(&refund.capture)).select(refunds::amount).load(conn)?;

    let left = captured.iter().map(|(amount, _)| amount).sum::<i64>() - refunded.iter().sum::<i64>();
    if refund.amount > left {
        return Err(Refusal::NotAccepted(format!(
            "amount exceeds the {left} minor units that are left of the capture"
        )));
    }
    let entry = insert_into(refunds::table)
        .values((
            refunds::reference.eq(&refund.reference),
            refunds::capture.eq(&refund.capture),
            refunds::amount.eq(refund.amount),
            refunds::currency.eq(currency),
            refunds::outcome.eq("succeeded"),
        ))
        .returning(REFUND_ENTRY)
        .get_result(conn)?;
    Ok(entry)
}
