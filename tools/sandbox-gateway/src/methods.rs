//! How a card behaves, by its payment method: Stripe's test cards, and our own for the gateway's faults.

/// What a card does when it is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Card {
    Succeeds,
    /// The issuer declines.
    Declines {
        code: &'static str,
        decline_code: Option<&'static str>,
    },
    /// The issuer asks the customer a question (3-D Secure).
    Asks,
    /// Its refunds are pending for a moment, and then succeed.
    RefundsLate,
    /// Its refunds succeed, but fail a moment later.
    RefundsFail,
    /// Succeeds, but the answer takes 3 s.
    Slow,
    /// Succeeds, but the first call is never answered.
    LostReply,
    /// The first two calls fail without a trace, and then it succeeds.
    GatewayError,
    /// The call fails for good: the 500 is stored under the key, and no money moves.
    StickyError,
}

/// The cards that the sandbox knows. Names and codes are Stripe's: <https://docs.stripe.com/testing>. Ours come last.
const CARDS: [(&str, Card); 21] = [
    ("pm_card_visa", Card::Succeeds),
    ("pm_card_visa_debit", Card::Succeeds),
    ("pm_card_mastercard", Card::Succeeds),
    ("pm_card_amex", Card::Succeeds),
    ("pm_card_visa_chargeDeclined", declines("card_declined", "generic_decline")),
    ("pm_card_visa_chargeDeclinedInsufficientFunds", declines("card_declined", "insufficient_funds")),
    ("pm_card_visa_chargeDeclinedLostCard", declines("card_declined", "lost_card")),
    ("pm_card_visa_chargeDeclinedStolenCard", declines("card_declined", "stolen_card")),
    ("pm_card_visa_chargeDeclinedVelocityLimitExceeded", declines("card_declined", "card_velocity_exceeded")),
    ("pm_card_chargeDeclinedExpiredCard", Card::Declines { code: "expired_card", decline_code: None }),
    ("pm_card_chargeDeclinedIncorrectCvc", Card::Declines { code: "incorrect_cvc", decline_code: None }),
    ("pm_card_chargeDeclinedProcessingError", Card::Declines { code: "processing_error", decline_code: None }),
    ("pm_card_threeDSecure2Required", Card::Asks),
    ("pm_card_threeDSecureRequired", Card::Asks),
    ("pm_card_authenticationRequired", Card::Asks),
    ("pm_card_pendingRefund", Card::RefundsLate),
    ("pm_card_refundFail", Card::RefundsFail),
    ("pm_card_slow", Card::Slow),
    ("pm_card_lost_reply", Card::LostReply),
    ("pm_card_gateway_error", Card::GatewayError),
    ("pm_card_sticky_error", Card::StickyError),
];

const fn declines(code: &'static str, decline_code: &'static str) -> Card {
    Card::Declines { code, decline_code: Some(decline_code) }
}

impl Card {
    /// The card of a payment method.
    pub fn of(payment_method: &str) -> Option<Self> {
        CARDS.iter().find_map(|(name, card)| (*name == payment_method).then_some(*card))
    }
}
