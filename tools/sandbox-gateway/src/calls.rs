//! The calls that move money, from their parameters, and the checks that need no books. A failure here stores no
//! answer.

use std::collections::BTreeMap;

use iso_currency::Currency;
use serde_json::Value;

use super::form::Form;
use super::methods::Card;
use super::refusal::Refusal;

/// The largest amount. Stripe allows eight digits in most currencies, and more in some; the tests of the payments API use more.
const LARGEST_AMOUNT: i64 = (1 << 53) - 1;

/// The most entries of metadata, and the longest key and value, in characters: Stripe's.
const METADATA: (usize, usize, usize) = (50, 40, 500);

/// `POST /v1/payment_intents`, with `confirm=true`.
#[derive(Debug)]
pub struct NewPayment {
    pub amount: i64,
    /// Lower case.
    pub currency: String,
    pub payment_method: String,
    pub card: Card,
    pub error_on_requires_action: bool,
    pub metadata: Value,
}

/// `POST /v1/refunds`.
#[derive(Debug)]
pub struct NewRefund {
    pub payment_intent: String,
    /// None for all that is left.
    pub amount: Option<i64>,
    pub metadata: Value,
}

#[derive(Debug)]
pub enum Call {
    Payment(NewPayment),
    Refund(NewRefund),
}

impl Call {
    /// # Errors
    /// For a parameter that is missing, unknown or wrong.
    pub fn payment(mut form: Form) -> Result<Self, Refusal> {
        let amount = amount(form.take("amount").ok_or_else(|| Refusal::missing("amount"))?)?;
        let currency = form.take("currency").ok_or_else(|| Refusal::missing("currency"))?.to_ascii_lowercase();
        if Currency::from_code(&currency.to_ascii_uppercase()).is_none() {
            return Err(Refusal::parameter("currency", None, format!("Invalid currency: {currency}.")));
        }
        if !form.truth("confirm")? {
            return Err(Refusal::parameter(
                "confirm",
                None,
                "The sandbox makes only PaymentIntents with confirm=true.",
            ));
        }
        let payment_method = form.take("payment_method").ok_or_else(|| Refusal::missing("payment_method"))?;
        let Some(card) = Card::of(&payment_method) else {
            let message = format!("No such PaymentMethod: '{payment_method}'");
            return Err(Refusal::parameter("payment_method", Some("resource_missing"), message));
        };
        let types = form.take_all("payment_method_types[]");
        if types.iter().any(|kind| kind != "card") {
            return Err(Refusal::parameter("payment_method_types", None, "The sandbox has only cards."));
        }
        let error_on_requires_action = form.truth("error_on_requires_action")?;
        let metadata = metadata(&mut form)?;
        for ignored in ["description", "receipt_email", "statement_descriptor_suffix"] {
            form.take(ignored);
        }
        form.end()?;
        Ok(Self::Payment(NewPayment { amount, currency, payment_method, card, error_on_requires_action, metadata }))
    }

    /// # Errors
    /// For a parameter that is missing, unknown or wrong.
    pub fn refund(mut form: Form) -> Result<Self, Refusal> {
        let payment_intent = form.take("payment_intent").ok_or_else(|| Refusal::missing("payment_intent"))?;
        let amount = form.take("amount").map(amount).transpose()?;
        let metadata = metadata(&mut form)?;
        form.take("reason");
        form.end()?;
        Ok(Self::Refund(NewRefund { payment_intent, amount, metadata }))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map asks for")]
fn amount(text: String) -> Result<i64, Refusal> {
    match text.parse() {
        Ok(amount @ 1..=LARGEST_AMOUNT) => Ok(amount),
        Ok(..=0) => Err(Refusal::parameter(
            "amount",
            Some("parameter_invalid_integer"),
            "This value must be greater than or equal to 1.",
        )),
        Ok(_) => Err(Refusal::parameter("amount", Some("amount_too_large"), "The amount is too large.")),
        Err(_) => {
            Err(Refusal::parameter("amount", Some("parameter_invalid_integer"), format!("Invalid integer: {text}")))
        }
    }
}

fn metadata(form: &mut Form) -> Result<Value, Refusal> {
    let entries: BTreeMap<String, String> = form.take_map("metadata");
    let (most, longest_key, longest_value) = METADATA;
    let fits = |(key, value): (&String, &String)| {
        (1..=longest_key).contains(&key.chars().count()) && value.chars().count() <= longest_value
    };
    if entries.len() > most || !entries.iter().all(fits) {
        let message = "Metadata can have up to 50 keys of 40 characters, with values of 500 characters.";
        return Err(Refusal::parameter("metadata", None, message));
    }
    Ok(serde_json::json!(entries))
}
