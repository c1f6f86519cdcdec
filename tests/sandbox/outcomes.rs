//! `external_calls::find_outcome` with the HTTP client against a real sandbox.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use external_calls::{CallError, StillUnknown};
use idempotent_payments::gateway::{Call, Capture, Gateway, HttpGateway, Outcome, PAYMENT_METHODS, Refund};

use crate::{DAY, Sandbox, find_outcome, fresh_reference};

fn capture(reference: &str, payment_method: &str) -> Call {
    Call::Capture(Capture {
        reference: reference.to_owned(),
        amount: 4900,
        currency: "EUR".to_owned(),
        payment_method: payment_method.to_owned(),
    })
}

fn refund(capture: &str, amount: i64) -> Call {
    Call::Refund(Refund {
        reference: fresh_reference(),
        capture: capture.to_owned(),
        amount,
        currency: "EUR".to_owned(),
    })
}

fn declined(code: &str) -> Outcome {
    Outcome::Declined { decline_code: code.to_owned() }
}

#[tokio::test]
async fn each_method_that_answers_is_known_at_once() {
    let sandbox = Sandbox::start();
    let gateway = HttpGateway::new(&sandbox.url()).unwrap();
    for (payment_method, outcome, in_the_book) in [
        ("pm_card_visa", Outcome::Succeeded, "succeeded"),
        ("pm_card_slow", Outcome::Succeeded, "succeeded"),
        ("pm_card_gateway_error", Outcome::Succeeded, "succeeded"),
        ("pm_card_visa_chargeDeclined", declined("card_declined"), "card_declined"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", declined("insufficient_funds"), "insufficient_funds"),
        ("pm_card_sticky_error", Outcome::Failed, "error"),
    ] {
        let reference = fresh_reference();
        let call = capture(&reference, payment_method);
        assert_eq!(gateway.find(&call).await, Ok(None), "{payment_method}");
        for look_first in [false, false, true] {
            assert_eq!(find_outcome(&gateway, &call, look_first).await, Ok(outcome.clone()), "{payment_method}");
        }
        assert_eq!(gateway.find(&call).await, Ok(Some(outcome)), "{payment_method}");
        assert_eq!(sandbox.captured_outcomes(&reference).await, [in_the_book], "{payment_method}");
    }
}

#[tokio::test]
async fn a_lost_reply_is_unknown_after_one_call_and_known_by_the_next() {
    let sandbox = Sandbox::start();
    let gateway = HttpGateway::new(&sandbox.url()).unwrap();
    let reference = fresh_reference();
    let call = capture(&reference, "pm_card_lost_reply");

    let begun = Instant::now();
    let first = find_outcome(&gateway, &call, false).await;
    assert!(matches!(first, Err(StillUnknown { error: CallError::NoAnswer { .. }, .. })), "{first:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "the call was repeated after no answer: {:?}", begun.elapsed());

    assert_eq!(find_outcome(&gateway, &call, false).await, Ok(Outcome::Succeeded));
    assert_eq!(sandbox.captured_outcomes(&reference).await, ["succeeded"]);
}

#[tokio::test]
async fn after_the_gateway_forgot_the_key_a_look_prevents_a_second_capture() {
    // The worst gateway: it forgets each key at once.
    let sandbox = Sandbox::start_with(Duration::ZERO, "127.0.0.1:0".parse().unwrap());
    let gateway = HttpGateway::new(&sandbox.url()).unwrap();
    let reference = fresh_reference();
    let call = capture(&reference, "pm_card_visa");

    assert_eq!(
        find_outcome(&gateway, &call, true).await,
        Ok(Outcome::Succeeded),
        "the book has no capture, so the call is sent"
    );
    assert_eq!(find_outcome(&gateway, &call, true).await, Ok(Outcome::Succeeded));
    assert_eq!(sandbox.captured_outcomes(&reference).await, ["succeeded"]);

    // Without a look, the second capture happens.
    assert_eq!(find_outcome(&gateway, &call, false).await, Ok(Outcome::Succeeded));
    assert_eq!(sandbox.captured_outcomes(&reference).await, ["succeeded", "succeeded"]);
}

#[tokio::test]
async fn a_call_that_overlaps_is_unknown_and_not_refused() {
    let sandbox = Sandbox::start();
    let gateway = HttpGateway::new(&sandbox.url()).unwrap();
    let reference = fresh_reference();
    let call = capture(&reference, "pm_card_slow");

    let (slow, overlapping) = tokio::join!(find_outcome(&gateway, &call, false), async {
        sandbox.until_captured(&reference).await;
        find_outcome(&gateway, &call, false).await
    });
    assert_eq!(slow, Ok(Outcome::Succeeded));
    assert_eq!(
        overlapping,
        Err(StillUnknown { error: CallError::Later { status: 409, retry_after: None }, unanswered: true })
    );
}

#[tokio::test]
async fn a_gateway_that_is_down_is_unknown_at_once() {
    // This port was free a moment ago, so nobody listens on it.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = HttpGateway::new(&format!("http://{free}/")).unwrap();
    for look_first in [false, true] {
        let begun = Instant::now();
        let found = find_outcome(&gateway, &capture(&fresh_reference(), "pm_card_visa"), look_first).await;
        assert!(matches!(found, Err(StillUnknown { error: CallError::NoAnswer { .. }, .. })), "{found:?}");
        assert!(begun.elapsed() < Duration::from_secs(1));
    }
}

#[tokio::test]
async fn a_capture_begun_while_the_gateway_was_down_succeeds_once_it_is_up() {
    let sandbox = Sandbox::start();
    let (url, addr) = (sandbox.url(), sandbox.addr);
    let gateway = HttpGateway::new(&url).unwrap();
    let (before, during) = (fresh_reference(), fresh_reference());
    assert_eq!(find_outcome(&gateway, &capture(&before, "pm_card_visa"), false).await, Ok(Outcome::Succeeded));
    sandbox.kill().await;
    assert!(find_outcome(&gateway, &capture(&during, "pm_card_visa"), false).await.is_err());

    let sandbox = Sandbox::start_with(DAY, addr);
    for reference in [&before, &during] {
        assert_eq!(find_outcome(&gateway, &capture(reference, "pm_card_visa"), false).await, Ok(Outcome::Succeeded));
        assert_eq!(sandbox.captured_outcomes(reference).await, ["succeeded"]);
    }
}

#[tokio::test]
async fn a_refund_is_found_and_a_refund_above_the_rest_has_failed() {
    let sandbox = Sandbox::start();
    let gateway = HttpGateway::new(&sandbox.url()).unwrap();
    let captured = fresh_reference();
    find_outcome(&gateway, &capture(&captured, "pm_card_visa"), false).await.unwrap();

    let part = refund(&captured, 4000);
    for look_first in [false, true, false] {
        assert_eq!(find_outcome(&gateway, &part, look_first).await, Ok(Outcome::Succeeded));
    }
    assert_eq!(gateway.find(&part).await, Ok(Some(Outcome::Succeeded)));
    assert_eq!(sandbox.book("/refunds", part.reference()).await.len(), 1);

    assert_eq!(find_outcome(&gateway, &refund(&captured, 901), false).await, Ok(Outcome::Failed));
    assert_eq!(find_outcome(&gateway, &refund(&fresh_reference(), 1), false).await, Ok(Outcome::Failed));
}

/// For example the database was restored from before the first capture, and the key was used for another order.
#[tokio::test]
async fn a_reference_used_again_for_another_amount_is_unknown_and_moves_no_money() {
    let sandbox = Sandbox::start();
    let gateway = HttpGateway::new(&sandbox.url()).unwrap();
    let reference = fresh_reference();
    let first = capture(&reference, "pm_card_visa");
    find_outcome(&gateway, &first, false).await.unwrap();
    let Call::Capture(first) = first else { unreachable!() };
    let another = Call::Capture(Capture { amount: first.amount + 1, ..first });

    for look_first in [false, true] {
        let found = find_outcome(&gateway, &another, look_first).await;
        assert!(matches!(found, Err(StillUnknown { error: CallError::NoAnswer { .. }, .. })), "{found:?}");
    }
    assert_eq!(sandbox.captured_outcomes(&reference).await, ["succeeded"]);
}

#[tokio::test]
async fn the_client_and_the_sandbox_know_the_same_payment_methods() {
    let sandbox = Sandbox::start();
    let gateway = HttpGateway::new(&sandbox.url()).unwrap();
    let refused = sandbox.capture(&fresh_reference(), 1, "pm_card_unknown").await;
    for payment_method in PAYMENT_METHODS {
        assert!(gateway.accepts(payment_method));
        assert!(
            refused.body.contains(payment_method),
            "the sandbox names the methods that it accepts: {}",
            refused.body
        );
    }
    assert_eq!(refused.body.matches("pm_card_").count(), PAYMENT_METHODS.len() + 1);
    assert!(!gateway.accepts("pm_card_unknown"));
}
