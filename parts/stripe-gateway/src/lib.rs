// SPDX-License-Identifier: MIT OR Apache-2.0
//! A client of Stripe's API for the crate `external-calls`: payments from cards, and refunds.
//!
//! [`Stripe`] sends a call, looks up what became of it, and reads the [`books`]. [`webhook`] checks Stripe's events,
//! and [`currency`] converts amounts. [`Gateway`] is what a service needs of it, so that another provider, or a test's
//! double, can take its place.
//!
//! Guarantees: an implementation of [`Gateway`] sends each call once. It returns an [`Outcome`] only if the gateway's
//! answer is fully understood and agrees with the call. Everything else is a [`CallError`].
//!
//! Not decided here: when a call is sent, sent again or looked up. The crate `external-calls` decides that.
//!
//! Don't call these functions inside a database transaction: the transaction would hold its locks while the network
//! waits.

mod answer;
pub mod books;
pub mod currency;
mod key;
mod look;
#[cfg(feature = "otel")]
mod span;
mod stripe;
pub mod webhook;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use external_calls::{CallError, Limits, Sent};

/// The time limits of the calls. The client keeps to them, and the crate `external-calls` counts on them.
pub const LIMITS: Limits = Limits::DEFAULT;

/// The failure code where the gateway gives none.
const NO_CODE: &str = "gateway_failed";

pub use key::{Key, Mode, WrongKey};
pub use stripe::{InvalidGatewayUrl, Stripe, install_tls};

/// A payment from a card: a PaymentIntent that is created and confirmed in one call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// The account that asks for the payment. Stripe's event about the payment names it.
    pub account_id: Uuid,
    /// In minor units of `currency`, at least 1.
    pub amount: i64,
    /// ISO 4217, three capital letters.
    pub currency: String,
    /// The name of a stored payment method, never a card number.
    pub payment_method: String,
}

/// Gives back all or part of a payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    /// The account that asks for the refund.
    pub account_id: Uuid,
    /// The id of the PaymentIntent that is refunded.
    pub payment_intent: String,
    /// In minor units of the payment's currency, at least 1.
    pub amount: i64,
    /// The payment's currency. The call does not send it, and the answer must agree with it.
    pub currency: String,
}

/// A call that moves money, as it is sent every time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call<'a> {
    /// Takes money.
    Payment(&'a Payment),
    /// Gives money back.
    Refund(&'a Refund),
}

/// One of the gateway's two lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Book {
    /// PaymentIntents: charges.
    Payments,
    /// Refunds.
    Refunds,
}

impl<'a> Call<'a> {
    /// The list that has its object.
    #[must_use]
    pub fn book(self) -> Book {
        match self {
            Self::Payment(_) => Book::Payments,
            Self::Refund(_) => Book::Refunds,
        }
    }

    /// In minor units.
    fn amount(self) -> i64 {
        match self {
            Self::Payment(payment) => payment.amount,
            Self::Refund(refund) => refund.amount,
        }
    }

    /// ISO 4217.
    fn currency(self) -> &'a str {
        match self {
            Self::Payment(payment) => &payment.currency,
            Self::Refund(refund) => &refund.currency,
        }
    }
}

/// The final outcome of a call. Sending the call again changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The id of the PaymentIntent or of the refund. None if the gateway refused the call and created no object.
    pub gateway_id: Option<String>,
    /// What became of the money.
    pub end: End,
}

/// What became of the money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The money moved, once.
    Succeeded,
    /// The card's issuer declined, and no money moved.
    Declined {
        /// The issuer's reason, such as `generic_decline` or `insufficient_funds`.
        decline_code: String,
    },
    /// The gateway refused the call or failed it for good, and no money moved.
    Failed {
        /// The gateway's reason, such as `resource_missing`.
        code: Option<String>,
    },
}

impl End {
    /// Why no money moved. None if it moved.
    #[must_use]
    pub fn failure_code(&self) -> Option<&str> {
        match self {
            Self::Succeeded => None,
            Self::Declined { decline_code } => Some(decline_code),
            Self::Failed { code } => Some(code.as_deref().unwrap_or(NO_CODE)),
        }
    }
}

/// A payment gateway. Implementations send each call once. Only the crate `external-calls` repeats a call.
pub trait Gateway: Send + Sync + 'static {
    /// Sends a call, with the reference as its idempotency key.
    fn send<'a>(&'a self, reference: &'a str, call: Call<'a>) -> BoxFuture<'a, Result<Outcome, CallError>>;

    /// Looks up the outcome of a call in the gateway's books. None if the gateway has not carried out the call, though
    /// the call may still arrive. If the books have the reference with another amount, the result is
    /// [`CallError::NoAnswer`], so that nothing is resolved and nothing is sent.
    fn look_up<'a>(&'a self, sent: &'a Sent, call: Call<'a>) -> BoxFuture<'a, Result<Option<Outcome>, CallError>>;
}
