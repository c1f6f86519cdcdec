//! Stock is never oversold, whatever requests run at the same time.

use diesel::connection::SimpleConnection;
use serde_json::{Value, json};

use crate::app::{Answer, App, Client, one_item, terms};
use crate::support::{at_once, connect, eventually_blocked, number};

fn reserved(app: &Client, sku: &str) -> i64 {
    number(&app.database, &format!("reserved AS n FROM products WHERE sku = '{sku}' AND name = 'Mug'"))
}

#[tokio::test]
async fn concurrent_orders_never_oversell() {
    let app = App::start_with_pool(8).await;
    app.product("mug", 10).await.expect(201);

    let answers =
        app.patient().at_once(40, |app, number| async move { app.order(&format!("key-{number}"), "mug", 1).await });
    let answers = answers.await;

    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 10);
    for refused in answers.into_iter().filter(|answer| answer.status != 201) {
        refused.expect_problem(409, "out-of-stock");
    }
    assert_eq!((reserved(&app, "mug"), app.count("orders")), (10, 10));
}

#[tokio::test]
async fn orders_of_the_same_products_in_any_order_do_not_deadlock() {
    let app = App::start_with_pool(8).await;
    for sku in ["mug-1", "mug-2", "mug-3"] {
        app.product(sku, 1_000).await.expect(201);
    }

    let answers = app.patient().at_once(30, |app, number| async move {
        let mut items: Vec<Value> =
            ["mug-1", "mug-2", "mug-3"].iter().map(|sku| json!({"sku": sku, "quantity": 1})).collect();
        items.rotate_left(number % 3);
        app.post("/v1/orders", &format!("key-{number}"), json!({"customer": "ada", "items": items})).await
    });

    assert!(answers.await.iter().all(|answer| answer.status == 201));
    let deadlocks = number(&app.database, "deadlocks AS n FROM pg_stat_database WHERE datname = current_database()");
    assert_eq!((deadlocks, reserved(&app, "mug-1"), reserved(&app, "mug-3")), (0, 30, 30));
}

#[tokio::test]
async fn orders_cancellations_and_restocking_at_once_keep_the_books() {
    let app = App::start_with_pool(8).await;
    app.product("mug", 20).await.expect(201);

    let orders = app.patient().at_once(40, |app, number| async move {
        let order = app.order(&format!("key-{number}"), "mug", 2).await;
        if order.status == 201 && number % 2 == 0 {
            let path = format!("{}/cancel", order.header("Location").unwrap());
            app.post(&path, "cancel", json!({})).await.expect(200);
        }
        order.status
    });
    let restocking = app.patient().at_once(10, |app, _| async move { app.product("mug", 20).await.expect(200).status });
    let (statuses, _) = tokio::join!(orders, restocking);

    assert!(statuses.iter().all(|status| [201, 409].contains(status)), "{statuses:?}");
    let ordered = number(
        &app.database,
        "coalesce(sum((item ->> 'quantity')::bigint), 0)::bigint AS n \
         FROM orders, jsonb_array_elements(items) AS item WHERE status = 'pending'",
    );
    assert_eq!(reserved(&app, "mug"), ordered);
    assert!(ordered <= 20);
}

#[tokio::test]
async fn a_late_retry_of_a_put_never_oversells() {
    let app = App::start_with_pool(2).await;
    app.product("mug", 10).await.expect(201);
    app.order("key-1", "mug", 7).await.expect(201);

    // The PUT sets the total, not the rest.
    app.product("mug", 10).await.expect(200);

    app.order("key-2", "mug", 4).await.expect_problem(409, "out-of-stock");
    app.order("key-3", "mug", 3).await.expect(201);
}

/// Orders two mugs. The order waits for the product's row while the product changes.
async fn order_while(app: &App, change: &str) -> Answer {
    let mut other = connect(&app.database);
    other.batch_execute(&format!("BEGIN; UPDATE products SET {change} WHERE sku = 'mug'")).unwrap();
    let (answer, ()) = tokio::join!(app.order("key", "mug", 2), async {
        eventually_blocked(&app.database, 1).await;
        other.batch_execute("COMMIT").unwrap();
    });
    answer
}

#[tokio::test]
async fn an_order_that_waited_while_its_product_sold_out_is_out_of_stock() {
    let app = App::start_with_pool(2).await;
    app.product("mug", 10).await.expect(201);

    let answer = order_while(&app, "reserved = 9").await.expect_problem(409, "out-of-stock");

    assert_eq!(answer.json()["available"], 1);
    assert_eq!((reserved(&app, "mug"), app.count("orders"), app.count("idempotency_keys")), (9, 0, 0));
}

#[tokio::test]
async fn an_order_that_waited_while_its_product_became_unlimited_reserves_nothing_of_it() {
    let app = App::start_with_pool(2).await;
    app.product("mug", 10).await.expect(201);

    let order = order_while(&app, "stock = NULL").await.expect(201);

    assert_eq!((reserved(&app, "mug"), app.count("orders")), (0, 1));
    // A cancellation gives nothing back.
    app.post(&format!("{}/cancel", order.header("Location").unwrap()), "cancel", json!({})).await.expect(200);
    assert_eq!(reserved(&app, "mug"), 0);
}

#[tokio::test]
async fn an_unlimited_product_is_never_a_hot_row() {
    let app = App::start_with_pool(2).await;
    let mut other = connect(&app.database);
    other.batch_execute("BEGIN; SELECT FROM products WHERE sku = 'pro-monthly' FOR UPDATE").unwrap();

    // If the order needed the row's lock, it would wait and fail.
    app.order("key", "pro-monthly", 1).await.expect(201);
}

#[tokio::test]
async fn stock_becomes_unlimited_and_limited_again() {
    let app = App::start_with_pool(2).await;
    app.product("mug", 10).await.expect(201);
    let limited = app.order("key-1", "mug", 6).await.expect(201);
    app.product("mug", None).await.expect(200);
    let unlimited = app.order("key-2", "mug", 100).await.expect(201);
    assert_eq!(reserved(&app, "mug"), 6);

    // The order from the time without a limit reserved nothing, and its cancellation gives nothing back.
    app.product("mug", 5).await.expect_problem(409, "out-of-stock");
    app.product("mug", 8).await.expect(200);
    app.order("key-3", "mug", 3).await.expect_problem(409, "out-of-stock");
    for order in [unlimited, limited] {
        let path = format!("{}/cancel", order.header("Location").unwrap());
        app.post(&path, "cancel", json!({})).await.expect(200);
    }

    assert_eq!(reserved(&app, "mug"), 0);
    app.order("key-4", "mug", 8).await.expect(201);
}

#[tokio::test]
async fn stock_set_for_the_first_time_starts_with_nothing_reserved() {
    let app = App::start_with_pool(2).await;
    app.product("mug", None).await.expect(201);
    app.order("key-1", "mug", 100).await.expect(201);

    app.product("mug", 1).await.expect(200);

    app.order("key-2", "mug", 1).await.expect(201);
    app.order("key-3", "mug", 1).await.expect_problem(409, "out-of-stock");
}

#[tokio::test]
async fn two_servers_never_oversell_either() {
    let one = App::start_with_pool(4).await;
    let other = App::start_on(one.database.clone(), 4).await;
    one.product("mug", 10).await.expect(201);
    let servers = [Client::clone(&one), Client::clone(&other)];

    let answers = at_once(30, move |number| {
        let server = servers[number % 2].clone();
        async move { server.post("/v1/orders", &format!("key-{number}"), one_item("mug", 1)).await.status }
    });

    assert_eq!(answers.await.iter().filter(|status| **status == 201).count(), 10);
    assert_eq!(one.put("/v1/products/mug", terms(10)).await.expect(200).json()["reserved"], 10);
}
