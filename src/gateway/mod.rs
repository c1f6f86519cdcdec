//! The payment gateway: its calls and their outcomes.
//!
//! Guarantees: an implementation sends each call once. An implementation returns an [`Outcome`] only if the gateway's answer is
//! fully understood and agrees with the call. Everything else is a [`CallError`].
//!
//! Not decided here: when a call is sent, sent again or looked up. `external call/learn.rs` decides that.
//!
//! Don't call these functions inside a database transaction: the transaction would hold its locks while the network waits.

mod http;

use futures_util::future::BoxFuture;

use external_calls::CallError;

pub use http::{HttpGateway, InvalidGatewayUrl, PAYMENT_METHODS};

/// Takes money from a card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// The capture's name on both sides, and its idempotency key. Unique for ever: derived, and never made again.
    pub reference: String,
    /// In minor units of `currency`, at least 1.
    pub amount: i64,
    /// ISO 4217, three capital letters.
    pub currency: String,
    /// The name of a stored payment method, never a card number.
    pub payment_method: String,
}

/// Gives back all or part of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refund {
    /// The refund's name on both sides, and its idempotency key. Never the capture's reference.
    pub reference: String,
    /// The reference of the capture that is refunded.
    pub capture: String,
    /// In minor units of the capture's currency, at least 1.
    pub amount: i64,
    /// The capture's currency. The call does not send it, and the answer must agree with it.
    pub currency: String,
}

/// A call that moves money, as it is sent every time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Takes money.
    Capture(Capture),
    /// Gives money back.
    Refund(Refund),
}

/// The final outcome of a call. Sending the call again changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The money moved, once.
    Succeeded,
    /// The card's issuer said no, and no money moved.
    Declined {
        /// The issuer's reason, such as `card_declined` or `insufficient_funds`.
        decline_code: String,
    },
    /// The gateway refused the call or failed it for good, and no money moved.
    Failed,
}

/// A payment gateway. Implementations send each call once. Only the external call module repeats a call.
pub trait Gateway: Send + Sync + 'static {
    /// Whether this client can send a payment method of this name. Decided without a call.
    fn accepts(&self, payment_method: &str) -> bool;

    /// Sends a capture under the idempotency key `capture.reference`.
    fn capture<'a>(&'a self, capture: &'a Capture) -> BoxFuture<'a, Result<Outcome, CallError>>;

    /// Sends a refund under the idempotency key `refund.reference`.
    fn refund<'a>(&'a self, refund: &'a Refund) -> BoxFuture<'a, Result<Outcome, CallError>>;

    /// Looks up the outcome of a call in the gateway's books. `None`: the gateway has not carried out the call, but the call may
    /// be under way. If the books have the reference with another amount, the result is [`CallError::NoAnswer`], so that
    /// nothing is resolved and nothing is sent.
    fn find<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Option<Outcome>, CallError>>;
}

impl Call {
    /// The reference, which is the idempotency key too.
    #[must_use]
    pub fn reference(&self) -> &str {
        match self {
            Call::Capture(capture) => &capture.reference,
            Call::Refund(refund) => &refund.reference,
        }
    }

    /// ISO 4217.
    #[must_use]
    pub fn currency(&self) -> &str {
        match self {
            Call::Capture(capture) => &capture.currency,
            Call::Refund(refund) => &refund.currency,
        }
    }

    /// In minor units.
    #[must_use]
    pub fn amount(&self) -> i64 {
        match self {
            Call::Capture(capture) => capture.amount,
            Call::Refund(refund) => refund.amount,
        }
    }
}
