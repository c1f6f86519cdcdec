//! A cancellation of an order gives the stock back once.

use serde_json::json;
use uuid::Uuid;

use crate::app::{ACME, Answer, App, GLOBEX};
use crate::support::execute;

/// Creates an order of three stickers. The stock is ten.
async fn order_of_three(app: &App) -> Answer {
    app.order("order", "sticker", 3).await.expect(201)
}

async fn cancel(app: &App, account: &str, key: &str, order: &Answer) -> Answer {
    let path = format!("{}/cancel", order.header("Location").unwrap());
    app.post_as(account, &path, key, json!({})).await
}

fn reserved(app: &App) -> i64 {
    crate::support::number(&app.database, "sum(reserved)::bigint AS n FROM products")
}

#[tokio::test]
async fn a_cancellation_gives_the_stock_back_and_writes_its_event() {
    let app = App::start_with_pool(2).await;
    let order = order_of_three(&app).await;
    assert_eq!(reserved(&app), 3);

    let canceled = cancel(&app, ACME, "cancel", &order).await.expect(200);

    let mut expected = order.json();
    expected["status"] = json!("canceled");
    assert_eq!(canceled.json(), expected);
    assert_eq!(app.get(order.header("Location").unwrap()).await.json(), expected);
    assert_eq!(reserved(&app), 0);
    let event = format!("events WHERE type = 'order.canceled' AND data::jsonb = '{expected}'::jsonb");
    assert_eq!(app.count(&event), 1);
}

#[tokio::test]
async fn a_retry_of_a_cancellation_replays_and_gives_nothing_back_again() {
    let app = App::start_with_pool(2).await;
    let order = order_of_three(&app).await;
    app.order("another", "sticker", 4).await.expect(201);

    let first = cancel(&app, ACME, "cancel", &order).await.expect(200);
    let retry = cancel(&app, ACME, "cancel", &order).await.expect(200);

    assert_eq!(retry.reply(), first.reply());
    assert!(!first.is_replay() && retry.is_replay());
    assert_eq!(reserved(&app), 4);
}

#[tokio::test]
async fn an_order_is_canceled_once_whatever_the_key() {
    let app = App::start_with_pool(2).await;
    let order = order_of_three(&app).await;
    cancel(&app, ACME, "cancel", &order).await.expect(200);

    cancel(&app, ACME, "another", &order).await.expect_problem(409, "order-not-cancelable");

    assert_eq!(reserved(&app), 0);
    assert_eq!(app.count("events WHERE type = 'order.canceled'"), 1);
}

#[tokio::test]
async fn of_many_cancellations_at_once_one_succeeds() {
    let app = App::start_with_pool(4).await;
    let order = order_of_three(&app).await;
    let path = format!("{}/cancel", order.header("Location").unwrap());

    let answers = app.patient().at_once(12, |app, number| {
        let path = path.clone();
        async move { app.post(&path, &format!("key-{number}"), json!({})).await }
    });
    let answers = answers.await;

    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    for lost in answers.into_iter().filter(|answer| answer.status != 200) {
        lost.expect_problem(409, "order-not-cancelable");
    }
    assert_eq!(reserved(&app), 0);
}

#[tokio::test]
async fn one_key_may_cancel_two_orders_because_its_scope_is_the_order() {
    let app = App::start_with_pool(2).await;
    let (one, other) = (order_of_three(&app).await, app.order("other", "sticker", 1).await.expect(201));

    for order in [one, other] {
        assert!(!cancel(&app, ACME, "same-key", &order).await.expect(200).is_replay());
    }
    assert_eq!(reserved(&app), 0);
}

#[tokio::test]
async fn a_cancellation_needs_no_body_and_no_content_type() {
    let app = App::start_with_pool(2).await;
    let order = order_of_three(&app).await;
    let path =
        format!("{}/cancel", order.header("Location").unwrap().to_uppercase().replace("/V1/ORDERS", "/v1/orders"));

    let without = crate::app::send(app.request("POST", &path).header("Idempotency-Key", "cancel")).await.expect(200);
    let with = cancel(&app, ACME, "cancel", &order).await.expect(200);

    // Neither `{}` nor the spelling of the id makes another request.
    assert_eq!(with.reply(), without.reply());
    assert!(with.is_replay());
}

#[tokio::test]
async fn an_order_of_another_account_cannot_be_canceled() {
    let app = App::start_with_pool(2).await;
    let order = order_of_three(&app).await;
    let before = app.rows();

    cancel(&app, GLOBEX, "cancel", &order).await.expect_problem(404, "not-found");
    let nowhere = format!("/v1/orders/{}/cancel", Uuid::nil());
    app.post(&nowhere, "cancel", json!({})).await.expect_problem(404, "not-found");

    assert_eq!(app.rows(), before);
    assert_eq!(reserved(&app), 3);
}

#[tokio::test]
async fn an_order_whose_payment_is_in_progress_cannot_be_canceled_yet() {
    let app = App::start_with_pool(2).await;
    let order = order_of_three(&app).await;
    execute(
        &app.database,
        "INSERT INTO charges (account_id, id, order_id, status, amount, currency, payment_method, reference, \
           idempotency_key, request_id) \
         SELECT account_id, gen_random_uuid(), id, 'processing', amount, currency, 'pm_card_visa', repeat('a', 64), \
           'charge', gen_random_uuid() FROM orders",
    );

    let refused = cancel(&app, ACME, "cancel", &order).await.expect_problem(409, "payment-in-progress");

    assert_eq!(refused.header("Retry-After"), Some("1"));
    assert_eq!(reserved(&app), 3);
    // The refusal was not stored: when the charge has failed, the same key cancels the order.
    execute(&app.database, "UPDATE charges SET status = 'failed', failure_code = 'card_declined'");
    assert!(!cancel(&app, ACME, "cancel", &order).await.expect(200).is_replay());
}
