// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the client looks up what became of a call: by the object's id, and in lists.

use std::sync::atomic::Ordering;

use chrono::{DateTime, Utc};
use external_calls::{CallError, Sent};
use serde_json::{Value, json};
use stripe_gateway::{Call, End, Gateway as _, Outcome, Refund};
use uuid::Uuid;

use crate::answers::{Fixed, changed, intent};
use crate::{payment, sent};

fn page(data: &[Value], has_more: bool) -> String {
    json!({"object": "list", "data": data, "has_more": has_more}).to_string()
}

fn declined() -> Value {
    let error = json!({"type": "card_error", "code": "card_declined", "decline_code": "lost_card"});
    changed(intent("requires_payment_method"), "/last_payment_error", error)
}

async fn look(gateway: &Fixed, sent: &Sent) -> Result<Option<Outcome>, CallError> {
    gateway.gateway.look_up(sent, Call::Payment(&payment(500, "pm_card_visa"))).await
}

#[expect(clippy::unnecessary_wraps, reason = "what a look returns")]
fn ended(end: End) -> Result<Option<Outcome>, CallError> {
    Ok(Some(Outcome { gateway_id: Some("pi_1".to_owned()), end }))
}

fn pending() -> Result<Option<Outcome>, CallError> {
    Err(CallError::Pending { id: "pi_1".to_owned() })
}

#[tokio::test]
async fn a_list_is_read_for_this_reference_only_and_a_success_in_it_counts() {
    let another = changed(intent("succeeded"), "/metadata/reference", "another");
    // An object that somebody else created, as Stripe types it.
    let without_metadata = changed(intent("succeeded"), "/metadata", Value::Null);
    let lost = End::Declined { decline_code: "lost_card".to_owned() };
    for (data, found) in [
        (vec![], Ok(None)),
        (vec![another], Ok(None)),
        (vec![without_metadata.clone()], Ok(None)),
        (vec![without_metadata, intent("succeeded")], ended(End::Succeeded)),
        (vec![declined()], ended(lost)),
        (vec![intent("canceled")], Err(CallError::NoAnswer { reason: String::new() })),
        (vec![intent("processing")], pending()),
        (vec![intent("requires_payment_method")], pending()),
        (vec![declined(), intent("succeeded")], ended(End::Succeeded)),
        (vec![declined(), intent("processing")], pending()),
        (vec![intent("succeeded"), intent("succeeded")], ended(End::Succeeded)),
    ] {
        // Stripe has this member in every PaymentIntent.
        let data: Vec<_> = data
            .into_iter()
            .map(|mut o| {
                o["cancellation_reason"] = "abandoned".into();
                o
            })
            .collect();
        let found = match found {
            Err(CallError::NoAnswer { .. }) => ended(End::Failed { code: Some("abandoned".to_owned()) }),
            found => found,
        };
        assert_eq!(look(&Fixed::start(200, page(&data, false)), &sent("ours")).await, found, "{data:?}");
    }
}

#[tokio::test]
async fn a_list_that_is_not_complete_is_unknown_and_never_not_there() {
    for (status, body) in [
        (200, page(&[intent("succeeded")], true).replace("ours", "another")),
        (200, page(&[], true)),
        (200, "[]".to_owned()),
        (200, json!({"data": []}).to_string()),
        (400, json!({"error": {"type": "invalid_request_error", "code": "x"}}).to_string()),
    ] {
        let gateway = Fixed::start(status, body.clone());
        let found = look(&gateway, &sent("ours")).await;
        assert!(matches!(found, Err(CallError::NoAnswer { .. })), "{body:.80}: {found:?}");
        // No look goes on for ever.
        assert!(gateway.calls.load(Ordering::SeqCst) <= 40);
    }
}

#[tokio::test]
async fn the_window_is_five_minutes_wider_than_the_sendings() {
    let gateway = Fixed::start(200, page(&[], false));
    let at = |seconds| DateTime::<Utc>::from_timestamp(seconds, 0).unwrap();
    let sent = Sent { since: at(1_000_000), until: at(1_000_100), ..sent("ours") };

    assert_eq!(look(&gateway, &sent).await, Ok(None));

    let asked = gateway.last.lock().unwrap().clone();
    for part in ["limit=100", "created%5Bgte%5D=999700", "created%5Blte%5D=1000400"] {
        assert!(asked.contains(part), "{part} is not in {asked}");
    }
}

#[tokio::test]
async fn a_refund_is_looked_up_among_those_of_its_payment() {
    let refund = |status: &str| {
        json!({
            "id": "re_1", "object": "refund", "amount": 500, "currency": "eur", "status": status, "payment_intent": "pi_9",
            "metadata": {"reference": "ours"}, "failure_reason": "lost_or_stolen_card",
        })
    };
    let call =
        Refund { account_id: Uuid::nil(), payment_intent: "pi_9".to_owned(), amount: 500, currency: "EUR".to_owned() };
    let failed = End::Failed { code: Some("lost_or_stolen_card".to_owned()) };
    for (status, end) in [("succeeded", End::Succeeded), ("failed", failed.clone()), ("canceled", failed)] {
        let gateway = Fixed::start(200, page(&[refund(status)], false));
        let found = gateway.gateway.look_up(&sent("ours"), Call::Refund(&call)).await;
        assert_eq!(found, Ok(Some(Outcome { gateway_id: Some("re_1".to_owned()), end })), "{status}");
        let asked = gateway.last.lock().unwrap().clone();
        assert!(asked.contains("/v1/refunds") && asked.contains("payment_intent=pi_9"), "{asked}");
    }
    for status in ["pending", "requires_action"] {
        let found = Fixed::start(200, refund(status).to_string()).gateway.send("ours", Call::Refund(&call)).await;
        assert_eq!(found, Err(CallError::Pending { id: "re_1".to_owned() }));
    }
    let of_another = changed(refund("succeeded"), "/payment_intent", "pi_8");
    let found = Fixed::start(200, of_another.to_string()).gateway.send("ours", Call::Refund(&call)).await;
    assert!(matches!(found, Err(CallError::NoAnswer { .. })), "{found:?}");
}

#[tokio::test]
async fn a_known_object_is_read_by_its_id() {
    let known = || Sent { outside_id: Some("pi_1".to_owned()), ..sent("ours") };
    let gateway = Fixed::start(200, intent("succeeded").to_string());
    assert_eq!(look(&gateway, &known()).await, ended(End::Succeeded));
    assert!(gateway.last.lock().unwrap().contains("/v1/payment_intents/pi_1"));
    assert_eq!(look(&Fixed::start(200, intent("processing").to_string()), &known()).await, pending());
    for wrong in [changed(intent("succeeded"), "/id", "pi_2"), changed(intent("succeeded"), "/amount", 1)] {
        let found = look(&Fixed::start(200, wrong.to_string()), &known()).await;
        assert!(matches!(found, Err(CallError::NoAnswer { .. })), "{found:?}");
    }
    let gone = look(&Fixed::start(404, "{}"), &known()).await;
    assert_eq!(gone, Err(CallError::Later { status: 404, retry_after: None }));
}

/// For example, a key was used, the database was restored to an earlier time, and the key was used again for another
/// amount.
#[tokio::test]
async fn books_with_another_amount_for_the_reference_give_no_outcome_after_one_look() {
    for object in [intent("succeeded"), declined(), intent("processing")] {
        for other in [changed(object.clone(), "/amount", 501), changed(object, "/currency", "usd")] {
            let gateway = Fixed::start(200, page(std::slice::from_ref(&other), false));
            let found = look(&gateway, &sent("ours")).await;
            assert!(matches!(found, Err(CallError::NoAnswer { .. })), "{other}: {found:?}");
            assert_eq!(gateway.calls.load(Ordering::SeqCst), 1, "{other}");
        }
    }
}
