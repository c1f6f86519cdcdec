//! PaymentIntents and refunds: created, looked up and listed.

use stripe_shared::{ApiErrorsCode, PaymentIntent, PaymentIntentStatus, Refund};
use stripe_types::{Currency, Expandable, List};

use crate::sandbox::{Sandbox, payment};

#[tokio::test]
async fn a_payment_intent_that_succeeded() {
    let sandbox = Sandbox::start();
    let paid: PaymentIntent = sandbox.pay("pm_card_visa", 200).await;

    assert_eq!((paid.amount, paid.amount_received, paid.currency), (500, 500, Currency::EUR));
    assert_eq!((paid.status, paid.livemode), (PaymentIntentStatus::Succeeded, false));
    assert_eq!(paid.metadata.get("reference").map(String::as_str), Some("ours"));
    assert_eq!(paid.payment_method_types, ["card"]);
    assert!(matches!(paid.payment_method, Some(Expandable::Id(method)) if method.as_str().starts_with("pm_")));
    assert!(matches!(paid.latest_charge, Some(Expandable::Id(charge)) if charge.as_str().starts_with("ch_")));

    let found: PaymentIntent = sandbox.get(&format!("/v1/payment_intents/{}", paid.id), 200).await;
    assert_eq!((found.id, found.status), (paid.id, PaymentIntentStatus::Succeeded));
}

#[tokio::test]
async fn a_payment_intent_that_was_declined() {
    let sandbox = Sandbox::start();
    let _: stripe_shared::Error = sandbox.pay("pm_card_visa_chargeDeclined", 402).await;

    let listed: List<PaymentIntent> = sandbox.get("/v1/payment_intents?limit=1", 200).await;
    let declined: PaymentIntent = sandbox.get(&format!("/v1/payment_intents/{}", listed.data[0].id), 200).await;
    assert_eq!((declined.status, declined.amount_received), (PaymentIntentStatus::RequiresPaymentMethod, 0));
    assert!(declined.payment_method.is_none());
    let error = declined.last_payment_error.unwrap();
    assert_eq!(
        (error.code, error.decline_code.as_deref()),
        (Some(ApiErrorsCode::CardDeclined), Some("generic_decline"))
    );
    assert_eq!(error.payment_method.unwrap().card.unwrap().last4, "4242");
}

#[tokio::test]
async fn a_payment_intent_that_asks_the_customer() {
    let sandbox = Sandbox::start();
    let mut form = payment("pm_card_threeDSecure2Required");
    form[4].1 = "false";
    let asks: PaymentIntent = sandbox.post("/v1/payment_intents", &form, 200).await;
    assert_eq!(asks.status, PaymentIntentStatus::RequiresAction);
    assert_eq!(asks.next_action.unwrap().type_, "redirect_to_url");
}

#[tokio::test]
async fn a_payment_intent_that_somebody_canceled() {
    let sandbox = Sandbox::start();
    let id = sandbox.paid("pm_card_visa").await;
    // The payments API cancels none. At Stripe, a person does so in the Dashboard.
    test_database::execute(&sandbox.database, "UPDATE sandbox.payment_intents SET status = 'canceled'");
    let canceled: PaymentIntent = sandbox.get(&format!("/v1/payment_intents/{id}"), 200).await;
    assert_eq!((canceled.status, canceled.amount_received), (PaymentIntentStatus::Canceled, 0));
    assert!(canceled.canceled_at.is_some() && canceled.latest_charge.is_none());
}

#[tokio::test]
async fn refunds_that_succeeded_are_pending_and_have_failed() {
    let sandbox = Sandbox::start();
    for (card, at_first, later) in [
        ("pm_card_visa", "succeeded", "succeeded"),
        ("pm_card_pendingRefund", "pending", "succeeded"),
        ("pm_card_refundFail", "succeeded", "failed"),
    ] {
        let intent = sandbox.paid(card).await;
        let form = [("payment_intent", intent.as_str()), ("amount", "200"), ("metadata[reference]", "ours")];
        let refund: Refund = sandbox.post("/v1/refunds", &form, 200).await;
        assert_eq!((refund.amount, &refund.currency, refund.status.as_deref()), (200, &Currency::EUR, Some(at_first)));
        assert!(matches!(&refund.payment_intent, Some(Expandable::Id(of)) if of.as_str() == intent));
        assert_eq!(refund.failure_reason, None);

        // What happens at the bank within two seconds.
        test_database::execute(
            &sandbox.database,
            "UPDATE sandbox.refunds SET changes_at = now() - interval '1 second' WHERE changes_at IS NOT NULL",
        );
        let refund: Refund = sandbox.get(&format!("/v1/refunds/{}", refund.id), 200).await;
        assert_eq!(refund.status.as_deref(), Some(later), "{card}");
        assert_eq!(refund.failure_reason.is_some(), later == "failed", "{card}");
    }
}

#[tokio::test]
async fn lists_have_pages() {
    let sandbox = Sandbox::start();
    let intent = sandbox.paid("pm_card_visa").await;
    let other = sandbox.paid("pm_card_mastercard").await;
    for amount in ["1", "2", "3"] {
        let _: Refund = sandbox.post("/v1/refunds", &[("payment_intent", &intent), ("amount", amount)], 200).await;
    }
    let newest: List<PaymentIntent> = sandbox.get("/v1/payment_intents?limit=1", 200).await;
    assert_eq!(
        (newest.data[0].id.as_str(), newest.has_more, newest.url.as_str()),
        (&*other, true, "/v1/payment_intents")
    );
    let path = format!("/v1/payment_intents?limit=1&starting_after={other}");
    let oldest: List<PaymentIntent> = sandbox.get(&path, 200).await;
    assert_eq!((oldest.data[0].id.as_str(), oldest.has_more), (&*intent, false));

    let refunds: List<Refund> = sandbox.get(&format!("/v1/refunds?payment_intent={intent}&limit=2"), 200).await;
    let amounts: Vec<_> = refunds.data.iter().map(|refund| refund.amount).collect();
    assert_eq!((amounts, refunds.has_more, refunds.url.as_str()), (vec![3, 2], true, "/v1/refunds"));
}
