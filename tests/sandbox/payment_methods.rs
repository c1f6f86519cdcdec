//! Each payment method of the sandbox.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{Sandbox, capture_body, fresh_reference};

#[tokio::test]
async fn visa_captures_once_and_replays_the_same_bytes() {
    let sandbox = Sandbox::start();
    let reference = fresh_reference();

    let first = sandbox.capture(&reference, 4900, "pm_card_visa").await;
    let second = sandbox.capture(&reference, 4900, "pm_card_visa").await;

    assert_eq!(first.status, 201);
    assert_eq!(first, second);
    let book = sandbox.book("/captures", &reference).await;
    assert_eq!(book, [first.json()], "the answer is the book's line");
    assert_eq!(book[0]["reference"], *reference);
    assert_eq!(book[0]["amount"], 4900);
    assert_eq!(book[0]["currency"], "EUR");
    assert_eq!(book[0]["outcome"], "succeeded");
    assert!(book[0]["created_at"].as_str().unwrap().ends_with('Z'), "times are UTC");
}

#[tokio::test]
async fn declines_are_402_written_down_once_and_replayed() {
    let sandbox = Sandbox::start();
    for (payment_method, code) in
        [("pm_card_visa_chargeDeclined", "card_declined"), ("pm_card_visa_chargeDeclinedInsufficientFunds", "insufficient_funds")]
    {
        let reference = fresh_reference();
        let first = sandbox.capture(&reference, 500, payment_method).await;
        let second = sandbox.capture(&reference, 500, payment_method).await;

        assert_eq!(first.status, 402);
        assert_eq!(first.json()["outcome"], code);
        assert_eq!(first, second);
        assert_eq!(sandbox.captured_outcomes(&reference).await, [code]);
    }
}

#[tokio::test]
async fn slow_answers_after_three_seconds_and_a_call_that_overlaps_it_gets_409() {
    let sandbox = Arc::new(Sandbox::start());
    let reference = fresh_reference();
    let begun = Instant::now();
    let slow = tokio::spawn({
        let (sandbox, reference) = (sandbox.clone(), reference.clone());
        async move { sandbox.capture(&reference, 500, "pm_card_slow").await }
    });
    sandbox.until_captured(&reference).await;

    assert_eq!(sandbox.capture(&reference, 500, "pm_card_slow").await.status, 409);
    let slow = slow.await.unwrap();
    assert_eq!(slow.status, 201);
    assert!(begun.elapsed() >= Duration::from_secs(3));

    let replayed_at = Instant::now();
    assert_eq!(sandbox.capture(&reference, 500, "pm_card_slow").await, slow);
    assert!(replayed_at.elapsed() < Duration::from_secs(2), "a stored answer comes at once");
    assert_eq!(sandbox.captured_outcomes(&reference).await, ["succeeded"]);
}

#[tokio::test]
async fn lost_reply_captures_never_answers_the_first_call_and_replays_to_the_second() {
    let sandbox = Arc::new(Sandbox::start());
    let reference = fresh_reference();
    let first = tokio::spawn({
        let (sandbox, reference) = (sandbox.clone(), reference.clone());
        async move { sandbox.capture(&reference, 500, "pm_card_lost_reply").await }
    });
    sandbox.until_captured(&reference).await;

    // The first call's connection stays open, but its answer is lost, so the call has ended and overlaps nothing. If the second
    // call arrives between the first call's commit and its end, the calls still overlap.
    let mut second = sandbox.capture(&reference, 500, "pm_card_lost_reply").await;
    crate::until("the first call has ended", async || {
        second = sandbox.capture(&reference, 500, "pm_card_lost_reply").await;
        second.status != 409
    })
    .await;

    assert_eq!(second.status, 201);
    assert!(!first.is_finished(), "the first call never gets an answer");
    first.abort();
    assert_eq!(sandbox.captured_outcomes(&reference).await, ["succeeded"]);
}

#[tokio::test]
async fn gateway_error_fails_two_calls_without_a_trace_across_a_restart_then_captures() {
    let sandbox = Sandbox::start();
    let reference = fresh_reference();

    assert_eq!(sandbox.capture(&reference, 500, "pm_card_gateway_error").await.status, 500);
    assert!(sandbox.captured_outcomes(&reference).await.is_empty());
    sandbox.kill().await;

    let sandbox = Sandbox::start();
    assert_eq!(sandbox.capture(&reference, 500, "pm_card_gateway_error").await.status, 500);
    assert!(sandbox.captured_outcomes(&reference).await.is_empty());

    let third = sandbox.capture(&reference, 500, "pm_card_gateway_error").await;
    assert_eq!(third.status, 201);
    assert_eq!(sandbox.capture(&reference, 500, "pm_card_gateway_error").await, third);
    assert_eq!(sandbox.captured_outcomes(&reference).await, ["succeeded"]);
}

#[tokio::test]
async fn sticky_error_replays_its_stored_500_and_captures_nothing() {
    let sandbox = Sandbox::start();
    let reference = fresh_reference();

    let first = sandbox.capture(&reference, 500, "pm_card_sticky_error").await;
    assert_eq!(first.status, 500);
    for _ in 0..3 {
        assert_eq!(sandbox.capture(&reference, 500, "pm_card_sticky_error").await, first);
    }
    assert_eq!(sandbox.captured_outcomes(&reference).await, ["error"]);
}

#[tokio::test]
async fn a_call_whose_client_has_left_no_longer_overlaps() {
    let sandbox = Sandbox::start();
    let reference = fresh_reference();
    let impatient = reqwest::Client::builder().timeout(Duration::from_millis(500)).build().unwrap();
    let request = impatient
        .post(format!("{}/captures", sandbox.url()))
        .header("Idempotency-Key", &reference)
        .json(&capture_body(&reference, 500, "pm_card_slow"));
    let begun = Instant::now();
    assert!(request.send().await.unwrap_err().is_timeout());

    let mut second = sandbox.capture(&reference, 500, "pm_card_slow").await;
    crate::until("the call has ended", async || {
        second = sandbox.capture(&reference, 500, "pm_card_slow").await;
        second.status != 409
    })
    .await;
    assert_eq!(second.status, 201);
    assert!(begun.elapsed() < Duration::from_secs(2), "the key is free before the slow call's three seconds are over");
    assert_eq!(sandbox.captured_outcomes(&reference).await, ["succeeded"]);
}

#[tokio::test]
async fn with_calls_held_open_a_graceful_stop_is_quick_and_a_restart_answers_the_calls() {
    let sandbox = Arc::new(Sandbox::start());
    let references = [fresh_reference(), fresh_reference()];
    for (reference, payment_method) in references.iter().zip(["pm_card_lost_reply", "pm_card_slow"]) {
        let (held, reference) = (sandbox.clone(), reference.clone());
        tokio::spawn(async move {
            held.try_post("/captures", &reference, &capture_body(&reference, 500, payment_method)).await
        });
    }
    for reference in &references {
        sandbox.until_captured(reference).await;
    }

    let begun = Instant::now();
    sandbox.handle.stop(true).await;
    assert!(begun.elapsed() < Duration::from_millis(2900), "stopping took {:?}", begun.elapsed());

    let restarted = Sandbox::start();
    for (reference, payment_method) in references.iter().zip(["pm_card_lost_reply", "pm_card_slow"]) {
        assert_eq!(restarted.capture(reference, 500, payment_method).await.status, 201);
        assert_eq!(restarted.captured_outcomes(reference).await, ["succeeded"]);
    }
}
