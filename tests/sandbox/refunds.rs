//! Refunds at the sandbox gateway.

use futures_util::future::join_all;

use crate::{Sandbox, fresh_reference};

#[tokio::test]
async fn refunds_never_exceed_the_payment_and_their_refusals_are_stored() {
    let sandbox = Sandbox::start();
    let intent = sandbox.paid(1000).await;
    let (part, rest, over, more) = (fresh_reference(), fresh_reference(), fresh_reference(), fresh_reference());

    let first = sandbox.refund(&part, &intent, 400).await;
    assert_eq!(
        (first.status, &first.json()["status"], &first.json()["currency"]),
        (200, &"succeeded".into(), &"eur".into())
    );
    assert_eq!(first.json()["payment_intent"], intent);
    let refused = sandbox.refund(&over, &intent, 601).await;
    assert_eq!((refused.status, refused.error().0.as_str()), (400, "invalid_request_error"));
    assert_eq!(sandbox.refund(&rest, &intent, 600).await.status, 200);
    let refunded = sandbox.refund(&more, &intent, 1).await;
    assert_eq!(refunded.error().1.as_deref(), Some("charge_already_refunded"));

    let replay = sandbox.refund(&part, &intent, 400).await;
    assert_eq!(
        (&replay, replay.header("Idempotent-Replayed")),
        (&first, Some("true")),
        "a replay makes no further refund"
    );
    let again = sandbox.refund(&over, &intent, 601).await;
    assert_eq!((&again, again.header("Idempotent-Replayed")), (&refused, Some("true")));
    assert_eq!(sandbox.book("/v1/refunds", &part).await, [first.json()]);
    assert_eq!(sandbox.get(&format!("/v1/refunds/{}", first.id())).await.json(), first.json());
    assert!(sandbox.book("/v1/refunds", &over).await.is_empty());
}

#[tokio::test]
async fn refunds_at_once_never_exceed_the_payment() {
    let sandboxes = [Sandbox::start(), Sandbox::start()];
    let intent = sandboxes[0].paid(1000).await;

    let references: Vec<String> = (0..20).map(|_| fresh_reference()).collect();
    let calls = references.iter().enumerate().map(|(n, reference)| sandboxes[n % 2].refund(reference, &intent, 100));
    let answers = join_all(calls).await;

    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 10);
    assert_eq!(answers.iter().filter(|answer| answer.status == 400).count(), 10);
}

#[tokio::test]
async fn only_a_payment_that_succeeded_is_refunded() {
    let sandbox = Sandbox::start();
    let reference = fresh_reference();
    let unknown = sandbox.refund(&reference, "pi_unknown", 1).await;
    assert_eq!((unknown.status, unknown.error().1.as_deref()), (400, Some("resource_missing")));
    let declined = sandbox.pay(&fresh_reference(), 500, "pm_card_visa_chargeDeclined").await;
    let intent = declined.json()["error"]["payment_intent"]["id"].as_str().unwrap().to_owned();
    assert_eq!(sandbox.refund(&fresh_reference(), &intent, 1).await.status, 400);

    // Nothing was stored for the unknown payment, so the same key can refund another one.
    assert_eq!(sandbox.refund(&reference, &sandbox.paid(500).await, 500).await.status, 200);
}

#[tokio::test]
async fn late_refunds_change_their_status_a_moment_later() {
    let sandbox = Sandbox::start();
    for (card, at_first, later) in
        [("pm_card_pendingRefund", "pending", "succeeded"), ("pm_card_refundFail", "succeeded", "failed")]
    {
        let intent = sandbox.pay(&fresh_reference(), 500, card).await.id();
        let refund = sandbox.refund(&fresh_reference(), &intent, 500).await;
        assert_eq!(refund.json()["status"], at_first, "{card}");
        let path = format!("/v1/refunds/{}", refund.id());
        crate::until("the status changes", async || sandbox.get(&path).await.json()["status"] == later).await;
        // After a failed refund, the money can still be refunded.
        assert_eq!(sandbox.refund(&fresh_reference(), &intent, 500).await.status == 200, later == "failed", "{card}");
    }
}
