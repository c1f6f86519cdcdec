//! Charges and refunds whose outcome stays unknown are parked and visible, until `payments resolve` resumes them.

use std::sync::Arc;
use std::time::Duration;

use crate::app::App;
use crate::binary;
use crate::gateways::{away, unheard};
use crate::paying::Sandbox;
use crate::support::fresh_database;

/// Parks the open external calls: sets their attempts to one below the cap, and makes the last attempt.
async fn park(app: &App) {
    app.execute("UPDATE external_calls SET attempts = 19 WHERE resolved_at IS NULL");
    app.let_leases_end();
    assert_eq!(app.resolver(away()).run_once(false).await.unwrap().taken, 1);
}

#[tokio::test]
async fn an_external_call_that_stays_unknown_is_parked_until_somebody_resumes_it() {
    let (app, sandbox) = (App::start_without_resolver(fresh_database(), away()), Sandbox::start());
    let order = app.pending_order().await;
    let charge = app.pay("k", &order, "pm_card_visa").await.expect(202).id();
    park(&app).await;

    let processing = app.member(&format!("/v1/charges/{charge}"), "processing").await;
    assert_eq!((&processing["parked"], &processing["attempts"]), (&true.into(), &20.into()));
    let resolver = app.resolver(Arc::new(sandbox.gateway()));
    app.let_leases_end();
    assert_eq!(resolver.run_once(false).await.unwrap().taken, 0, "the resolver took a parked external call");
    app.pay("k", &order, "pm_card_visa").await.expect(202);
    app.pay("another", &order, "pm_card_visa").await.expect_problem(409, "payment-in-progress");

    assert_eq!(resolver.run_once(true).await.unwrap().resolved, 1);

    assert_eq!(app.pay("k", &order, "pm_card_visa").await.expect(201).id(), charge);
    assert_eq!((sandbox.captures(), app.count("orders WHERE status = 'paid'")), (1, 1));
}

/// For example, each attempt crashes its process, so that nobody gives the lease back.
#[tokio::test]
async fn an_external_call_whose_attempts_never_end_is_parked() {
    let (app, sandbox) = (App::start_without_resolver(fresh_database(), away()), Sandbox::start());
    let order = app.pending_order().await;
    let charge = app.pay("k", &order, "pm_card_visa").await.expect(202).id();
    app.execute("UPDATE external_calls SET attempts = 20 WHERE resolved_at IS NULL");
    app.let_leases_end();
    let resolver = app.resolver(Arc::new(sandbox.gateway()));

    assert_eq!(resolver.run_once(false).await.unwrap().taken, 0);

    let processing = app.member(&format!("/v1/charges/{charge}"), "processing").await;
    assert_eq!((&processing["parked"], &processing["attempts"]), (&true.into(), &20.into()));
    assert_eq!(sandbox.captures(), 0);
    assert_eq!(resolver.run_once(true).await.unwrap().resolved, 1);
}

#[tokio::test]
async fn a_resumed_external_call_that_stays_unknown_is_parked_again() {
    let app = App::start_without_resolver(fresh_database(), away());
    let order = app.pending_order().await;
    app.pay("k", &order, "pm_card_visa").await.expect(202);
    park(&app).await;

    let pass = app.resolver(away()).run_once(true).await.unwrap();

    assert_eq!((pass.taken, pass.resolved), (1, 0));
    assert_eq!(app.count("external_calls WHERE parked_at IS NOT NULL AND attempts = 21"), 1);
}

#[tokio::test]
async fn the_command_resolves_parked_charges_and_refunds() {
    let (app, sandbox) = (App::start_without_resolver(fresh_database(), away()), Sandbox::start());
    let order = app.pending_order().await;
    let charge = app.pay("k", &order, "pm_card_visa").await.expect(202).id();
    park(&app).await;
    assert_eq!(binary::resolve(&app.database, &sandbox.url), "1 charges and refunds taken, 1 resolved\n");
    app.refund("k", &charge, None).await.expect(202);
    park(&app).await;

    assert_eq!(binary::resolve(&app.database, &sandbox.url), "1 charges and refunds taken, 1 resolved\n");

    app.pay("k", &order, "pm_card_visa").await.expect(201);
    app.refund("k", &charge, None).await.expect(201);
    assert_eq!((sandbox.captures(), sandbox.refunds()), (1, 1));
}

#[tokio::test]
async fn a_charge_resumed_after_the_gateway_forgot_its_key_is_looked_up_and_not_captured_again() {
    let sandbox = Sandbox::start_that_keeps_keys_for(Duration::ZERO);
    let app = App::start_without_resolver(fresh_database(), unheard(sandbox.gateway()));
    let order = app.pending_order().await;
    app.pay("k", &order, "pm_card_visa").await.expect(202);
    park(&app).await;
    app.execute("UPDATE external_calls SET created_at = created_at - interval '24 hours'");

    binary::resolve(&app.database, &sandbox.url);

    app.pay("k", &order, "pm_card_visa").await.expect(201);
    assert_eq!(sandbox.captures(), 1);
}

#[tokio::test]
async fn a_refund_resumed_after_the_gateway_forgot_its_key_is_looked_up_and_not_sent_again() {
    let sandbox = Sandbox::start_that_keeps_keys_for(Duration::ZERO);
    let database = fresh_database();
    let charge = App::start_without_resolver(database.clone(), Arc::new(sandbox.gateway())).paid_charge().await;
    let app = App::start_without_resolver(database, unheard(sandbox.gateway()));
    app.refund("k", &charge, Some(1000)).await.expect(202);
    park(&app).await;
    app.execute("UPDATE external_calls SET created_at = created_at - interval '24 hours'");

    binary::resolve(&app.database, &sandbox.url);

    app.refund("k", &charge, Some(1000)).await.expect(201);
    assert_eq!((sandbox.captures(), sandbox.refunds()), (1, 1));
}

#[tokio::test]
async fn a_call_whose_answer_was_lost_is_sent_again_and_moves_the_money_once() {
    let sandbox = Sandbox::start();
    let app = App::start_without_resolver(fresh_database(), unheard(sandbox.gateway()));
    let order = app.pending_order().await;
    app.pay("k", &order, "pm_card_visa").await.expect(202);
    assert_eq!(sandbox.captures(), 1);
    app.let_leases_end();

    assert_eq!(app.resolver(Arc::new(sandbox.gateway())).run_once(false).await.unwrap().resolved, 1);

    app.pay("k", &order, "pm_card_visa").await.expect(201);
    assert_eq!(sandbox.captures(), 1);
}
