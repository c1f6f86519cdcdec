//! Events, which the sandbox sends to its webhook, signed as Stripe signs.
//!
//! Not guaranteed: delivery. An event is lost if its delivery fails a few times, or if the process ends first. Stripe
//! tries for three days. A receiver must not depend on an event.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::books::{PaymentIntent, Refund};
use super::objects;

/// The pauses before the next delivery, in seconds.
const PAUSES: [u64; 3] = [1, 5, 25];

/// How long the receiver may take. Stripe too waits for some ten seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Where the sandbox sends its events.
#[derive(Clone)]
pub struct Webhook {
    /// For example `http://127.0.0.1:8080/webhooks/stripe`.
    pub url: String,
    /// The endpoint's signing secret, `whsec_..`.
    pub secret: String,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("url", &self.url).finish_non_exhaustive()
    }
}

/// The events of a PaymentIntent that was just confirmed.
pub fn of_payment(intent: &PaymentIntent) -> Option<Value> {
    let kind = match intent.status.as_str() {
        "succeeded" => "payment_intent.succeeded",
        "requires_payment_method" => "payment_intent.payment_failed",
        _ => return None,
    };
    Some(event(kind, objects::payment_intent(intent)))
}

/// The event of a refund that was just created.
pub fn of_refund(refund: &Refund) -> Value {
    event("refund.created", objects::refund(refund))
}

/// The event of a refund whose status has changed.
pub fn of_changed_refund(refund: &Refund) -> Value {
    let kind = if refund.status() == "failed" { "refund.failed" } else { "refund.updated" };
    event(kind, objects::refund(refund))
}

#[expect(clippy::needless_pass_by_value, reason = "it becomes a part of the event")]
fn event(kind: &str, object: Value) -> Value {
    let id = object["id"].as_str().unwrap_or_default();
    json!({
        "id": format!("evt_{}_{}", kind.replace('.', "_"), id), "object": "event", "api_version": super::STRIPE_VERSION,
        "created": seconds(), "data": {"object": object}, "livemode": false, "pending_webhooks": 1,
        "request": {"id": null, "idempotency_key": null}, "type": kind,
    })
}

/// Delivers an event, and tries again a few times.
pub async fn deliver(client: reqwest::Client, webhook: Webhook, event: Value) {
    let body = event.to_string();
    for pause in PAUSES.map(Some).into_iter().chain([None]) {
        let request = client.post(&webhook.url).header("Content-Type", "application/json; charset=utf-8");
        let request = request.header("Stripe-Signature", signature(&webhook.secret, &body)).timeout(ANSWER_WITHIN);
        match request.body(body.clone()).send().await {
            Ok(response) if response.status().is_success() => return,
            Ok(response) => log::info!("sandbox: the webhook answered {}", response.status()),
            Err(error) => log::info!("sandbox: the webhook did not answer: {}", error.without_url()),
        }
        if let Some(pause) = pause {
            tokio::time::sleep(Duration::from_secs(pause)).await;
        }
    }
}

fn signature(secret: &str, body: &str) -> String {
    let time = seconds();
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
    mac.update(format!("{time}.{body}").as_bytes());
    let hex = mac.finalize().into_bytes().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    format!("t={time},v1={hex}")
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
