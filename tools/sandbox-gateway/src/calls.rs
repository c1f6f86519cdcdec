//! The calls: their wire form, and the checks that need no books.

use iso_currency::Currency;
use serde::{Deserialize, Serialize};

use super::refusal::Refusal;

/// The largest amount, in minor units. Up to 2^53 - 1, every JSON parser reads a number exactly.
const LARGEST_AMOUNT: i64 = (1 << 53) - 1;

/// The longest reference and key, in bytes. The payments API sends 64; real gateways allow 255.
pub const LONGEST_NAME: usize = 255;

/// How a card behaves, by the payment method's name.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub enum PaymentMethod {
    #[serde(rename = "pm_card_visa")]
    Visa,
    #[serde(rename = "pm_card_declined")]
    Declined,
    #[serde(rename = "pm_card_insufficient_funds")]
    InsufficientFunds,
    /// Captures, and answers after 3 s.
    #[serde(rename = "pm_card_slow")]
    Slow,
    /// Captures, and never answers the first call.
    #[serde(rename = "pm_card_lost_reply")]
    LostReply,
    /// Fails the first two calls without a trace, then captures.
    #[serde(rename = "pm_card_gateway_error")]
    GatewayError,
    /// Fails the call for good: the 500 is stored, and nothing is captured.
    #[serde(rename = "pm_card_sticky_error")]
    StickyError,
}

/// `POST /captures`; amounts are in minor units.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Capture {
    pub reference: String,
    pub amount: i64,
    pub currency: String,
    pub payment_method: PaymentMethod,
}

/// `POST /refunds`, in the currency of the capture.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Refund {
    pub reference: String,
    /// The reference of the capture.
    pub capture: String,
    pub amount: i64,
}

/// The call of a key. The sandbox compares the calls of one key by their JSON form.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    Capture(Capture),
    Refund(Refund),
}

impl Call {
    /// Checks the call without the books.
    ///
    /// # Errors
    /// [`Refusal::NotAccepted`] with the reason.
    pub fn check(&self) -> Result<(), Refusal> {
        match self {
            Call::Capture(Capture { reference, amount, currency, payment_method: _ }) => {
                check_name(reference)?;
                check_amount(*amount)?;
                check_currency(currency)
            }
            Call::Refund(Refund { reference, capture, amount }) => {
                check_name(reference)?;
                check_name(capture)?;
                check_amount(*amount)
            }
        }
    }
}

fn check_name(reference: &str) -> Result<(), Refusal> {
    if (1..=LONGEST_NAME).contains(&reference.len()) && reference.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(())
    } else {
        Err(Refusal::NotAccepted(format!("a reference must have 1 to {LONGEST_NAME} visible ASCII characters")))
    }
}

fn check_amount(amount: i64) -> Result<(), Refusal> {
    if (1..=LARGEST_AMOUNT).contains(&amount) {
        Ok(())
    } else {
        Err(Refusal::NotAccepted(format!("amount must be from 1 to {LARGEST_AMOUNT} minor units")))
    }
}

fn check_currency(currency: &str) -> Result<(), Refusal> {
    match Currency::from_code(currency) {
        Some(_) => Ok(()),
        None => Err(Refusal::NotAccepted("currency must be an ISO 4217 code in capitals".to_owned())),
    }
}
