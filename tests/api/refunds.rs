//! The rules of refunds: each answer, and the rows that it leaves.

use std::sync::Arc;

use diesel::connection::SimpleConnection as _;
use serde_json::{Value, json};

use crate::app::{App, GLOBEX, send};
use crate::gateways::{away, held};
use crate::paying::{AMOUNT, Sandbox};
use crate::support::{connect, eventually, eventually_blocked, fresh_database};

#[tokio::test]
async fn a_partial_refund_is_a_201_and_leaves_the_order_paid() {
    let app = App::start().await;
    let charge = app.paid_charge().await;

    let made = app.refund("k", &charge, Some(1500)).await.expect(201);

    let refund = made.json();
    assert_eq!((&refund["idempotency_key"], refund["request_id"].as_str()), (&json!("k"), made.header("X-Request-Id")));
    assert_eq!((&refund["charge_id"], &refund["status"]), (&json!(charge), &json!("succeeded")));
    assert_eq!(
        (&refund["amount"], &refund["currency"], &refund["processing"]),
        (&json!(1500), &json!("EUR"), &Value::Null)
    );
    assert_eq!(made.header("Location"), Some(format!("/v1/refunds/{}", made.id()).as_str()));
    assert!(made.header("Idempotency-Expires").is_some() && !made.is_replay());
    assert_eq!(app.get(made.header("Location").unwrap()).await.body, made.body);
    assert_eq!(app.member(&format!("/v1/charges/{charge}"), "amount_refunded").await, 1500);
    assert_eq!(app.count("orders WHERE status = 'paid'"), 1);
    assert_eq!(app.count("entitlements WHERE revoked_at IS NULL"), 1);
    assert_eq!((app.events("refund.succeeded"), app.events("order.refunded")), (1, 0));
    let replay = app.refund("k", &charge, Some(1500)).await.expect(201);
    assert!(replay.is_replay());
    assert_eq!(replay.body, made.body);
    assert_eq!(app.count("sandbox.refunds"), 1);
}

#[tokio::test]
async fn a_refund_without_an_amount_refunds_the_rest_and_revokes_the_entitlements() {
    let app = App::start().await;
    let charge = app.paid_charge().await;
    app.refund("part", &charge, Some(1500)).await.expect(201);

    let rest = app.refund("rest", &charge, None).await.expect(201);

    assert_eq!(rest.json()["amount"], AMOUNT - 1500);
    assert_eq!(app.count("orders WHERE status = 'refunded'"), 1);
    assert_eq!(app.count("entitlements WHERE revoked_at IS NULL"), 0);
    assert_eq!((app.events("refund.succeeded"), app.events("order.refunded")), (2, 1));
    assert_eq!(app.events("entitlement.revoked"), 1);
    let refunds = app.get(&format!("/v1/charges/{charge}/refunds")).await.expect(200).json();
    assert_eq!((&refunds["data"][0]["id"], refunds["data"].as_array().unwrap().len()), (&json!(rest.id()), 2));
    app.refund("more", &charge, Some(1)).await.expect_problem(409, "charge-not-refundable");
}

#[tokio::test]
async fn a_refund_above_the_rest_is_refused_and_the_refusal_is_stored() {
    let app = App::start().await;
    let charge = app.paid_charge().await;
    app.refund("part", &charge, Some(1500)).await.expect(201);

    let refused = app.refund("k", &charge, Some(AMOUNT - 1499)).await.expect_problem(409, "refund-exceeds-charge");

    assert_eq!(refused.json()["available"], AMOUNT - 1500);
    let replay = app.refund("k", &charge, Some(AMOUNT - 1499)).await.expect(409);
    assert!(replay.is_replay());
    assert_eq!(replay.body, refused.body);
    assert_eq!(app.member(&format!("/v1/charges/{charge}"), "amount_refunded").await, 1500);
    app.refund("nothing", &charge, Some(0)).await.expect_problem(422, "invalid-request");
}

#[tokio::test]
async fn a_failed_or_unknown_charge_is_not_refunded() {
    let app = App::start().await;
    let order = app.pending_order().await;
    let declined = app.pay("k", &order, "pm_card_visa_chargeDeclined").await.expect(402);
    let charge = declined.json()["charge_id"].as_str().unwrap().to_owned();

    app.refund("k", &charge, None).await.expect_problem(409, "charge-not-refundable");
    let unknown = uuid::Uuid::now_v7().to_string();
    app.refund("k", &unknown, None).await.expect_problem(404, "not-found");
    app.get(&format!("/v1/charges/{unknown}/refunds")).await.expect_problem(404, "not-found");
    app.get(&format!("/v1/refunds/{unknown}")).await.expect_problem(404, "not-found");
}

#[tokio::test]
async fn a_refund_that_the_gateway_refuses_puts_its_amount_back() {
    let app = App::start().await;
    let charge = app.paid_charge().await;
    // Somebody refunded at the gateway by hand, so the gateway refuses our refund.
    app.execute(
        "INSERT INTO sandbox.refunds (payment_intent, amount, currency, status, metadata) \
         SELECT id, amount - 100, currency, 'succeeded', '{}' FROM sandbox.payment_intents",
    );

    let failed = app.refund("k", &charge, None).await.expect_problem(402, "gateway-failed");

    let refund = failed.json()["refund_id"].as_str().unwrap().to_owned();
    assert_eq!(app.member(&format!("/v1/refunds/{refund}"), "status").await, "failed");
    assert_eq!(app.refund("k", &charge, None).await.expect(402).body, failed.body);
    assert_eq!(app.member(&format!("/v1/charges/{charge}"), "amount_refunded").await, 0);
    assert_eq!((app.events("refund.failed"), app.count("orders WHERE status = 'paid'")), (1, 1));
    assert_eq!(app.count("entitlements WHERE revoked_at IS NULL"), 1);
    app.refund("less", &charge, Some(100)).await.expect(201);
}

#[tokio::test]
async fn a_refund_that_exceeds_only_because_of_a_processing_refund_is_payment_in_progress() {
    let app = App::start().await;
    let charge = app.paid_charge().await;
    let other = App::start_without_resolver(app.database.clone(), away());
    other.refund("processing", &charge, Some(3000)).await.expect(202);
    other.put_off_leases();

    for amount in [Some(1001), Some(AMOUNT)] {
        let wait = other.refund("k", &charge, amount).await.expect_problem(409, "payment-in-progress");
        assert!(wait.header("Retry-After").is_some() && !wait.is_replay());
    }
    other.refund("too-much", &charge, Some(AMOUNT + 1)).await.expect_problem(409, "refund-exceeds-charge");
    assert_eq!(app.member(&format!("/v1/charges/{charge}"), "amount_refunded").await, 3000);
    other.let_leases_end();
    eventually("the refund is resolved", || app.events("refund.succeeded") == 1).await;
    app.refund("k", &charge, Some(1001)).await.expect_problem(409, "refund-exceeds-charge");
    app.refund("rest", &charge, Some(1000)).await.expect(201);
}

/// The full refund may fail, and then the whole charge can be refunded again.
#[tokio::test]
async fn beside_a_full_refund_that_is_processing_another_one_waits_and_nothing_is_stored() {
    let sandbox = Sandbox::start();
    let app = App::start_without_resolver(fresh_database(), Arc::new(sandbox.gateway()));
    let charge = app.paid_charge().await;
    let silent = App::start_without_resolver(app.database.clone(), away());
    silent.refund("full", &charge, None).await.expect(202);

    for amount in [None, Some(1)] {
        let wait = app.refund("k", &charge, amount).await.expect_problem(409, "payment-in-progress");
        assert_eq!(wait.json()["retry"], "again");
        assert_eq!(app.count("idempotency_keys WHERE key = 'k'"), 0, "the answer is stored");
    }
}

#[tokio::test]
async fn a_full_refund_revokes_a_partly_used_entitlement() {
    let app = App::start().await;
    let charge = app.paid_charge().await;
    let granted = app.get("/v1/entitlements?customer=ada").await.expect(200).json();
    let path = format!("/v1/entitlements/{}", granted["data"][0]["id"].as_str().unwrap());
    app.post(&format!("{path}/consume"), "use", json!({"units": 1})).await.expect(200);

    app.refund("k", &charge, None).await.expect(201);

    assert_ne!(app.member(&path, "revoked_at").await, Value::Null);
    let late = app.post(&format!("{path}/consume"), "late", json!({"units": 1})).await;
    late.expect_problem(409, "entitlement-inactive");
}

#[tokio::test]
async fn a_full_refund_waits_for_a_revocation_that_has_begun_and_does_not_repeat_it() {
    let app = App::start().await;
    let charge = app.paid_charge().await;
    let mut by_hand = connect(&app.database);
    by_hand.batch_execute("BEGIN; UPDATE entitlements SET revoked_at = '2026-01-01T00:00:00Z'").unwrap();
    let client = app.clone();
    let refund = tokio::spawn(async move { client.refund("k", &charge, None).await });
    eventually_blocked(&app.database, 1).await;
    by_hand.batch_execute("COMMIT").unwrap();

    refund.await.unwrap().expect(201);

    assert_eq!(app.count("entitlements WHERE revoked_at = '2026-01-01T00:00:00Z'"), 1);
    assert_eq!(app.events("entitlement.revoked"), 0, "the revocation is repeated");
}

#[tokio::test]
async fn a_charges_list_has_its_own_refunds_and_pages_to_an_end() {
    let app = App::start().await;
    let (charge, other) = (app.paid_charge().await, app.paid_charge().await);
    for key in ["a", "b", "c"] {
        app.refund(key, &charge, Some(100)).await.expect(201);
    }
    let page = async |charge: &str, query: &str| {
        let page = app.get(&format!("/v1/charges/{charge}/refunds?{query}")).await.expect(200).json();
        let ids: Vec<_> =
            page["data"].as_array().unwrap().iter().map(|refund| refund["id"].as_str().unwrap().to_owned()).collect();
        (ids, page["has_more"].as_bool().unwrap())
    };

    assert_eq!(page(&other, "").await, (Vec::new(), false));
    let (first, more) = page(&charge, "limit=2").await;
    assert_eq!((first.len(), more), (2, true));
    let (rest, more) = page(&charge, &format!("limit=2&after={}", first[1])).await;
    assert_eq!((rest.len(), more, first.contains(&rest[0])), (1, false, false));
}

#[tokio::test]
async fn a_charge_that_is_processing_is_not_refunded_yet() {
    let (gateway, hold) = held();
    let app = App::start_without_resolver(fresh_database(), gateway);
    let order = app.pending_order().await;
    let meanwhile = async {
        hold.until_called().await;
        let charge = app.get("/v1/charges").await.json()["data"][0]["id"].as_str().unwrap().to_owned();
        app.refund("k", &charge, None).await.expect_problem(409, "payment-in-progress");
        hold.let_go();
        charge
    };

    let (paid, charge) = tokio::join!(app.pay("k", &order, "pm_card_visa"), meanwhile);

    paid.expect(201);
    hold.let_go();
    app.refund("k", &charge, None).await.expect(201);
}

#[tokio::test]
async fn of_two_refunds_in_flight_the_last_to_succeed_marks_the_order_refunded() {
    let app = App::start().await;
    let charge = app.paid_charge().await;
    let (gateway, hold) = held();
    let slow_app = App::start_without_resolver(app.database.clone(), gateway);
    let slow = slow_app.refund("slow", &charge, Some(1000));
    let meanwhile = async {
        hold.until_called().await;
        app.refund("rest", &charge, None).await.expect(201);
        assert_eq!((app.count("orders WHERE status = 'paid'"), app.events("entitlement.revoked")), (1, 0));
        hold.let_go();
    };

    let (slow, ()) = tokio::join!(slow, meanwhile);

    slow.expect(201);
    assert_eq!((app.count("orders WHERE status = 'refunded'"), app.events("entitlement.revoked")), (1, 1));
}

/// The refund is read first, and then its external call. The test resolves the refund between the two statements.
#[tokio::test]
async fn a_refund_that_is_resolved_while_it_is_read_is_shown_final() {
    let sandbox = Sandbox::start();
    let app = App::start_without_resolver(fresh_database(), Arc::new(sandbox.gateway()));
    let charge = app.paid_charge().await;
    let silent = App::start_without_resolver(app.database.clone(), away());
    let id = silent.refund("k", &charge, None).await.expect(202).id();
    let mut resolving = connect(&app.database);
    resolving.batch_execute("BEGIN; LOCK TABLE external_calls IN ACCESS EXCLUSIVE MODE").unwrap();
    let reads = [format!("/v1/refunds/{id}"), format!("/v1/charges/{charge}/refunds")].map(|path| {
        let client = app.clone();
        tokio::spawn(async move { client.get(&path).await.expect(200).json() })
    });
    eventually_blocked(&app.database, 2).await;

    let resolved = "UPDATE external_calls SET resolved_at = now(), next_attempt_at = NULL WHERE resolved_at IS NULL; \
                   UPDATE refunds SET status = 'failed', failure_code = 'gateway_failed'; COMMIT";
    resolving.batch_execute(resolved).unwrap();

    let [one, page] = reads;
    for refund in [one.await.unwrap(), page.await.unwrap()["data"][0].clone()] {
        assert_eq!((&refund["status"], &refund["processing"]), (&json!("failed"), &Value::Null), "{refund}");
    }
}

#[tokio::test]
async fn another_accounts_refunds_are_not_found() {
    let app = App::start().await;
    let charge = app.paid_charge().await;
    let refund = app.refund("k", &charge, None).await.expect(201).id();

    for path in [format!("/v1/refunds/{refund}"), format!("/v1/charges/{charge}/refunds")] {
        app.get(&path).await.expect(200);
        send(app.request_as(GLOBEX, "GET", &path)).await.expect_problem(404, "not-found");
    }
}

#[tokio::test]
async fn a_full_refund_does_not_change_an_entitlement_revoked_by_hand() {
    let app = App::start().await;
    let charge = app.paid_charge().await;
    let granted = app.get("/v1/entitlements?customer=ada").await.expect(200).json();
    let path = format!("/v1/entitlements/{}", granted["data"][0]["id"].as_str().unwrap());
    let revoked = app.post(&format!("{path}/revoke"), "by-hand", json!({})).await.expect(200);

    app.refund("k", &charge, None).await.expect(201);

    assert_eq!(app.get(&path).await.expect(200).body, revoked.body);
    assert_eq!((app.events("entitlement.revoked"), app.events("order.refunded")), (1, 1));
}

#[tokio::test]
async fn the_table_itself_keeps_refunds_within_their_charge() {
    let app = App::start().await;
    app.paid_charge().await;
    for change in ["amount + 1", "-1"] {
        let update = diesel::sql_query(format!("UPDATE charges SET amount_refunded = {change}"));
        let refused = diesel::RunQueryDsl::execute(update, &mut connect(&app.database)).unwrap_err();
        assert!(refused.to_string().contains("charges_refunds_within_amount"), "{change}: {refused}");
    }
}
