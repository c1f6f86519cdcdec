//! `GET /v1/idempotency-keys` lists the records of an account.

use std::cell::RefCell;

use diesel::connection::SimpleConnection;
use idempotency::rewrite_replies;
use serde_json::json;
use uuid::Uuid;

use crate::app::{App, GLOBEX, send};
use crate::support::{connect, execute};

#[tokio::test]
async fn a_record_says_what_a_retry_will_do() {
    let app = App::start().await;
    let order = app.order("resolved", "sticker", 1).await.expect(201);
    let charge = json!({"order_id": order.json()["id"], "payment_method": "pm_card_lost_reply"});
    let unknown = app.post("/v1/charges", "unknown", charge).await.expect(202);
    app.order("old", "sticker", 1).await.expect(201);
    execute(&app.database, "UPDATE idempotency_keys SET expires_at = now() WHERE key = 'old'");

    let page = app.get("/v1/idempotency-keys").await.expect(200).json();
    let records = page["data"].as_array().unwrap();
    let states: Vec<_> = records
        .iter()
        .map(|record| (record["key"].as_str().unwrap(), record["state"].as_str().unwrap(), &record["status"]))
        .collect();
    let (made, provisional) = (json!(201), json!(202));
    let newest_first =
        [("old", "expired", &made), ("unknown", "provisional", &provisional), ("resolved", "final", &made)];
    assert_eq!(states, newest_first);
    assert_eq!(records[1]["route"], "POST /v1/charges");
    assert_eq!(records[1]["scope"], "account");
    assert!(records[1]["expires_at"].is_null());
    let retries: Vec<_> = records.iter().map(|record| record["on_retry"].as_str().unwrap()).collect();
    assert_eq!(retries, ["runs", "waits", "replays"]);
    // Support looks for the location and for the first request's id.
    for (record, answer) in [(&records[1], &unknown), (&records[2], &order)] {
        assert_eq!(record["location"].as_str(), answer.header("Location"));
        assert_eq!(record["request_id"].as_str(), answer.header("X-Request-Id"));
    }
    assert!(records[2].get("body").is_none(), "the list must not show the reply's body");
}

#[tokio::test]
async fn records_are_found_by_key_in_every_key_space_and_paged() {
    let app = App::start().await;
    let order = app.order("k", "sticker", 1).await.expect(201);
    app.post(&format!("{}/cancel", order.header("Location").unwrap()), "k", json!({})).await.expect(200);
    let grant = json!({"customer": "ada", "feature": "pro"});
    app.post("/v1/entitlements", "k", grant.clone()).await.expect(201);
    app.post("/v1/entitlements", "another", grant).await.expect(201);

    let first = app.get("/v1/idempotency-keys?key=k&limit=2").await.expect(200).json();
    assert_eq!(first["has_more"], true);
    assert_eq!(first["data"][0]["scope"], "POST /v1/entitlements");
    let after = first["data"][1]["id"].as_str().unwrap();
    let second = app.get(&format!("/v1/idempotency-keys?key=k&limit=2&after={after}")).await.json();
    assert_eq!((second["data"].as_array().unwrap().len(), second["has_more"].as_bool()), (1, Some(false)));
    assert_eq!(second["data"][0]["route"], "POST /v1/orders");

    let wrong = app.get("/v1/idempotency-keys?key=").await.expect_problem(422, "invalid-request");
    assert_eq!(wrong.pointers(), ["/key"]);
}

#[tokio::test]
async fn an_account_never_lists_anothers_keys() {
    let app = App::start().await;
    app.order("k", "sticker", 1).await.expect(201);
    let answer = send(app.request_as(GLOBEX, "GET", "/v1/idempotency-keys?key=k")).await.expect(200);
    assert_eq!(answer.json(), json!({"data": [], "has_more": false}));
}

#[tokio::test]
async fn after_a_replay_the_record_names_the_first_request() {
    let app = App::start().await;
    let first = app.order("k", "sticker", 1).await.expect(201);
    let retry = app.order("k", "sticker", 1).await.expect(201);
    assert_ne!(first.header("X-Request-Id"), retry.header("X-Request-Id"));

    let page = app.get("/v1/idempotency-keys?key=k").await.expect(200).json();
    assert_eq!(page["data"][0]["request_id"].as_str(), first.header("X-Request-Id"));

    // The charge also names its key and its first request.
    let charge = json!({"order_id": first.json()["id"], "payment_method": "pm_card_visa"});
    let made = app.post("/v1/charges", "pay", charge.clone()).await.expect(201);
    let replayed = app.post("/v1/charges", "pay", charge).await.expect(201);
    let charge = app.get(replayed.header("Location").unwrap()).await.expect(200).json();
    assert_eq!(charge["idempotency_key"], "pay");
    assert_eq!(charge["request_id"].as_str(), made.header("X-Request-Id"));
}

#[tokio::test]
async fn a_record_names_the_api_key_of_its_first_request() {
    let app = App::start().await;
    let made = crate::binary::printed(&app.database, &["key", "create", "acme", "--name", "shop"]);
    let word = |label: &str| made.lines().find_map(|line| line.strip_prefix(label)).unwrap().to_owned();
    let (id, key) = (word("key id "), word("API key "));
    app.post_as(&key, "/v1/orders", "k", crate::app::one_item("sticker", 1)).await.expect(201);
    // The retry comes with another key of the same account.
    assert!(app.order("k", "sticker", 1).await.is_replay());

    let page = app.get("/v1/idempotency-keys?key=k").await.expect(200).json();

    assert_eq!(page["data"][0]["credential"], id);
    execute(&app.database, "UPDATE idempotency_keys SET credential = NULL");
    assert!(app.get("/v1/idempotency-keys?key=k").await.json()["data"][0]["credential"].is_null());
}

/// Otherwise a record that is finalized between the read and the write would get its old reply back.
#[tokio::test]
async fn a_reply_is_locked_while_it_is_rewritten() {
    let app = App::start_with_pool(2).await;
    app.order("k", "sticker", 1).await.expect(201);
    let other = RefCell::new(connect(&app.database));
    other.borrow_mut().batch_execute("SET lock_timeout = '200ms'").unwrap();
    let rewrite = |body: &[u8]| {
        let change = other.borrow_mut().batch_execute("UPDATE idempotency_keys SET location = location");
        assert!(change.is_err_and(|error| error.to_string().contains("lock timeout")), "the record is not locked");
        Some(body.to_vec())
    };

    // The demo's first account.
    let account = Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0001);
    let (_, changed) = rewrite_replies(&mut connect(&app.database), account, Uuid::max(), 10, rewrite).unwrap();

    assert_eq!(changed, 1);
}
