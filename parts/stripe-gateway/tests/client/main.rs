// SPDX-License-Identifier: MIT OR Apache-2.0
//! The client against HTTP servers whose answers a test chooses, and events that a test signs.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod answers;
mod events;
mod looks;

use chrono::Utc;
use external_calls::Sent;
use stripe_gateway::Payment;
use uuid::Uuid;

fn payment(amount: i64, payment_method: &str) -> Payment {
    Payment { account_id: Uuid::nil(), amount, currency: "EUR".to_owned(), payment_method: payment_method.to_owned() }
}

/// What a look gets about a call that was sent a moment ago.
fn sent(reference: &str) -> Sent {
    Sent { reference: reference.to_owned(), outside_id: None, since: Utc::now(), until: Utc::now() }
}
