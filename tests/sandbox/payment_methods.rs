//! Each payment method of the sandbox.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{Sandbox, fresh_reference, payment_form};

#[tokio::test]
async fn visa_pays_once_and_replays_the_same_bytes() {
    let sandbox = Sandbox::start();
    let reference = fresh_reference();

    let first = sandbox.pay(&reference, 4900, "pm_card_visa").await;
    let second = sandbox.pay(&reference, 4900, "pm_card_visa").await;

    assert_eq!(first.status, 200);
    assert_eq!(first, second);
    assert_eq!((first.header("Idempotent-Replayed"), second.header("Idempotent-Replayed")), (None, Some("true")));
    assert_eq!(first.header("Idempotency-Key"), Some(reference.as_str()));
    let intent = first.json();
    assert_eq!(
        sandbox.book("/v1/payment_intents", &reference).await,
        std::slice::from_ref(&intent),
        "the answer is the object"
    );
    assert_eq!(sandbox.get(&format!("/v1/payment_intents/{}", first.id())).await.json(), intent);
    assert_eq!((&intent["object"], &intent["status"]), (&"payment_intent".into(), &"succeeded".into()));
    assert_eq!(
        (&intent["amount"], &intent["amount_received"], &intent["currency"]),
        (&4900.into(), &4900.into(), &"eur".into())
    );
    assert!(first.id().starts_with("pi_") && intent["latest_charge"].as_str().unwrap().starts_with("ch_"));
    assert!(intent["created"].as_i64().unwrap() > 1_700_000_000);
}

#[tokio::test]
async fn declines_are_402_card_errors_in_the_books_once_and_replayed() {
    let sandbox = Sandbox::start();
    for (payment_method, code, decline_code) in [
        ("pm_card_visa_chargeDeclined", "card_declined", Some("generic_decline")),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "card_declined", Some("insufficient_funds")),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", None),
        ("pm_card_threeDSecure2Required", "authentication_required", Some("authentication_required")),
    ] {
        let reference = fresh_reference();
        let first = sandbox.pay(&reference, 500, payment_method).await;
        let second = sandbox.pay(&reference, 500, payment_method).await;

        assert_eq!((first.status, first.error()), (402, ("card_error".to_owned(), Some(code.to_owned()))));
        let error = &first.json()["error"];
        assert_eq!(error["decline_code"].as_str(), decline_code);
        let intent = &error["payment_intent"];
        assert_eq!(
            (&intent["status"], &intent["last_payment_error"]["code"]),
            (&"requires_payment_method".into(), &code.into())
        );
        assert_eq!(first, second);
        assert_eq!(sandbox.book("/v1/payment_intents", &reference).await, std::slice::from_ref(intent));
    }
}

#[tokio::test]
async fn a_card_that_asks_waits_for_the_customer_if_the_caller_allows_it() {
    let sandbox = Sandbox::start();
    let reference = fresh_reference();
    let form = crate::with(
        &payment_form(&reference, 500, "pm_card_threeDSecure2Required"),
        "error_on_requires_action",
        "false",
    );

    let asked = sandbox.post("/v1/payment_intents", &reference, &form).await;

    assert_eq!((asked.status, &asked.json()["status"]), (200, &"requires_action".into()));
    assert_eq!(asked.json()["next_action"]["type"], "redirect_to_url");
}

#[tokio::test]
async fn slow_answers_after_three_seconds_and_a_call_that_overlaps_it_gets_409() {
    let sandbox = Arc::new(Sandbox::start());
    let reference = fresh_reference();
    let begun = Instant::now();
    let slow = tokio::spawn({
        let (sandbox, reference) = (sandbox.clone(), reference.clone());
        async move { sandbox.pay(&reference, 500, "pm_card_slow").await }
    });
    sandbox.until_paid(&reference).await;

    assert_eq!(sandbox.pay(&reference, 500, "pm_card_slow").await.status, 409);
    let slow = slow.await.unwrap();
    assert_eq!(slow.status, 200);
    assert!(begun.elapsed() >= Duration::from_secs(3));

    let replayed_at = Instant::now();
    assert_eq!(sandbox.pay(&reference, 500, "pm_card_slow").await, slow);
    assert!(replayed_at.elapsed() < Duration::from_secs(2), "a stored answer comes at once");
    assert_eq!(sandbox.statuses(&reference).await, ["succeeded"]);
}

#[tokio::test]
async fn lost_reply_captures_never_answers_the_first_call_and_replays_to_the_second() {
    let sandbox = Arc::new(Sandbox::start());
    let reference = fresh_reference();
    let first = tokio::spawn({
        let (sandbox, reference) = (sandbox.clone(), reference.clone());
        async move { sandbox.pay(&reference, 500, "pm_card_lost_reply").await }
    });
    sandbox.until_paid(&reference).await;

    // The first call's connection stays open, but its answer is lost, so the call has ended and overlaps nothing. A
    // second call that arrives between the first call's commit and its end still overlaps.
    let mut second = sandbox.pay(&reference, 500, "pm_card_lost_reply").await;
    crate::until("the first call has ended", async || {
        second = sandbox.pay(&reference, 500, "pm_card_lost_reply").await;
        second.status != 409
    })
    .await;

    assert_eq!(second.status, 200);
    assert!(!first.is_finished(), "the first call never gets an answer");
    first.abort();
    assert_eq!(sandbox.statuses(&reference).await, ["succeeded"]);
}

#[tokio::test]
async fn gateway_error_fails_two_calls_without_a_trace_across_a_restart_then_captures() {
    let sandbox = Sandbox::start();
    let reference = fresh_reference();

    let failed = sandbox.pay(&reference, 500, "pm_card_gateway_error").await;
    assert_eq!((failed.status, failed.header("Stripe-Should-Retry")), (500, Some("true")));
    assert!(sandbox.statuses(&reference).await.is_empty());
    sandbox.kill().await;

    let sandbox = Sandbox::start();
    assert_eq!(sandbox.pay(&reference, 500, "pm_card_gateway_error").await.status, 500);
    assert!(sandbox.statuses(&reference).await.is_empty());

    let third = sandbox.pay(&reference, 500, "pm_card_gateway_error").await;
    assert_eq!(third.status, 200);
    assert_eq!(sandbox.pay(&reference, 500, "pm_card_gateway_error").await, third);
    assert_eq!(sandbox.statuses(&reference).await, ["succeeded"]);
}

#[tokio::test]
async fn sticky_error_replays_its_stored_500_and_captures_nothing() {
    let sandbox = Sandbox::start();
    let reference = fresh_reference();

    let first = sandbox.pay(&reference, 500, "pm_card_sticky_error").await;
    assert_eq!((first.status, first.header("Stripe-Should-Retry")), (500, Some("false")));
    for _ in 0..3 {
        assert_eq!(sandbox.pay(&reference, 500, "pm_card_sticky_error").await, first);
    }
    assert!(sandbox.statuses(&reference).await.is_empty());
}

#[tokio::test]
async fn a_call_whose_client_has_left_no_longer_overlaps() {
    let sandbox = Sandbox::start();
    let reference = fresh_reference();
    let impatient = reqwest::Client::builder().timeout(Duration::from_millis(500)).build().unwrap();
    let request = impatient
        .post(format!("{}/v1/payment_intents", sandbox.url()))
        .header("Idempotency-Key", &reference)
        .bearer_auth(crate::KEY)
        .form(&payment_form(&reference, 500, "pm_card_slow"));
    let begun = Instant::now();
    assert!(request.send().await.unwrap_err().is_timeout());

    let mut second = sandbox.pay(&reference, 500, "pm_card_slow").await;
    crate::until("the call has ended", async || {
        second = sandbox.pay(&reference, 500, "pm_card_slow").await;
        second.status != 409
    })
    .await;
    assert_eq!(second.status, 200);
    assert!(begun.elapsed() < Duration::from_secs(2), "the key is free before the slow call's three seconds are over");
    assert_eq!(sandbox.statuses(&reference).await, ["succeeded"]);
}

#[tokio::test]
async fn with_calls_held_open_a_graceful_stop_is_quick_and_a_restart_answers_the_calls() {
    let sandbox = Arc::new(Sandbox::start());
    let references = [fresh_reference(), fresh_reference()];
    for (reference, payment_method) in references.iter().zip(["pm_card_lost_reply", "pm_card_slow"]) {
        let (held, reference) = (sandbox.clone(), reference.clone());
        tokio::spawn(async move {
            held.try_post("/v1/payment_intents", &reference, &payment_form(&reference, 500, payment_method)).await
        });
    }
    for reference in &references {
        sandbox.until_paid(reference).await;
    }

    let begun = Instant::now();
    sandbox.handle.stop(true).await;
    assert!(begun.elapsed() < Duration::from_millis(2900), "stopping took {:?}", begun.elapsed());

    let restarted = Sandbox::start();
    for (reference, payment_method) in references.iter().zip(["pm_card_lost_reply", "pm_card_slow"]) {
        assert_eq!(restarted.pay(reference, 500, payment_method).await.status, 200);
        assert_eq!(restarted.statuses(reference).await, ["succeeded"]);
    }
}
