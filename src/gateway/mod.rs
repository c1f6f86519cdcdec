//! Learns what became of a capture or refund at the payment gateway, at most once however often it is asked.
//!
//! Guarantees: whatever is sent again is the same call under the same key, so it moves money at most once while the gateway
//! keeps its keys; past that ([`GATEWAY_KEY_LIFETIME`]) it looks before it sends. An [`Outcome`] is returned only when the
//! gateway has said so; everything else is [`StillUnknown`], to be asked again later. [`learn`] ends within [`LEARN_BUDGET`].
//!
//! Does not guarantee: an outcome. The gateway may be away for hours; who calls [`learn`] must remember the call and come
//! back with it. Nor can it protect a caller who sends one reference with two different contents, or who says
//! `look_first: false` once the gateway has forgotten the key.
//!
//! No function here may be called with a database transaction open: it would hold its locks while the network waits.

mod http;

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use futures_util::future::BoxFuture;

pub use http::{HttpGateway, InvalidGatewayUrl, PAYMENT_METHODS};

/// How long establishing a connection may take. A gateway that is up answers within a round trip, 0.3 s around the world;
/// one that has not after a second is down, and the settler asks again.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long one call may take, connecting and the answer's body included. Card networks answer in up to 3 s when they are
/// slow; a call given up earlier would be reported as unknown though its answer was on the way.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(4);

/// How often a plain 5xx is repeated at once. Two outlast a gateway's restart behind a load balancer; more would press a
/// gateway that is already failing, and the settler comes back anyway.
pub const QUICK_REPEATS: usize = 2;

/// The shortest pause before the first quick repeat; backon doubles it for the second and adds up to as much again as
/// jitter, so that callers who failed together don't return together. 0.3 to 0.6 s in all, which a waiting client bears.
pub const QUICK_PAUSE: Duration = Duration::from_millis(100);

/// All that [`learn`] may spend, enforced: a look and one call that use all of their time, or one call and a look, and a
/// second for quick failures and the pauses between. It need not cover three full calls: a gateway that takes 4 s to fail
/// is not one to press. A caller's lease must be longer than this and its own transactions together.
pub const LEARN_BUDGET: Duration = Duration::from_secs(9);

/// How long after its *first* sending a call may be sent again without looking. Gateways forget keys from 24 h on (Stripe
/// prunes them then); an hour less covers two clocks that differ and the time between this decision and the call's arrival.
pub const GATEWAY_KEY_LIFETIME: Duration = Duration::from_secs(23 * 60 * 60);

const _: () = assert!(
    LEARN_BUDGET.as_millis() > 2 * CALL_TIMEOUT.as_millis() + 6 * QUICK_PAUSE.as_millis(),
    "the budget must hold a look, a call, and the pauses between quick repeats"
);

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

/// Why one call did not bring an outcome, told apart by what may be done next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No answer, or none that can be understood. The call may have taken effect: only a later call can tell.
    #[error("no answer: {reason}")]
    NoAnswer {
        /// For the log; holds no payment data.
        reason: String,
    },
    /// The gateway asks to come back later: a call of the same key is under way (409), or there are too many (429).
    #[error("the gateway answered {status}: later")]
    Later {
        /// The HTTP status.
        status: u16,
    },
    /// A 5xx. Repeating the call may help, unless the gateway has stored this answer under the key.
    #[error("the gateway answered {status}")]
    ServerError {
        /// The HTTP status.
        status: u16,
    },
    /// Any other 4xx. This sending moved no money; an earlier one may have.
    #[error("the gateway refused the call with {status}")]
    Refused {
        /// The HTTP status.
        status: u16,
    },
}

/// The outcome could not be learnt now. The call may or may not have taken effect; ask again later, with the same call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what became of the call is still unknown: {0}")]
pub struct StillUnknown(#[from] pub CallError);

/// A payment gateway. Implementations send each call once: repeating is [`learn`]'s decision alone.
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

    /// In minor units.
    #[must_use]
    pub fn amount(&self) -> i64 {
        match self {
            Call::Capture(capture) => capture.amount,
            Call::Refund(refund) => refund.amount,
        }
    }

    fn send<'a>(&'a self, gateway: &'a dyn Gateway) -> BoxFuture<'a, Result<Outcome, CallError>> {
        match self {
            Call::Capture(capture) => gateway.capture(capture),
            Call::Refund(refund) => gateway.refund(refund),
        }
    }
}

/// Makes the call and learns what became of it, or learns it from the gateway's books.
///
/// `look_first` is for a call first sent [`GATEWAY_KEY_LIFETIME`] ago or earlier: the gateway may have forgotten its key, so
/// sending it could move the money a second time. It is then sent only if the books don't have it.
///
/// # Errors
/// [`StillUnknown`] when the gateway did not say what became of the call, within [`LEARN_BUDGET`] at the latest.
pub async fn learn(gateway: &dyn Gateway, call: &Call, look_first: bool) -> Result<Outcome, StillUnknown> {
    match tokio::time::timeout(LEARN_BUDGET, look_and_send(gateway, call, look_first)).await {
        Ok(learnt) => learnt,
        // The call that was cut off counts as sent: it is no different from one whose answer was lost.
        Err(_) => {
            Err(StillUnknown(CallError::NoAnswer { reason: format!("no outcome within {} s", LEARN_BUDGET.as_secs()) }))
        }
    }
}

/// The rules of [`learn`], without its time limit.
async fn look_and_send(gateway: &dyn Gateway, call: &Call, look_first: bool) -> Result<Outcome, StillUnknown> {
    // A look that fails ends it here: sending unseen is what `look_first` forbids.
    if look_first && let Some(outcome) = gateway.find(call).await? {
        return Ok(outcome);
    }
    let error = match send_with_quick_repeats(gateway, call).await {
        Ok(outcome) => return Ok(outcome),
        Err(error) => error,
    };
    match error {
        CallError::NoAnswer { .. } | CallError::Later { .. } => Err(StillUnknown(error)),
        // A 5xx that stays is perhaps a stored one, replayed for as long as the key lives: the books know what it stands for.
        CallError::ServerError { .. } => gateway.find(call).await?.ok_or(StillUnknown(error)),
        // This sending was refused, but an earlier one, its answer lost, may be what the books have.
        CallError::Refused { .. } => Ok(gateway.find(call).await?.unwrap_or(Outcome::Failed)),
    }
}

/// Sends the call, and again only after a plain 5xx. Without an answer a repeat would most likely meet the first call still
/// under way, or the same silence; and a refusal does not change.
async fn send_with_quick_repeats(gateway: &dyn Gateway, call: &Call) -> Result<Outcome, CallError> {
    let pauses = ExponentialBuilder::new().with_min_delay(QUICK_PAUSE).with_max_times(QUICK_REPEATS).with_jitter();
    (|| call.send(gateway))
        .retry(pauses)
        .sleep(tokio::time::sleep)
        .when(|error| matches!(error, CallError::ServerError { .. }))
        .notify(|error, pause| log::info!("gateway call {} repeats in {pause:?}: {error}", call.reference()))
        .await
}
