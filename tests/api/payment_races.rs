//! Payments, refunds and cancellations race on two servers. The money moves once, the books agree, and no client sees a
//! deadlock.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use tokio::join;

use crate::app::{Answer, App};
use crate::gateways::held;
use crate::paying::AMOUNT;
use crate::support::{eventually, fresh_database};

/// Two servers on one database.
async fn two_replicas() -> [App; 2] {
    let database = fresh_database();
    [App::start_on(database.clone(), 4).await, App::start_on(database, 4).await]
}

/// Counts the answers by their status, or by their problem.
fn tally(answers: &[Answer]) -> BTreeMap<String, usize> {
    let mut tally = BTreeMap::new();
    for answer in answers {
        let what = if answer.status < 400 { answer.status.to_string() } else { answer.problem() };
        *tally.entry(what).or_default() += 1;
    }
    tally
}

/// Asserts that only these answers came. A client would see a deadlock as a 5xx.
fn assert_only(answers: &[Answer], expected: &[&str]) {
    let tally = tally(answers);
    assert!(tally.keys().all(|what| expected.contains(&what.as_str())), "{tally:?}");
}

#[tokio::test]
async fn twenty_keys_pay_an_order_once() {
    let replicas = two_replicas().await;
    for card in ["pm_card_visa", "pm_card_gateway_error"] {
        let order = replicas[0].pending_order().await;
        let before = replicas[0].captures();

        let answers = join_all((0..20).map(|n| {
            let (replica, order) = (&replicas[n % 2], &order);
            async move { replica.pay(&format!("{card}-{n}"), order, card).await }
        }))
        .await;

        assert_only(&answers, &["201", "order-not-payable", "payment-in-progress"]);
        assert_eq!(tally(&answers)["201"], 1);
        assert_eq!(replicas[0].captures() - before, 1);
        assert_eq!(replicas[0].count(&format!("charges WHERE order_id = '{order}' AND status = 'succeeded'")), 1);
        assert_eq!(replicas[0].count(&format!("entitlements WHERE order_id = '{order}'")), 1);
    }
}

#[tokio::test]
async fn duplicates_of_a_slow_charge_all_get_its_reply_and_hold_up_no_other_key() {
    let replicas = two_replicas().await;
    let (slow, quick) = (replicas[0].pending_order().await, replicas[1].pending_order().await);
    let duplicates = join_all((0..20).map(|n| replicas[n % 2].pay("slow", &slow, "pm_card_slow")));
    let others = async {
        eventually("the slow charge is at the gateway", || replicas[0].captures() == 1).await;
        for (replica, order) in [(&replicas[0], &quick), (&replicas[1], &replicas[1].pending_order().await)] {
            replica.pay(order, order, "pm_card_visa").await.expect(201);
        }
        assert_eq!(replicas[0].count("charges WHERE status = 'processing'"), 1, "the slow charge is still processing");
    };

    let (answers, ()) = join!(duplicates, others);

    assert_only(&answers, &["201"]);
    assert!(answers.iter().all(|answer| answer.body == answers[0].body));
    assert_eq!(answers.iter().filter(|answer| !answer.is_replay()).count(), 1);
    assert_eq!(replicas[0].captures(), 3);
}

#[tokio::test]
async fn an_order_is_canceled_or_paid_and_never_both() {
    let replicas = two_replicas().await;
    for n in 0..15 {
        let order = replicas[0].pending_order().await;

        let (paid, canceled) =
            join!(replicas[n % 2].pay(&order, &order, "pm_card_visa"), replicas[1].cancel("c", &order));

        if paid.status == 201 {
            assert_only(&[canceled], &["order-not-cancelable", "payment-in-progress"]);
        } else {
            paid.expect_problem(409, "order-not-payable");
            canceled.expect(200);
        }
    }
    let paid = replicas[0].count("orders WHERE status = 'paid'");
    assert_eq!((replicas[0].captures(), replicas[0].count("entitlements")), (paid, paid));
}

#[tokio::test]
async fn refunds_that_race_never_give_back_more_than_was_paid() {
    let replicas = two_replicas().await;
    let charge = replicas[0].paid_charge().await;

    let answers = join_all((0..16).map(|n| {
        let (replica, charge) = (&replicas[n % 2], &charge);
        async move { replica.refund(&format!("k-{n}"), charge, Some(AMOUNT / 4 - 1)).await }
    }))
    .await;

    assert_only(&answers, &["201", "refund-exceeds-charge", "payment-in-progress"]);
    assert_eq!(tally(&answers)["201"], 4);
    assert_eq!(replicas[0].count("sandbox.refunds"), 4);
    replicas[0].refund("rest", &charge, None).await.expect(201);
    assert_eq!(replicas[0].count("charges WHERE amount_refunded = amount"), 1);
    assert_eq!(replicas[0].count("orders WHERE status = 'refunded'"), 1);
    assert_eq!((replicas[0].events("order.refunded"), replicas[0].events("entitlement.revoked")), (1, 1));
}

#[tokio::test]
async fn of_full_refunds_that_race_one_succeeds() {
    let replicas = two_replicas().await;
    let charge = replicas[0].paid_charge().await;

    let answers = join_all((0..16).map(|n| {
        let (replica, charge) = (&replicas[n % 2], &charge);
        async move { replica.refund(&format!("k-{n}"), charge, None).await }
    }))
    .await;

    assert_only(&answers, &["201", "charge-not-refundable", "payment-in-progress"]);
    assert_eq!((tally(&answers)["201"], replicas[0].count("sandbox.refunds")), (1, 1));
}

#[tokio::test]
async fn refunds_during_the_external_call_of_their_charge_do_not_deadlock() {
    let (gateway, hold) = held();
    let app = App::start_without_resolver(fresh_database(), gateway);
    for _ in 0..5 {
        let order = app.pending_order().await;
        let refunds = async {
            hold.until_called().await;
            let charge = app.get("/v1/charges").await.json()["data"][0]["id"].as_str().unwrap().to_owned();
            // One permit for the charge, one permit for the refund that may succeed.
            hold.let_go();
            hold.let_go();
            join_all((0..8).map(async |n| app.refund(&format!("k-{n}"), &charge, None).await)).await
        };

        let (paid, refunds) = join!(app.pay(&order, &order, "pm_card_visa"), refunds);

        paid.expect(201);
        assert_only(&refunds, &["201", "payment-in-progress", "charge-not-refundable"]);
        if refunds.iter().any(|answer| answer.status == 201) {
            hold.until_called().await;
        } else {
            hold.take_back().await;
        }
    }
}

#[tokio::test]
async fn the_unique_index_alone_refuses_a_second_charge_of_a_paid_order() {
    let app = App::start().await;
    let order = app.pending_order().await;
    app.pay("first", &order, "pm_card_visa").await.expect(201);
    // As if a defect had lost the status: neither the order's status nor a processing charge stops the second charge.
    app.execute("UPDATE orders SET status = 'pending'");

    app.pay("second", &order, "pm_card_visa").await.expect_problem(409, "payment-in-progress");

    assert_eq!((app.captures(), app.count("charges")), (1, 1));
}
