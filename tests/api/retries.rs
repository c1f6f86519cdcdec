//! Retries and duplicates over HTTP.

use serde_json::json;

use crate::app::{ACME, App, Client, GLOBEX, one_item};
use crate::support::{at_once, fresh_database};

#[tokio::test]
async fn a_retry_gets_the_first_reply_byte_for_byte() {
    let app = App::start_with_pool(2).await;

    let first = app.order("key", "sticker", 1).await.expect(201);
    let retry = app.order("key", "sticker", 1).await.expect(201);

    assert_eq!(retry.reply(), first.reply());
    assert_eq!(retry.header("Idempotency-Expires"), first.header("Idempotency-Expires"));
    assert!(!first.is_replay() && retry.is_replay());
    assert_ne!(retry.header("X-Request-Id"), first.header("X-Request-Id"));
    assert_eq!((app.count("orders"), app.count("events WHERE type = 'order.created'")), (1, 1));
}

/// In one process, the duplicates wait for the first request. Each gets the first reply, and none is refused. Must fail
/// if a duplicate gets `idempotency-request-in-flight` at once.
#[tokio::test]
async fn a_hundred_duplicates_on_a_pool_of_four_make_one_order_and_each_gets_its_reply() {
    let app = App::start_with_pool(4).await;

    let answers =
        app.patient().at_once(100, |app, _| async move { app.order("key", "sticker", 1).await.expect(201) }).await;

    let fresh: Vec<_> = answers.iter().filter(|answer| !answer.is_replay()).collect();
    assert_eq!(fresh.len(), 1);
    assert!(answers.iter().all(|answer| answer.reply() == fresh[0].reply()), "{answers:?}");
    assert_eq!((app.count("orders"), app.count("idempotency_keys")), (1, 1));
    assert_eq!(app.get("/v1/products/sticker").await.json()["reserved"], 1);
}

#[tokio::test]
async fn two_servers_share_a_storm_of_duplicates() {
    let database = fresh_database();
    let (one, other) = (App::start_on(database.clone(), 4).await, App::start_on(database, 4).await);
    let servers = [Client::clone(&one), Client::clone(&other)];

    let answers = at_once(100, move |number| {
        let server = servers[number % 2].clone();
        async move { server.patient().order("key", "sticker", 1).await }
    });
    let answers = answers.await;

    let first = answers.iter().find(|answer| answer.status == 201 && !answer.is_replay()).unwrap();
    for answer in &answers {
        assert!(answer.status == 409 || answer.reply() == first.reply(), "{answer:?}");
        assert!(answer.status != 409 || answer.problem() == "idempotency-request-in-flight", "{answer:?}");
    }
    assert_eq!(answers.iter().filter(|answer| answer.status == 201 && !answer.is_replay()).count(), 1);
    assert_eq!((one.count("orders"), one.count("idempotency_keys")), (1, 1));
    assert_eq!(other.order("key", "sticker", 1).await.reply(), first.reply());
}

#[tokio::test]
async fn a_storm_of_many_keys_makes_one_order_each() {
    let app = App::start_with_pool(4).await;

    let answers = app.patient().at_once(120, |app, number| async move {
        let key = number % 30;
        (key, app.order(&format!("key-{key}"), "pro-monthly", 1).await.expect(201))
    });
    let answers = answers.await;

    for (key, answer) in &answers {
        let (_, same) = answers.iter().find(|(other, _)| other == key).unwrap();
        assert_eq!(answer.body, same.body);
    }
    assert_eq!((app.count("orders"), app.count("idempotency_keys")), (30, 30));
}

#[tokio::test]
async fn a_key_sent_with_another_body_is_refused_and_changes_nothing() {
    let app = App::start_with_pool(2).await;
    let first = app.order("key", "sticker", 1).await.expect(201);
    let before = app.rows();

    app.order("key", "sticker", 2).await.expect_problem(422, "idempotency-key-reused");

    assert_eq!(app.rows(), before);
    assert_eq!(app.order("key", "sticker", 1).await.reply(), first.reply());
}

#[tokio::test]
async fn an_account_wide_key_and_a_resources_key_do_not_meet() {
    let app = App::start_with_pool(2).await;
    let order = app.order("key", "sticker", 1).await.expect(201);
    let path = format!("{}/cancel", order.header("Location").unwrap());

    // Another route with another scope has another key space.
    assert!(!app.post(&path, "key", json!({})).await.expect(200).is_replay());

    assert_eq!(app.order("key", "sticker", 1).await.reply(), order.reply());
    assert_eq!(app.count("idempotency_keys WHERE key = 'key'"), 2);
}

#[tokio::test]
async fn the_same_key_of_two_accounts_is_two_keys() {
    let app = App::start_with_pool(4).await;

    let mut orders = Vec::new();
    for account in [ACME, GLOBEX] {
        let order = app.post_as(account, "/v1/orders", "key", one_item("sticker", 1)).await.expect(201);
        assert!(!order.is_replay());
        orders.push(order);
    }

    assert_ne!(orders[0].json()["id"], orders[1].json()["id"]);
    // The API does not compare the body with the other account's body under the same key.
    app.post_as(GLOBEX, "/v1/orders", "key-2", one_item("sticker", 1)).await.expect(201);
    app.post_as(ACME, "/v1/orders", "key-2", one_item("sticker", 2)).await.expect(201);
    assert_eq!((app.count("orders"), app.count("idempotency_keys")), (4, 4));
}

#[tokio::test]
async fn an_order_that_was_out_of_stock_succeeds_with_its_key_after_a_restock() {
    let app = App::start_with_pool(2).await;
    app.product("mug", 1).await.expect(201);
    let failed = app.order("key", "mug", 2).await.expect_problem(409, "out-of-stock");
    assert_eq!(failed.header("Idempotency-Expires"), None);

    app.product("mug", 2).await.expect(200);
    let order = app.order("key", "mug", 2).await.expect(201);

    assert!(!order.is_replay());
    assert_eq!(app.order("key", "mug", 2).await.reply(), order.reply());
}

#[tokio::test]
async fn a_request_that_never_ran_leaves_its_key_free() {
    let app = App::start_with_pool(2).await;

    app.order("key", "sticker", 0).await.expect_problem(422, "invalid-request");
    app.order("key", "unheard-of", 1).await.expect_problem(422, "unknown-product");

    assert!(!app.order("key", "sticker", 1).await.expect(201).is_replay());
}

#[tokio::test]
async fn a_bare_key_and_a_quoted_key_are_the_same_key() {
    let app = App::start_with_pool(2).await;

    let bare = app.order("key", "sticker", 1).await.expect(201);
    for spelling in ["\"key\"", "  key ", "\"key\";v=1"] {
        let retry = app.order(spelling, "sticker", 1).await.expect(201);
        assert_eq!(retry.reply(), bare.reply(), "{spelling}");
    }
    assert_eq!(app.count("orders"), 1);
}

#[tokio::test]
async fn another_server_replays_the_reply_of_a_server_that_is_gone() {
    let database = fresh_database();
    let first = App::start_on(database.clone(), 2).await;
    let order = first.order("key", "sticker", 1).await.expect(201);
    drop(first);

    let retry = App::start_on(database, 2).await.order("key", "sticker", 1).await;

    assert_eq!(retry.reply(), order.reply());
    assert!(retry.is_replay());
}
