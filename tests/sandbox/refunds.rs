//! Refunds at the sandbox gateway.

use futures_util::future::join_all;

use crate::{Sandbox, fresh_reference};

#[tokio::test]
async fn refunds_never_exceed_the_captured_amount() {
    let sandbox = Sandbox::start();
    let (capture, part, rest, over) = (fresh_reference(), fresh_reference(), fresh_reference(), fresh_reference());
    sandbox.capture(&capture, 1000, "pm_card_visa").await;

    let first = sandbox.refund(&part, &capture, 400).await;
    assert_eq!(first.status, 201);
    assert_eq!(first.json()["currency"], "EUR");
    assert_eq!(sandbox.refund(&over, &capture, 601).await.status, 422);
    assert_eq!(sandbox.refund(&rest, &capture, 600).await.status, 201);
    assert_eq!(sandbox.refund(&over, &capture, 1).await.status, 422);

    assert_eq!(sandbox.refund(&part, &capture, 400).await, first, "a replay makes no further refund");
    assert_eq!(sandbox.book("/refunds", &part).await, [first.json()]);
    assert_eq!(sandbox.book("/refunds", &rest).await[0]["amount"], 600);
    assert!(sandbox.book("/refunds", &over).await.is_empty());
}

#[tokio::test]
async fn refunds_at_once_never_exceed_the_capture() {
    let sandboxes = [Sandbox::start(), Sandbox::start()];
    let capture = fresh_reference();
    sandboxes[0].capture(&capture, 1000, "pm_card_visa").await;

    let references: Vec<String> = (0..20).map(|_| fresh_reference()).collect();
    let calls = references.iter().enumerate().map(|(n, reference)| sandboxes[n % 2].refund(reference, &capture, 100));
    let answers = join_all(calls).await;

    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 10);
    assert_eq!(answers.iter().filter(|answer| answer.status == 422).count(), 10);
}

#[tokio::test]
async fn only_a_capture_that_succeeded_is_refunded() {
    let sandbox = Sandbox::start();
    let reference = fresh_reference();
    assert_eq!(sandbox.refund(&reference, &fresh_reference(), 1).await.status, 422);
    for payment_method in
        ["pm_card_visa_chargeDeclined", "pm_card_visa_chargeDeclinedInsufficientFunds", "pm_card_sticky_error", "pm_card_gateway_error"]
    {
        let capture = fresh_reference();
        sandbox.capture(&capture, 500, payment_method).await;
        assert_eq!(sandbox.refund(&reference, &capture, 1).await.status, 422, "{payment_method}");
    }

    // The refusals are not stored: the same key can refund another capture.
    let capture = fresh_reference();
    sandbox.capture(&capture, 500, "pm_card_visa").await;
    assert_eq!(sandbox.refund(&reference, &capture, 500).await.status, 201);
}

#[tokio::test]
async fn captures_of_slow_and_lost_calls_are_refunded_at_once() {
    let sandbox = Sandbox::start();
    let (slow, lost) = (fresh_reference(), fresh_reference());
    let unanswered = sandbox.capture(&lost, 500, "pm_card_lost_reply");
    let (answered, ()) = tokio::join!(sandbox.capture(&slow, 500, "pm_card_slow"), async {
        tokio::select! {
            answer = unanswered => panic!("a lost reply arrived: {answer:?}"),
            () = sandbox.until_captured(&lost) => {}
        }
    });
    assert_eq!(answered.status, 201);
    for capture in [slow, lost] {
        let begun = std::time::Instant::now();
        assert_eq!(sandbox.refund(&fresh_reference(), &capture, 500).await.status, 201);
        assert!(begun.elapsed().as_secs() < 2);
    }
}
