//! Retries after the key's record is gone: a key that once moved money never does so again.

use idempotency::sweep;

use crate::app::{Answer, App};
use crate::paying::AMOUNT;
use crate::support::connect;

const EXPIRE: &str = "UPDATE idempotency_keys SET expires_at = now() - interval '1 second'";

/// Every way to lose a record.
const LOSSES: [&str; 3] = ["deleted", "expired", "swept"];

fn lose_records(app: &App, how: &str) {
    app.execute(if how == "deleted" { "DELETE FROM idempotency_keys" } else { EXPIRE });
    if how == "swept" {
        assert!(sweep(&mut connect(&app.database)).unwrap().deleted > 0);
    }
}

fn assert_refused_for_good(answer: Answer, resource: &str) {
    let answer = answer.expect_problem(409, "idempotency-key-expired");
    assert_eq!(answer.json()["resource"], resource);
    assert!(!answer.is_replay() && answer.header("Idempotency-Expires").is_none() && answer.is_final());
}

#[tokio::test]
async fn a_late_retry_of_a_charge_names_the_charge_and_captures_nothing() {
    let app = App::start().await;
    for how in LOSSES {
        println!("{how}");
        let (order, other_order) = (app.pending_order().await, app.pending_order().await);
        let before = app.captures();
        let charge = app.pay(how, &order, "pm_card_visa").await.expect(201);
        lose_records(&app, how);

        let resource = charge.header("Location").unwrap();
        assert_refused_for_good(app.pay(how, &order, "pm_card_visa").await, resource);
        assert_refused_for_good(app.pay(how, &order, "pm_card_visa").await, resource);
        assert_refused_for_good(app.pay(how, &other_order, "pm_card_visa").await, resource);

        assert_eq!(app.captures() - before, 1);
        assert_eq!(app.count(&format!("idempotency_keys WHERE key = '{how}' AND expires_at > now()")), 0);
        app.pay(&format!("{how}-new"), &other_order, "pm_card_visa").await.expect(201);
    }
}

#[tokio::test]
async fn a_late_retry_of_a_declined_charge_does_not_try_the_card_again() {
    let app = App::start().await;
    let order = app.pending_order().await;
    let declined = app.pay("k", &order, "pm_card_visa_chargeDeclined").await.expect(402).json();
    app.execute("DELETE FROM idempotency_keys");

    let late = app.pay("k", &order, "pm_card_visa_chargeDeclined").await;

    assert_refused_for_good(late, declined["instance"].as_str().unwrap());
    assert_eq!(app.count("sandbox.payment_intents"), 1);
}

#[tokio::test]
async fn a_late_retry_of_a_refund_names_the_refund_and_gives_nothing_back() {
    let app = App::start().await;
    for how in LOSSES {
        println!("{how}");
        let charge = app.paid_charge().await;
        let before = app.count("sandbox.refunds");
        let refund = app.refund(how, &charge, Some(AMOUNT / 4)).await.expect(201);
        lose_records(&app, how);

        let resource = refund.header("Location").unwrap();
        assert_refused_for_good(app.refund(how, &charge, Some(AMOUNT / 4)).await, resource);
        assert_refused_for_good(app.refund(how, &charge, None).await, resource);

        assert_eq!(app.count("sandbox.refunds") - before, 1);
        assert_eq!(app.member(&format!("/v1/charges/{charge}"), "amount_refunded").await, AMOUNT / 4);
    }
}

#[tokio::test]
async fn late_retries_at_once_are_all_refused() {
    let app = App::start().await;
    let order = app.pending_order().await;
    let charge = app.pay("k", &order, "pm_card_visa").await.expect(201);
    app.execute(EXPIRE);

    let late = futures_util::future::join_all((0..10).map(|_| app.pay("k", &order, "pm_card_visa"))).await;

    for answer in late {
        assert_refused_for_good(answer, charge.header("Location").unwrap());
    }
    assert_eq!(app.captures(), 1);
}

#[tokio::test]
async fn a_key_that_only_failed_is_free_once_its_record_is_gone() {
    let app = App::start().await;
    let order = app.pending_order().await;
    app.cancel("c", &order).await.expect(200);
    app.pay("k", &order, "pm_card_visa").await.expect_problem(409, "order-not-payable");
    app.execute(EXPIRE);
    let other = app.pending_order().await;

    app.pay("k", &other, "pm_card_visa").await.expect(201);
}
