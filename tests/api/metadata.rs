//! Metadata: the client's own data comes back everywhere as it was sent, and means nothing to the server.

use idempotent_payments::shop::erasure::{Erased, Mode, erase_customer};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::app::{Answer, App, Client};
use crate::binary::printed;
use crate::paying::until_final;
use crate::support::connect;

/// An order with this metadata.
fn order_with(metadata: &Value) -> Value {
    json!({"customer": "ada", "items": [{"sku": "pro-monthly", "quantity": 1}], "metadata": metadata})
}

async fn order(app: &Client, key: &str, metadata: &Value) -> Answer {
    app.post("/v1/orders", key, order_with(metadata)).await
}

async fn charge(app: &Client, key: &str, order: &str, payment_method: &str, metadata: &Value) -> Answer {
    let body = json!({"order_id": order, "payment_method": payment_method, "metadata": metadata});
    app.post("/v1/charges", key, body).await
}

#[tokio::test]
async fn metadata_comes_back_in_answers_lists_and_events() {
    let app = App::start().await;
    let (of_order, of_charge, of_refund) =
        (json!({"number": "A-1001", "a": "\"\u{1f9e6}"}), json!({"invoice": "7"}), json!({"reason": "damaged"}));
    let made = order(&app, "o", &of_order).await.expect(201);
    let paid = charge(&app, "c", &made.id(), "pm_card_visa", &of_charge).await.expect(201);
    let refunds = format!("/v1/charges/{}/refunds", paid.id());
    let refunded = app.post(&refunds, "r", json!({"metadata": of_refund})).await.expect(201);

    for (answer, metadata, list) in
        [(&made, &of_order, "/v1/orders"), (&paid, &of_charge, "/v1/charges"), (&refunded, &of_refund, &*refunds)]
    {
        assert_eq!(&answer.json()["metadata"], metadata);
        assert_eq!(&app.member(answer.header("Location").unwrap(), "metadata").await, metadata);
        assert_eq!(&app.get(list).await.expect(200).json()["data"][0]["metadata"], metadata, "{list}");
    }
    let events = app.get("/v1/events?limit=100").await.expect(200).json();
    let told: Vec<_> =
        events["data"].as_array().unwrap().iter().filter(|event| !event["data"]["metadata"].is_null()).collect();
    let told: Vec<_> = told.iter().map(|event| (event["type"].as_str().unwrap(), &event["data"]["metadata"])).collect();
    let expected = [
        ("order.created", &of_order),
        ("charge.succeeded", &of_charge),
        ("order.paid", &of_order),
        ("refund.succeeded", &of_refund),
        ("order.refunded", &of_order),
    ];
    // The events of one transaction may be in any order.
    assert_eq!(told.len(), expected.len(), "{told:?}");
    assert!(expected.iter().all(|event| told.contains(event)), "{told:?}");
    // The call to the gateway contains none of it.
    assert_eq!(app.count("external_calls WHERE call::text ~ 'A-1001|invoice|damaged'"), 0);
}

#[tokio::test]
async fn without_metadata_the_map_is_empty_and_a_decline_keeps_it() {
    let app = App::start().await;
    let pending = app.pending_order().await;
    assert_eq!(app.member(&format!("/v1/orders/{pending}"), "metadata").await, json!({}));
    assert_eq!(app.count("orders WHERE metadata = '{}'"), 1);
    let kept = json!({"invoice": "7"});
    let declined = charge(&app, "c", &pending, "pm_card_visa_chargeDeclined", &kept).await.expect(402);
    assert_eq!(app.member(declined.json()["instance"].as_str().unwrap(), "metadata").await, kept);
    let processing = charge(&app, "c2", &pending, "pm_card_lost_reply", &kept).await.expect(202);
    assert_eq!(processing.json()["metadata"], kept);
    let last = until_final(async || charge(&app, "c2", &pending, "pm_card_lost_reply", &kept).await).await;
    assert_eq!((last.status, &last.json()["metadata"]), (201, &kept));
}

#[tokio::test]
async fn metadata_belongs_to_the_request_that_a_key_names() {
    let app = App::start_with_pool(2).await;
    let made = order(&app, "k", &json!({"a": "1", "b": "2"})).await.expect(201);

    let same = order(&app, "k", &json!({"b": "2", "c": null, "a": "1"})).await.expect(201);
    assert!(same.is_replay());
    assert_eq!(same.body, made.body);
    order(&app, "k", &json!({"a": "1", "b": "3"})).await.expect_problem(422, "idempotency-key-reused");
    order(&app, "k", &json!({"a": "1"})).await.expect_problem(422, "idempotency-key-reused");
    order(&app, "k", &json!({})).await.expect_problem(422, "idempotency-key-reused");
}

#[tokio::test]
async fn all_faults_of_metadata_have_pointers() {
    let app = App::start_with_pool(2).await;
    let many = |count: usize| (0..count).map(|n| (format!("{n:0>40}"), json!("\u{1f9e6}".repeat(500)))).collect();
    order(&app, "largest", &Value::Object(many(20))).await.expect(201);
    let (map, key) = ("/metadata", "/metadata/a~1b");
    let vectors = [
        (json!([]), map, "must be an object"),
        (json!("x"), map, "must be an object"),
        (Value::Object(many(21)), map, "must have at most 20 keys"),
        (json!({"k".repeat(41): "x"}), map, "every key must have at most 40 characters"),
        (json!({"": "x"}), map, "every key must have at least 1 character"),
        (json!({"a\n": "x"}), map, "every key must not have control characters"),
        (json!({"a/b": ""}), key, "must have at least 1 character"),
        (json!({"a/b": "x".repeat(501)}), key, "must have at most 500 characters"),
        (json!({"a/b": "\0"}), key, "must not have control characters"),
        (json!({"a/b": 7}), key, "must be a string"),
        (json!({"a/b": ["x"]}), key, "must be a string"),
        (json!({"a/b": {"c": "x"}}), key, "must be a string"),
    ];
    for (metadata, pointer, detail) in vectors {
        let refused = order(&app, "k", &metadata).await.expect_problem(422, "invalid-request");
        assert_eq!(refused.json()["errors"], json!([{"pointer": pointer, "detail": detail}]), "{metadata}");
    }
    let several = json!({"a": 1, "b": "x", "c": [], "k".repeat(41): "x"});
    let body = json!({"order_id": 7, "payment_method": "", "metadata": several});
    let refused = app.post("/v1/charges", "k", body).await.expect_problem(422, "invalid-request");
    assert_eq!(refused.pointers(), ["/metadata", "/metadata/a", "/metadata/c", "/order_id", "/payment_method"]);
    let numbers: serde_json::Map<_, _> = (0..25).map(|n| (format!("{n}"), json!(n))).collect();
    let refused = order(&app, "k", &Value::Object(numbers)).await.expect_problem(422, "invalid-request");
    assert_eq!(refused.pointers().len(), 20);
    assert_eq!(app.count("orders"), 1);
}

#[tokio::test]
async fn the_tables_take_only_maps() {
    let app = App::start().await;
    let paid = app.paid_charge().await;
    app.refund("r", &paid, None).await.expect(201);
    for table in ["orders", "charges", "refunds"] {
        let wrong = format!("UPDATE {table} SET metadata = '[]'");
        let mut conn = crate::support::connect(&app.database);
        let fault = diesel::connection::SimpleConnection::batch_execute(&mut conn, &wrong).unwrap_err();
        assert!(fault.to_string().contains(&format!("{table}_metadata_is_an_object")), "{fault}");
    }
}

#[tokio::test]
async fn metadata_that_names_an_erased_customer_stays_in_another_customers_reply() {
    let app = App::start_with_pool(2).await;
    let of_bob = json!({
        "customer": "bob", "items": [{"sku": "pro-monthly", "quantity": 1}], "metadata": {"customer": "ada", "a": "1"},
    });
    let made = app.post("/v1/orders", "bob", of_bob.clone()).await.expect(201);
    order(&app, "ada", &json!({"a": "1"})).await.expect(201);

    printed(&app.database, &["erase-customer", "acme", "ada", "--yes"]);

    let again = app.post("/v1/orders", "bob", of_bob).await.expect(201);
    assert!(again.is_replay());
    assert_eq!(again.body, made.body);
    assert_eq!(app.count("idempotency_keys WHERE convert_from(body, 'UTF8') LIKE '%\"customer\":\"erased-%'"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_of_a_charge_that_is_made_during_the_erasure_is_erased_too() {
    let app = App::start().await;
    let private = json!({"note": "Lovelace"});
    let id = order(&app, "o", &json!({})).await.expect(201).id();
    // The demo's first account.
    let account = Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0001);
    let mut paid = false;
    let pays_once = |_: &Erased| {
        if !std::mem::replace(&mut paid, true) {
            let pays = charge(&app, "c", &id, "pm_card_visa", &private);
            tokio::task::block_in_place(|| Handle::current().block_on(pays)).expect(201);
        }
    };

    erase_customer(&mut connect(&app.database), account, "ada", &Mode::rename(), pays_once).unwrap();

    for (table, text) in
        [("charges", "metadata::text"), ("events", "data::text"), ("idempotency_keys", "convert_from(body, 'UTF8')")]
    {
        assert_eq!(app.count(&format!("{table} WHERE {text} LIKE '%Lovelace%'")), 0, "{table}");
    }
}

#[tokio::test]
async fn metadata_is_erased_with_the_customer() {
    let app = App::start().await;
    let private = json!({"metadata": "Lovelace", "note": "\"metadata\":{\"\\"});
    let made = order(&app, "o", &private).await.expect(201);
    let paid = charge(&app, "c", &made.id(), "pm_card_visa", &private).await.expect(201);
    let refunds = format!("/v1/charges/{}/refunds", paid.id());
    let refunded = app.post(&refunds, "r", json!({"metadata": private})).await.expect(201);
    let other = json!({"customer": "bob", "items": [{"sku": "sticker", "quantity": 1}], "metadata": private});
    app.post("/v1/orders", "other", other).await.expect(201);

    printed(&app.database, &["erase-customer", "acme", "ada", "--yes"]);

    for (table, text, left) in [
        ("orders", "metadata::text", 1),
        ("charges", "metadata::text", 0),
        ("refunds", "metadata::text", 0),
        ("events", "data::text", 1),
        ("idempotency_keys", "convert_from(body, 'UTF8')", 1),
    ] {
        assert_eq!(app.count(&format!("{table} WHERE {text} LIKE '%Lovelace%'")), left, "{table}");
    }
    // A retry gets its reply without the metadata. The books stay.
    let again = charge(&app, "c", &made.id(), "pm_card_visa", &private).await.expect(201);
    assert!(again.is_replay());
    assert_eq!(again.json()["metadata"], json!({}));
    assert_eq!(again.body, paid.body.replace(&private.to_string(), "{}"));
    let again = app.post(&refunds, "r", json!({"metadata": private})).await.expect(201);
    assert_eq!(again.body, refunded.body.replace(&private.to_string(), "{}"));
    let of_bob = app.get("/v1/orders?customer=bob").await.expect(200).json();
    assert_eq!(of_bob["data"][0]["metadata"], private);
}
