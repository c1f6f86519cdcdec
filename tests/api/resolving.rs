//! External calls after the request: the resolver records an outcome, a holder that lost its lease records nothing, and an external call
//! whose outcome can't be recorded is parked.

use serde_json::json;

use crate::app::{Answer, App, Client};
use crate::gateways::{Hold, away, declining, held};
use crate::paying::Sandbox;
use crate::support::fresh_database;

/// Starts a charge. The gateway waits until the test lets go of the call.
async fn charge_in_flight() -> (App, Hold, tokio::task::JoinHandle<Answer>) {
    let (gateway, hold) = held();
    let app = App::start_without_resolver(fresh_database(), gateway);
    let order = app.pending_order().await;
    let client = Client::clone(&app);
    let request = tokio::spawn(async move { client.pay("k", &order, "pm_card_visa").await });
    hold.until_called().await;
    (app, hold, request)
}

async fn only_order(app: &App) -> String {
    app.get("/v1/orders").await.json()["data"][0]["id"].as_str().unwrap().to_owned()
}

/// Asserts that the payment left no rows.
fn assert_nothing_is_paid(app: &App) {
    assert_eq!(app.count("orders WHERE status <> 'pending'") + app.count("entitlements"), 0);
    for event in ["charge.succeeded", "order.paid", "entitlement.granted"] {
        assert_eq!(app.events(event), 0, "{event}");
    }
}

#[tokio::test]
async fn every_retry_gets_the_reply_that_the_resolver_recorded() {
    let (app, sandbox) = (App::start_without_resolver(fresh_database(), away()), Sandbox::start());
    let resolver = app.resolver(std::sync::Arc::new(sandbox.gateway()));
    for (card, status) in [
        ("pm_card_visa", 201),
        ("pm_card_visa_chargeDeclined", 402),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", 402),
    ] {
        let order = app.pending_order().await;
        let charge = app.pay(card, &order, card).await.expect(202).id();
        assert_eq!(resolver.run_once(false).await.unwrap().taken, 0, "the external call is not due yet");
        app.let_leases_end();

        assert_eq!(resolver.run_once(false).await.unwrap().resolved, 1);

        let replies =
            [app.pay(card, &order, card).await.expect(status), app.pay(card, &order, card).await.expect(status)];
        assert_eq!(replies[0].body, replies[1].body);
        assert!(replies.iter().all(|reply| reply.is_replay() && reply.header("Idempotency-Expires").is_some()));
        let named = if status == 201 { "id" } else { "charge_id" };
        assert_eq!(replies[0].json()[named], json!(charge));
    }
    assert_eq!((sandbox.captures(), app.count("orders WHERE status = 'paid'")), (1, 1));
}

#[tokio::test]
async fn a_refund_is_resolved_by_the_resolver_too() {
    let (app, sandbox) = (App::start_without_resolver(fresh_database(), away()), Sandbox::start());
    let resolver = app.resolver(std::sync::Arc::new(sandbox.gateway()));
    let order = app.pending_order().await;
    let charge = app.pay("k", &order, "pm_card_visa").await.expect(202).id();
    app.let_leases_end();
    resolver.run_once(false).await.unwrap();
    let refund = app.refund("k", &charge, None).await.expect(202);
    app.let_leases_end();

    assert_eq!(resolver.run_once(false).await.unwrap().resolved, 1);

    let reply = app.refund("k", &charge, None).await.expect(201);
    assert!(reply.is_replay());
    assert_eq!((reply.id(), reply.header("Location")), (refund.id(), refund.header("Location")));
    assert_eq!((sandbox.refunds(), app.count("orders WHERE status = 'refunded'")), (1, 1));
}

#[tokio::test]
async fn a_holder_that_slept_past_its_lease_writes_nothing_over_the_next_ones_outcome() {
    let (app, hold, request) = charge_in_flight().await;
    app.let_leases_end();
    assert_eq!(app.resolver(declining()).run_once(false).await.unwrap().resolved, 1);

    hold.let_go();

    request.await.unwrap().expect_problem(402, "card-declined");
    assert_eq!(app.count("charges WHERE status = 'failed'"), 1);
    assert_eq!((app.count("events WHERE type LIKE 'charge.%'"), app.events("charge.failed")), (1, 1));
    assert_nothing_is_paid(&app);
}

#[tokio::test]
async fn a_holder_that_slept_past_its_lease_writes_nothing_while_the_next_holder_works() {
    let (app, hold, request) = charge_in_flight().await;
    app.let_leases_end();
    assert_eq!(app.resolver(away()).run_once(false).await.unwrap().taken, 1);

    hold.let_go();

    request.await.unwrap().expect(202);
    assert_eq!(app.count("external_calls WHERE resolved_at IS NULL AND attempts = 2"), 1);
    assert_nothing_is_paid(&app);
}

#[tokio::test]
async fn a_holder_of_a_refund_that_slept_past_its_lease_writes_nothing_either() {
    let (gateway, hold) = held();
    let app = App::start_without_resolver(fresh_database(), gateway);
    hold.let_go();
    let charge = app.paid_charge().await;
    hold.until_called().await;
    let meanwhile = async {
        hold.until_called().await;
        app.let_leases_end();
        assert_eq!(app.resolver(away()).run_once(false).await.unwrap().taken, 1);
        hold.let_go();
    };

    let (refund, ()) = tokio::join!(app.refund("k", &charge, None), meanwhile);

    refund.expect(202);
    assert_eq!(app.count("external_calls WHERE resolved_at IS NULL AND attempts = 2"), 1);
    assert_eq!((app.count("orders WHERE status = 'paid'"), app.events("refund.succeeded")), (1, 0));
    assert_eq!(app.count("entitlements WHERE revoked_at IS NULL"), 1);
}

#[tokio::test]
async fn only_one_holder_has_the_lease() {
    let (app, hold, request) = charge_in_flight().await;
    assert_eq!(app.resolver(declining()).run_once(false).await.unwrap().taken, 0, "the request has the lease");
    app.let_leases_end();
    let (one, another) = (app.resolver(away()), app.resolver(away()));

    let (one, another) = tokio::join!(one.run_once(false), another.run_once(false));

    assert_eq!(one.unwrap().taken + another.unwrap().taken, 1);
    hold.let_go();
    request.await.unwrap().expect(202);
}

#[tokio::test]
async fn the_first_lease_and_the_next_last_fifteen_seconds() {
    let (app, hold, request) = charge_in_flight().await;
    assert_eq!(app.count("external_calls WHERE next_attempt_at = created_at + interval '15 seconds'"), 1);
    app.let_leases_end();
    let (gateway, next_hold) = held();
    let resolver = app.resolver(gateway);
    let next = tokio::spawn(async move { resolver.run_once(false).await.unwrap() });
    next_hold.until_called().await;

    // `unanswered_at` is the time at which the holder took the lease.
    let whole = "attempts = 2 AND next_attempt_at = unanswered_at + interval '15 seconds'";
    assert_eq!(app.count(&format!("external_calls WHERE {whole}")), 1);

    next_hold.let_go();
    assert_eq!(next.await.unwrap().resolved, 1);
    hold.let_go();
    request.await.unwrap().expect(201);
}

/// Recording an outcome needs its provisional record. After `loss` the record is deleted, or is final already.
async fn assert_not_recorded_after(loss: &str) {
    let (app, hold, request) = charge_in_flight().await;
    app.execute(loss);

    hold.let_go();

    request.await.unwrap().expect(202);
    assert_nothing_is_paid(&app);
    let charge = app.get("/v1/charges").await.json()["data"][0].clone();
    assert_eq!((&charge["status"], &charge["processing"]["parked"]), (&json!("processing"), &json!(false)));
    // The resolver tries again after growing pauses. After the last attempt, the external call is parked for a person.
    let (gateway, hold) = held();
    let resolver = app.resolver(gateway);
    assert_eq!(resolver.run_once(false).await.unwrap().taken, 0, "the external call is not due yet");
    app.execute("UPDATE external_calls SET attempts = 19");
    app.let_leases_end();
    hold.let_go();
    let done = resolver.run_once(false).await.unwrap();
    assert_eq!((done.taken, done.resolved), (1, 0));
    let order = only_order(&app).await;
    app.pay("another", &order, "pm_card_visa").await.expect_problem(409, "payment-in-progress");
    let path = format!("/v1/charges/{}", charge["id"].as_str().unwrap());
    assert_eq!(app.member(&path, "processing").await["parked"], true);
    assert_nothing_is_paid(&app);
}

#[tokio::test]
async fn an_outcome_without_its_record_is_not_recorded_and_ends_up_parked() {
    assert_not_recorded_after("DELETE FROM idempotency_keys WHERE status = 202").await;
}

#[tokio::test]
async fn an_outcome_whose_record_is_final_is_not_recorded_and_ends_up_parked() {
    let final_already =
        "UPDATE idempotency_keys SET status = 201, expires_at = now() + interval '1 day' WHERE status = 202";
    assert_not_recorded_after(final_already).await;
}
