//! The payment gateway: what can be asked of it, and what it may answer.
//!
//! Guarantees: an implementation sends each call once. An [`Outcome`] is returned only when the gateway has said so, in an
//! answer that is understood whole and agrees with the call. Everything else is a [`CallError`].
//!
//! Does not decide when a call is sent, sent again or looked up: `settlement/learn.rs` does.
//!
//! No function here may be called with a database transaction open: the transaction would hold its locks while the network
//! waits.

mod http;

use futures_util::future::BoxFuture;

use crate::settlement::CallError;

pub use http::{HttpGateway, InvalidGatewayUrl, PAYMENT_METHODS};

/// Takes money from a card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// What both sides know the capture by, and its idempotency key: unique for ever, derived and never made afresh.
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
    /// What both sides know the refund by, and its idempotency key; never the capture's.
    pub reference: String,
    /// The reference of the capture that is refunded.
    pub capture: String,
    /// In minor units of the capture's currency, at least 1.
    pub amount: i64,
    /// The capture's, which the answer must agree with. It is not sent.
    pub currency: String,
}

/// A call that moves money, as it is sent every time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Takes money.
    Capture(Capture),
    /// Gives it back.
    Refund(Refund),
}

/// What became of a call, for good: sending it again changes nothing.
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

/// A payment gateway. Implementations send each call once: repeating is the settlement module's decision alone.
pub trait Gateway: Send + Sync + 'static {
    /// Whether a payment method of this name can be sent at all, decided without a call.
    fn accepts(&self, payment_method: &str) -> bool;

    /// Sends a capture under the idempotency key `capture.reference`.
    fn capture<'a>(&'a self, capture: &'a Capture) -> BoxFuture<'a, Result<Outcome, CallError>>;

    /// Sends a refund under the idempotency key `refund.reference`.
    fn refund<'a>(&'a self, refund: &'a Refund) -> BoxFuture<'a, Result<Outcome, CallError>>;

    /// Looks up in the gateway's books what became of a call. `None`: the gateway has not carried out such a call, though
    /// one may be under way. Books that have the reference with another amount have no outcome of this call: that is
    /// [`CallError::NoAnswer`], so that nothing is settled or sent by it.
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
