//! Charges and refunds as the gateway sees them: names, units, codes, and answers that are no outcome.

use serde_json::{Value, json};

use crate::app::App;
use crate::scripted::{Does, Scripted};
use crate::support::{eventually, fresh_database};

#[tokio::test]
async fn a_charge_that_meets_a_stored_error_stays_processing_and_is_only_looked_up() {
    let app = App::start().await;
    let order = app.pending_order().await;

    let unknown = app.pay("k", &order, "pm_card_sticky_error").await.expect(202);

    let path = unknown.header("Location").unwrap();
    eventually("the call is looked up again", || app.count("external_calls WHERE looks >= 2") == 1).await;
    assert_eq!(app.count("sandbox.keys WHERE calls = 1 AND status = 500"), 1, "the call was sent again");
    assert_eq!(app.member(path, "processing").await["parked"], false);
    app.pay("another", &order, "pm_card_visa").await.expect_problem(409, "payment-in-progress");
    // The gateway forgets the key, so the call is a new one.
    app.execute(
        "UPDATE sandbox.keys SET expires_at = now(); UPDATE sandbox.keys SET key = 'old' || key; \
         UPDATE external_calls SET created_at = now() - interval '24 hours', unanswered_at = now() - interval '2 hours'",
    );
    app.let_leases_end();
    eventually("the call is sent once more", || app.count("sandbox.keys") == 2).await;
    assert_eq!(app.captures(), 0);
}

#[tokio::test]
async fn a_card_that_asks_for_an_answer_is_declined() {
    let app = App::start().await;
    let order = app.pending_order().await;
    let declined = app.pay("k", &order, "pm_card_threeDSecure2Required").await.expect_problem(402, "card-declined");
    assert_eq!(declined.json()["decline_code"], "authentication_required");
    let expired = app.pay("e", &order, "pm_card_chargeDeclinedExpiredCard").await.expect_problem(402, "card-declined");
    assert_eq!(expired.json()["decline_code"], "expired_card", "this card has no decline_code of the issuer");
}

#[tokio::test]
async fn an_unknown_payment_method_is_a_failed_charge_with_the_gateways_code() {
    let app = App::start().await;
    let order = app.pending_order().await;

    let failed = app.pay("k", &order, "pm_card_unheard_of").await.expect_problem(402, "gateway-failed");

    let problem = failed.json();
    assert_eq!((&problem["failure_code"], &problem["retry"]), (&json!("resource_missing"), &json!("new-key")));
    let charge = format!("/v1/charges/{}", problem["charge_id"].as_str().unwrap());
    let charge = app.get(&charge).await.json();
    assert_eq!((&charge["status"], &charge["failure_code"]), (&json!("failed"), &json!("resource_missing")));
    assert_eq!(charge["gateway_id"], Value::Null);
    assert_eq!(app.pay("k", &order, "pm_card_unheard_of").await.expect(402).body, failed.body);
    app.pay("another", &order, "pm_card_visa").await.expect(201);
}

#[tokio::test]
async fn a_charge_and_its_refund_name_their_objects_at_the_gateway() {
    let app = App::start().await;
    let order = app.pending_order().await;
    let charge = app.pay("k", &order, "pm_card_visa").await.expect(201).json();
    let refund = app.refund("r", charge["id"].as_str().unwrap(), Some(100)).await.expect(201).json();

    let named = |table: &str, resource: &Value| {
        let (id, reference) = (resource["gateway_id"].as_str().unwrap(), resource["reference"].as_str().unwrap());
        app.count(&format!("sandbox.{table} WHERE id = '{id}' AND metadata->>'reference' = '{reference}'"))
    };
    assert_eq!((named("payment_intents", &charge), named("refunds", &refund)), (1, 1));
    let same_account = "sandbox.payment_intents p JOIN charges c ON p.metadata->>'account' = c.account_id::text";
    assert_eq!(app.count(same_account), 1);
    let declined = app.pay("d", &app.pending_order().await, "pm_card_visa_chargeDeclined").await.expect(402).json();
    let path = format!("/v1/charges/{}", declined["charge_id"].as_str().unwrap());
    assert!(app.member(&path, "gateway_id").await.as_str().unwrap().starts_with("pi_"));
}

#[tokio::test]
async fn an_amount_goes_out_in_the_gateways_units_and_comes_back_in_ours() {
    let app = App::start().await;
    let product = json!({"name": "Bók", "unit_amount": 1200, "currency": "ISK"});
    app.put("/v1/products/book", product).await.expect(201);
    let order = app.order("o", "book", 2).await.expect(201).id();

    let charge = app.pay("k", &order, "pm_card_visa").await.expect(201).json();

    assert_eq!((&charge["amount"], &charge["currency"]), (&json!(2400), &json!("ISK")));
    assert_eq!(app.count("sandbox.payment_intents WHERE amount = 240000 AND currency = 'isk'"), 1);
    app.refund("r", charge["id"].as_str().unwrap(), Some(7)).await.expect(201);
    assert_eq!(app.count("sandbox.refunds WHERE amount = 700"), 1);
}

#[tokio::test]
async fn an_amount_that_the_gateway_cannot_express_is_refused() {
    let app = App::start().await;
    let dinar = |unit_amount: i64| json!({"name": "Lamp", "unit_amount": unit_amount, "currency": "KWD"});
    let refused = app.put("/v1/products/lamp", dinar(5125)).await.expect_problem(422, "invalid-request");
    assert_eq!(refused.pointers(), ["/unit_amount"]);
    app.put("/v1/products/lamp", dinar(5120)).await.expect(201);
    let order = app.order("o", "lamp", 1).await.expect(201).id();
    let charge = app.pay("k", &order, "pm_card_visa").await.expect(201).id();

    let refused = app.refund("r", &charge, Some(5)).await.expect_problem(422, "invalid-request");

    assert_eq!(refused.pointers(), ["/amount"]);
    app.refund("r2", &charge, Some(10)).await.expect(201);
}

/// Release 0.1.0 accepted every price.
#[tokio::test]
async fn an_order_at_an_old_price_that_the_gateway_cannot_express_is_refused_as_documented() {
    let app = App::start().await;
    let dinar = json!({"name": "Lamp", "unit_amount": 5120, "currency": "KWD"});
    app.put("/v1/products/lamp", dinar).await.expect(201);
    app.execute("UPDATE products SET unit_amount = 5125 WHERE sku = 'lamp'");
    let order = app.order("o", "lamp", 1).await.expect(201).id();

    let refused = app.pay("k", &order, "pm_card_visa").await.expect_problem(422, "invalid-request");

    assert_eq!((refused.pointers(), &refused.json()["retry"]), (vec!["/order_id".to_owned()], &json!("new-key")));
    assert!(app.pay("k", &order, "pm_card_visa").await.is_replay());
    let document = app.get("/openapi.json").await.expect(200).json();
    let told = &document["paths"]["/v1/charges"]["post"]["responses"]["422"]["x-problems"];
    let told = told.as_array().unwrap().iter().find(|one| one["type"] == "/problems/invalid-request").unwrap();
    assert_eq!(told["retry"], json!(["new-key", "fix"]));
}

/// A PaymentIntent that is still `processing` has taken effect: it is looked up by its id for as long as that takes.
#[tokio::test]
async fn a_payment_without_an_outcome_yet_is_looked_up_by_its_id_and_never_sent_again() {
    for (end, status, code) in [("succeeded", 201, Value::Null), ("canceled", 402, json!("gateway_failed"))] {
        let gateway = Scripted::open();
        let app = App::start_without_resolver(fresh_database(), gateway.gateway());
        gateway.script("pm_card_visa", [Does::Make("processing")]);
        let order = app.pending_order().await;
        let charge = app.pay("k", &order, "pm_card_visa").await.expect(202).id();
        let resolver = app.resolver(gateway.gateway());
        for _ in 0..21 {
            app.let_leases_end();
            assert_eq!(resolver.run_once(false).await.unwrap().resolved, 0);
        }
        assert_eq!(app.count("external_calls WHERE outside_id = 'pi_1' AND parked_at IS NULL"), 1);

        gateway.change(end);
        app.let_leases_end();
        assert_eq!(resolver.run_once(false).await.unwrap().resolved, 1);

        app.pay("k", &order, "pm_card_visa").await.expect(status);
        assert_eq!(app.member(&format!("/v1/charges/{charge}"), "failure_code").await, code);
        assert_eq!((gateway.sendings(), gateway.looks()), (1, 22));
    }
}

#[tokio::test]
async fn a_pending_refund_is_processing_until_the_gateway_has_its_outcome() {
    let app = App::start().await;
    let order = app.pending_order().await;
    let charge = app.pay("k", &order, "pm_card_pendingRefund").await.expect(201).id();

    let pending = app.refund("r", &charge, None).await.expect(202);

    assert_eq!(app.count("orders WHERE status = 'paid'"), 1);
    eventually("the refund has succeeded", || app.events("refund.succeeded") == 1).await;
    let done = app.refund("r", &charge, None).await.expect(201);
    assert_eq!((done.id(), app.count("sandbox.refunds")), (pending.id(), 1));
    assert_eq!(app.count("sandbox.keys WHERE calls > 1"), 0, "a call was sent twice");
}

/// For example, the database was restored to a time before the first charge, and the key was used for another order.
#[tokio::test]
async fn a_reference_that_the_gateway_knows_with_other_parameters_is_parked_at_once() {
    let app = App::start().await;
    let order = app.pending_order().await;
    app.pay("k", &order, "pm_card_visa").await.expect(201);
    app.execute(
        "DELETE FROM entitlements; DELETE FROM charges; DELETE FROM external_calls; DELETE FROM idempotency_keys; \
         UPDATE orders SET status = 'pending'",
    );

    let parked = app.pay("k", &order, "pm_card_mastercard").await.expect(202);

    assert_eq!(parked.json()["processing"]["parked"], true);
    assert_eq!((app.captures(), app.count("sandbox.payment_intents")), (1, 1));
}

#[tokio::test]
async fn a_charge_of_the_version_without_gateway_ids_is_not_refundable() {
    let app = App::start().await;
    let charge = app.paid_charge().await;
    app.execute("UPDATE charges SET gateway_id = NULL");

    app.refund("r", &charge, None).await.expect_problem(409, "charge-not-refundable");

    assert_eq!(app.member(&format!("/v1/charges/{charge}"), "amount_refunded").await, 0);
}
