//! Faults of a gateway over HTTP: it hangs, refuses, rejects all callers, or asks to wait. In each case the money moves once, and
//! one charge's fault does not delay another charge.

use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use serde_json::json;

use crate::app::{ACME, App, GLOBEX, one_item};
use crate::scripted::{Does, Scripted};
use crate::support::{eventually, fresh_database, number};

/// Starts an API without a resolver in the background.
fn api_of(gateway: &Scripted) -> App {
    App::start_without_resolver(fresh_database(), gateway.gateway())
}

#[tokio::test]
async fn a_capture_that_hangs_and_succeeds_after_its_second_sending_was_refused_is_paid_once() {
    let gateway = Scripted::open();
    let app = api_of(&gateway);
    gateway.script("pm_card_visa", [Does::HoldThenCapture, Does::Answer(400)]);
    let (order, resolver) = (app.pending_order().await, app.resolver(gateway.gateway()));
    let charge = app.pay("k", &order, "pm_card_visa").await.expect(202).id();
    app.let_leases_end();

    assert_eq!(resolver.run_once(false).await.unwrap().resolved, 0, "the call was refused, and the books are empty");

    assert_eq!((gateway.sendings(), gateway.captures()), (2, 0));
    assert_eq!(app.member(&format!("/v1/charges/{charge}"), "status").await, "processing");
    assert_eq!(app.count("idempotency_keys WHERE status = 402"), 0);
    app.pay("another", &order, "pm_card_visa").await.expect_problem(409, "payment-in-progress");
    // Now the first sending captures.
    gateway.release();
    gateway.until_captured(1).await;
    app.let_leases_end();
    assert_eq!(resolver.run_once(false).await.unwrap().resolved, 1);
    let paid = app.pay("k", &order, "pm_card_visa").await.expect(201);
    assert!(paid.is_replay());
    assert_eq!((paid.id(), gateway.captures()), (charge, 1));
    assert_eq!(app.member(&format!("/v1/orders/{order}"), "status").await, "paid");
    app.pay("another", &order, "pm_card_visa").await.expect_problem(409, "order-not-payable");
}

#[tokio::test]
async fn a_capture_that_is_refused_at_its_first_sending_has_failed_at_once() {
    let gateway = Scripted::open();
    let app = api_of(&gateway);
    gateway.script("pm_card_visa", [Does::Answer(400)]);
    let order = app.pending_order().await;

    app.pay("k", &order, "pm_card_visa").await.expect_problem(402, "gateway-failed");

    assert_eq!(app.count("charges WHERE status = 'failed' AND failure_code = 'scripted'"), 1);
    app.pay("another", &order, "pm_card_visa").await.expect(201);
    assert_eq!(gateway.captures(), 1);
}

#[tokio::test]
async fn a_gateway_that_rejects_all_callers_fails_no_charge() {
    for status in [401, 403, 404, 405] {
        let gateway = Scripted::open();
        let app = api_of(&gateway);
        gateway.script("pm_card_visa", [Does::Answer(status)]);
        let order = app.pending_order().await;

        let charge = app.pay("k", &order, "pm_card_visa").await.expect(202).id();

        app.let_leases_end();
        assert_eq!(app.resolver(gateway.gateway()).run_once(false).await.unwrap().resolved, 1, "{status}");
        assert_eq!(app.pay("k", &order, "pm_card_visa").await.expect(201).id(), charge);
    }
}

#[tokio::test]
async fn a_gateway_that_asks_to_wait_gets_no_call_until_then() {
    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
    for (status, retry_after) in [(429, "30"), (503, "30"), (503, date.as_str())] {
        let gateway = Scripted::open();
        let app = api_of(&gateway);
        gateway.script("pm_card_visa", [Does::AskToWait(status, retry_after.to_owned())]);
        let order = app.pending_order().await;

        app.pay("k", &order, "pm_card_visa").await.expect(202);

        assert_eq!(gateway.sendings(), 1, "{status} {retry_after}");
        assert_eq!(
            app.count("external_calls WHERE next_attempt_at > now() + interval '25 seconds'"),
            1,
            "{retry_after}"
        );
    }
}

/// The resolver looks every second, even while calls hang.
#[tokio::test]
async fn forty_hanging_captures_do_not_delay_another_charges_lost_reply() {
    const HANGING: usize = 40;
    let gateway = Scripted::open();
    let app = api_of(&gateway);
    let background = tokio::spawn(app.resolver(gateway.gateway()).run_in_background());
    gateway.script("pm_card_slow", (0..3 * HANGING).map(|_| Does::HoldThenCapture));
    gateway.script("pm_card_lost_reply", [Does::CaptureAndLose]);
    let orders = join_all((0..HANGING).map(|_| app.pending_order())).await;
    let order = app.pending_order().await;
    let hanging = join_all(orders.iter().map(|order| app.pay(order, order, "pm_card_slow")));
    let other = async {
        gateway.until_sent(HANGING).await;
        app.pay("lost", &order, "pm_card_lost_reply").await.expect(202);
        // The forty become due now, so that they are hanging when the other charge becomes due.
        let before = gateway.sendings();
        app.execute("UPDATE external_calls SET next_attempt_at = now() WHERE key <> 'lost' AND resolved_at IS NULL");
        let millis = |column: &str| {
            let millis =
                format!("(extract(epoch FROM {column}) * 1000)::bigint AS n FROM external_calls WHERE key = 'lost'");
            number(&app.database, &millis)
        };
        let due = millis("next_attempt_at");
        gateway.until_sent(before + HANGING).await;
        eventually("the lost reply is resolved", || app.count("charges WHERE status = 'succeeded'") == 1).await;
        millis("resolved_at") - due
    };

    let (hanging, delay) = tokio::join!(hanging, other);

    assert!(hanging.iter().all(|answer| answer.status == 202));
    assert_eq!(gateway.captures(), 1, "a hanging capture has ended");
    assert!(delay < 2000, "resolved {delay} ms after it was due");
    background.abort();
}

#[tokio::test]
async fn one_key_of_two_accounts_is_two_captures() {
    let gateway = Scripted::open();
    let app = api_of(&gateway);
    for account in [ACME, GLOBEX] {
        let order = app.post_as(account, "/v1/orders", "o", one_item("sticker", 1)).await.expect(201).id();
        let body = json!({"order_id": order, "payment_method": "pm_card_visa"});
        app.post_as(account, "/v1/charges", "k", body).await.expect(201);
    }

    assert_eq!(gateway.captures(), 2);
}
