// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stripe's answers: what each one says about the money. Members that nobody reads here are ignored.

use std::error::Error;
use std::iter::successors;
use std::time::{Duration, SystemTime};

use reqwest::Response;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{Call, End, Outcome, currency};
use external_calls::CallError;

/// The largest answer about one object, in bytes. A PaymentIntent has some 2 KiB, and 27 KiB more if its metadata is
/// full. The limit protects the memory from a broken gateway.
pub(super) const ONE: usize = 64 * 1024;

/// The largest page of a list: a hundred of the largest objects.
pub(super) const PAGE: usize = 100 * ONE;

/// A PaymentIntent or a refund.
#[derive(Debug, Deserialize)]
pub(super) struct Object {
    pub id: String,
    #[serde(rename = "object")]
    kind: String,
    pub amount: i64,
    pub currency: String,
    /// Null only for refunds of old payment methods.
    pub status: Option<String>,
    /// In seconds since 1970. Only [`books`](super::books) needs it.
    pub created: Option<i64>,
    /// Null in a refund that was created without any.
    pub metadata: Option<Metadata>,
    /// Of a PaymentIntent.
    last_payment_error: Option<StripeError>,
    cancellation_reason: Option<String>,
    /// Of a refund.
    failure_reason: Option<String>,
    payment_intent: Option<String>,
}

/// The metadata that names a call.
#[derive(Debug, Deserialize)]
pub(super) struct Metadata {
    reference: Option<String>,
    account: Option<String>,
}

impl Metadata {
    /// The account and the reference of one of our calls. None if the object is another program's.
    pub fn call(self) -> Option<(Uuid, String)> {
        let account_id = Uuid::try_parse(&self.account?).ok()?;
        // A reference is a SHA-256 in hex. Anything else is another program's.
        let is_ours = |text: &String| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        Some((account_id, self.reference.filter(is_ours)?))
    }
}

/// A page of a list.
#[derive(Deserialize)]
pub(super) struct Page {
    pub data: Vec<Object>,
    has_more: bool,
}

impl Page {
    /// The object after which the next page begins. None if this page is the last.
    pub fn more_after(&self) -> Result<Option<String>, CallError> {
        match self.data.last() {
            _ if !self.has_more => Ok(None),
            Some(last) => Ok(Some(last.id.clone())),
            None => Err(not_understood("an empty page has more")),
        }
    }
}

#[derive(Deserialize)]
struct Envelope {
    error: StripeError,
}

/// The error of an answer, or of a PaymentIntent's last attempt.
#[derive(Debug, Deserialize)]
struct StripeError {
    #[serde(rename = "type")]
    kind: String,
    code: Option<String>,
    decline_code: Option<String>,
    payment_intent: Option<Box<Object>>,
}

impl StripeError {
    /// The issuer's reason, or the error's code where there is none.
    fn decline(&self) -> Option<End> {
        let decline_code = self.decline_code.as_ref().or(self.code.as_ref())?.clone();
        (self.kind == "card_error").then_some(End::Declined { decline_code })
    }
}

impl Object {
    pub fn is_of(&self, reference: &str) -> bool {
        self.metadata.as_ref().is_some_and(|metadata| metadata.reference.as_deref() == Some(reference))
    }

    /// Whether the object is what the call asked for.
    pub fn check(&self, reference: &str, call: Call<'_>) -> Result<(), CallError> {
        let (kind, of) = match call {
            Call::Payment(_) => ("payment_intent", None),
            Call::Refund(refund) => ("refund", Some(refund.payment_intent.as_str())),
        };
        if self.kind != kind
            || !self.is_of(reference)
            || of.is_some_and(|of| self.payment_intent.as_deref() != Some(of))
        {
            return Err(not_understood("it is about another call"));
        }
        let is_same_money = self.currency.eq_ignore_ascii_case(call.currency())
            && currency::from_gateway(self.amount, call.currency()) == Some(call.amount());
        if !is_same_money {
            log::error!("{} at the gateway has the reference {reference} with another amount or currency", self.id);
            return Err(not_understood("it has the reference with another amount or currency"));
        }
        Ok(())
    }

    /// The outcome of an object as it is now. An object that is neither succeeded nor failed has no outcome yet.
    pub fn outcome(&self) -> Result<Outcome, CallError> {
        let failed = |code: &Option<String>| End::Failed { code: code.clone() };
        let end = match (self.kind.as_str(), self.status.as_deref(), &self.last_payment_error) {
            (_, Some("succeeded"), _) => Some(End::Succeeded),
            ("payment_intent", Some("requires_payment_method"), Some(error)) => {
                Some(error.decline().unwrap_or_else(|| failed(&error.code)))
            }
            ("payment_intent", Some("canceled"), _) => Some(failed(&self.cancellation_reason)),
            ("refund", Some("failed" | "canceled"), _) => Some(failed(&self.failure_reason)),
            _ => None,
        };
        match end {
            Some(end) => Ok(Outcome { gateway_id: Some(self.id.clone()), end }),
            None => Err(CallError::Pending { id: self.id.clone() }),
        }
    }
}

/// The outcome that the answer to a call states.
pub(super) async fn of_sending(response: Response, reference: &str, call: Call<'_>) -> Result<Outcome, CallError> {
    if response.status() != 200 {
        return declined(&decline(response).await?, reference, call);
    }
    let object: Object = read(response, ONE).await?;
    object.check(reference, call)?;
    match object.outcome()? {
        // A PaymentIntent that was just created and has not succeeded is looked up once more.
        Outcome { end, .. } if end != End::Succeeded && matches!(call, Call::Payment(_)) => {
            Err(CallError::Pending { id: object.id })
        }
        outcome => Ok(outcome),
    }
}

/// A decline, if the PaymentIntent in it is the call's.
fn declined(error: &StripeError, reference: &str, call: Call<'_>) -> Result<Outcome, CallError> {
    let (Some(end), Some(intent)) = (error.decline(), &error.payment_intent) else {
        return Err(not_understood("it is a decline without a code or a PaymentIntent"));
    };
    intent.check(reference, call)?;
    if intent.status.as_deref() != Some("requires_payment_method") {
        return Err(not_understood("it is a decline of a PaymentIntent that is not declined"));
    }
    Ok(Outcome { gateway_id: Some(intent.id.clone()), end })
}

/// The answer to a GET. A refusal says nothing about the call that is looked up.
pub(super) async fn of_looking<T: DeserializeOwned>(response: Response, limit: usize) -> Result<T, CallError> {
    let status = response.status();
    if status == 200 {
        return read(response, limit).await;
    }
    Err(match decline(response).await {
        Ok(_) | Err(CallError::Refused { .. } | CallError::OtherCall { .. }) => {
            not_understood(&format!("the look was refused with {}", status.as_u16()))
        }
        Err(error) => error,
    })
}

/// The decline in an answer other than 200: 402 `card_error`. Every other such answer is an error.
async fn decline(response: Response) -> Result<StripeError, CallError> {
    let status = response.status().as_u16();
    let retry_after = retry_after(response.headers());
    let stored = is_stored(response.headers());
    Err(match status {
        // These statuses say nothing about the call. The client was not let in, or asked in the wrong place, too early,
        // too late or too often.
        401 | 403 | 404 | 405 | 408 | 409 | 425 | 429 => CallError::Later { status, retry_after },
        // Only Stripe's own refusal counts. A proxy's has another form.
        400..=499 => {
            let Envelope { error } = read(response, ONE).await?;
            match (status, error.kind.as_str(), error.code.as_deref()) {
                (402, "card_error", _) => return Ok(error),
                (_, "idempotency_error", _) => {
                    CallError::OtherCall { reason: "the gateway knows the key with other parameters".to_owned() }
                }
                (_, _, Some("lock_timeout" | "idempotency_key_in_use")) => CallError::Later { status, retry_after },
                _ => CallError::Refused { status, code: error.code },
            }
        }
        500..=599 => CallError::ServerError { status, retry_after, stored },
        _ => not_understood(&format!("its status is {status}")),
    })
}

/// Whether a repeat would get the same answer: Stripe stores a 5xx under the key, and says so.
fn is_stored(headers: &HeaderMap) -> bool {
    let says = |name: &str, word: &str| headers.get(name).is_some_and(|value| value.as_bytes() == word.as_bytes());
    says("Stripe-Should-Retry", "false") || says("Idempotent-Replayed", "true")
}

/// Retry-After, in both of its forms (RFC 9110). A past date means now.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

/// Reads a JSON body, up to a limit in bytes.
async fn read<T: DeserializeOwned>(mut response: Response, limit: usize) -> Result<T, CallError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(no_answer)? {
        if body.len() + chunk.len() > limit {
            return Err(not_understood("it is too long"));
        }
        body.extend_from_slice(&chunk);
    }
    // serde_json would pass over invalid UTF-8 in members that nobody reads.
    let text = std::str::from_utf8(&body).map_err(|error| not_understood(&error.to_string()))?;
    serde_json::from_str(text).map_err(|error| not_understood(&error.to_string()))
}

/// The reason without the URL, and with its causes. The last cause helps most, for example "connection refused".
pub(super) fn no_answer(error: reqwest::Error) -> CallError {
    let error = error.without_url();
    let causes = successors(Some(&error as &dyn Error), |&error| error.source());
    let reasons: Vec<_> = causes.map(ToString::to_string).collect();
    CallError::NoAnswer { reason: reasons.join(": ") }
}

pub(super) fn not_understood(why: &str) -> CallError {
    CallError::NoAnswer { reason: format!("the answer is not understood: {why}") }
}
