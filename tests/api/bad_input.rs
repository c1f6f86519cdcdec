//! Bad input gets a clear problem and changes nothing.

use serde_json::{Value, json};

use crate::app::{Answer, App, Client, one_item, send, terms};
use crate::support::execute;

/// Posts an order as it is written here.
async fn post_raw(app: &Client, body: impl Into<reqwest::Body>) -> Answer {
    let request = app.request("POST", "/v1/orders").header("Idempotency-Key", "key");
    send(request.header("Content-Type", "application/json").body(body)).await
}

/// Nothing was done, and the key is free.
async fn expect_nothing_changed(app: &Client, before: Vec<i64>) {
    assert_eq!(app.rows(), before);
    assert!(!app.order("key", "sticker", 1).await.expect(201).is_replay());
}

#[tokio::test]
async fn what_is_not_json_is_malformed() {
    let app = App::start_with_pool(2).await;
    let before = app.rows();
    let (open, close) = ("[".repeat(10_000), "]".repeat(10_000));
    let bodies = [
        "{",
        "not json",
        r#"{"customer":"ada","items":[{"sku":"sticker","quantity":1}]} x"#,
        r#"{"customer":"ada","items":[{"sku":"sticker","quantity":1}]}{}"#,
        r#"{"customer":"ada","items":[{"sku":"sticker","quantity":1}],}"#,
        r#"{"customer":"ada","customer":"bob","items":[{"sku":"sticker","quantity":1}]}"#,
        r#"{"customer":"ada","items":[{"sku":"sticker","sku":"sticker","quantity":1}]}"#,
        r#"{"customer":"\ud800","items":[{"sku":"sticker","quantity":1}]}"#,
        r#"{"customer":"\udc00\ud800","items":[{"sku":"sticker","quantity":1}]}"#,
        r#"{"customer":"ada","items":[{"sku":"sticker","quantity":1e400}]}"#,
        r#"{"customer":"ada","items":[{"sku":"sticker","quantity":NaN}]}"#,
        r#"{"customer":"ada","items":[{"sku":"sticker","quantity":01}]}"#,
        "{\"customer\":\"a\nb\",\"items\":[{\"sku\":\"sticker\",\"quantity\":1}]}",
        &open,
        &format!("{open}{close}"),
    ];

    for body in bodies {
        post_raw(&app, body.to_owned()).await.expect_problem(400, "malformed-request");
    }
    post_raw(&app, b"{\"customer\":\"\xff\"}".to_vec()).await.expect_problem(400, "malformed-request");

    expect_nothing_changed(&app, before).await;
}

#[tokio::test]
async fn an_order_of_the_wrong_shape_is_told_where() {
    let app = App::start_with_pool(2).await;
    let before = app.rows();
    let item = |item: Value| json!({"customer": "ada", "items": [{"sku": "sticker", "quantity": 1}, item]});
    let customer = |name: &str| json!({"customer": name, "items": [{"sku": "sticker", "quantity": 1}]});
    let quantity = |quantity: Value| item(json!({"sku": "pro-monthly", "quantity": quantity}));
    let sku = |sku: &str| item(json!({"sku": sku, "quantity": 1}));
    let many: Vec<_> = (0..101).map(|number| json!({"sku": format!("s{number}"), "quantity": 1})).collect();
    let vectors = [
        (json!({}), "/customer"),
        (json!({"customer": "ada"}), "/items"),
        (json!({"customer": null, "items": []}), "/customer"),
        (json!({"customer": 7, "items": []}), "/customer"),
        (json!({"customer": "ada", "items": []}), "/items"),
        (json!({"customer": "ada", "items": {}}), "/items"),
        (json!({"customer": "ada", "items": many}), "/items"),
        (json!({"customer": "ada", "items": [], "coupon": "x"}), "/coupon"),
        (json!({"customer": "ada", "items": [], "a/b~c": "x"}), "/a~1b~0c"),
        (customer(""), "/customer"),
        (customer(&"x".repeat(256)), "/customer"),
        (customer("a\0b"), "/customer"),
        (customer("a\u{7f}b"), "/customer"),
        (item(json!({"quantity": 1})), "/items/1/sku"),
        (item(json!({"sku": "pro-monthly"})), "/items/1/quantity"),
        (item(json!({"sku": "pro-monthly", "quantity": 1, "price": 1})), "/items/1/price"),
        (item(json!("sticker")), "/items/1"),
        (sku(""), "/items/1/sku"),
        (sku(&"x".repeat(65)), "/items/1/sku"),
        (sku("a b"), "/items/1/sku"),
        (sku("a\0"), "/items/1/sku"),
        (sku("sticker"), "/items"),
        (quantity(json!(0)), "/items/1/quantity"),
        (quantity(json!(-1)), "/items/1/quantity"),
        (quantity(json!(10_001)), "/items/1/quantity"),
        (quantity(json!(4_294_967_297_i64)), "/items/1/quantity"),
        (quantity(json!(9_007_199_254_740_992_i64)), "/items/1/quantity"),
        (quantity(json!(u64::MAX)), "/items/1/quantity"),
        (quantity(json!(1.5)), "/items/1/quantity"),
        (quantity(json!("1")), "/items/1/quantity"),
        (quantity(json!(null)), "/items/1/quantity"),
        (quantity(json!(true)), "/items/1/quantity"),
        (json!([]), ""),
        (json!("ada"), ""),
        (json!(null), ""),
    ];

    for (body, pointer) in vectors {
        let answer = post_raw(&app, body.to_string()).await.expect_problem(422, "invalid-request");
        assert_eq!(answer.pointers(), [pointer], "{body} {answer:?}");
    }

    expect_nothing_changed(&app, before).await;
}

#[tokio::test]
async fn everything_that_is_out_of_range_is_told_at_once() {
    let app = App::start_with_pool(2).await;
    let body = r#"{"customer":"","items":[{"sku":"a b","quantity":0},{"sku":"sticker","quantity":-5}]}"#;

    let answer = post_raw(&app, body).await.expect_problem(422, "invalid-request");

    assert_eq!(answer.pointers(), ["/customer", "/items/0/quantity", "/items/0/sku", "/items/1/quantity"]);
}

#[tokio::test]
async fn orders_that_the_catalogue_can_not_fill_change_nothing() {
    let app = App::start_with_pool(2).await;
    let dollars = json!({"name": "Mug", "unit_amount": 1, "currency": "USD", "stock": 5});
    app.put("/v1/products/dollar-mug", dollars).await.expect(201);
    execute(&app.database, "UPDATE products SET reserved = 0");
    let before = app.rows();
    let order = |skus: [&str; 2]| {
        let items: Vec<_> = skus.iter().map(|sku| json!({"sku": sku, "quantity": 1})).collect();
        app.post("/v1/orders", "key", json!({"customer": "ada", "items": items}))
    };

    order(["sticker", "dollar-mug"]).await.expect_problem(422, "mixed-currencies");
    let unknown = order(["sticker", "unheard-of"]).await.expect_problem(422, "unknown-product");
    assert_eq!(unknown.json()["sku"], "unheard-of");
    // The other account's products are not for sale.
    execute(&app.database, "UPDATE products SET account_id = gen_random_uuid() WHERE sku = 'credits-1000'");
    order(["sticker", "credits-1000"]).await.expect_problem(422, "unknown-product");

    expect_nothing_changed(&app, before).await;
}

#[tokio::test]
async fn a_key_that_is_not_one_key_is_refused() {
    let app = App::start_with_pool(2).await;
    let before = app.rows();
    let request = || app.request("POST", "/v1/orders").json(&one_item("sticker", 1));
    let (long, long_quoted) = ("k".repeat(256), format!("\"{}\"", "k".repeat(256)));
    let invalid =
        ["", "  ", "\"\"", &long, &long_quoted, "schl\u{fc}ssel", "a b", "a,b", "a;b", "\"a", "a\"", "\"a\"b"];

    send(request()).await.expect_problem(400, "idempotency-key-missing");
    for key in invalid {
        send(request().header("Idempotency-Key", key)).await.expect_problem(400, "idempotency-key-invalid");
    }
    for second in ["key", "other"] {
        let doubled = request().header("Idempotency-Key", "key").header("Idempotency-Key", second);
        send(doubled).await.expect_problem(400, "idempotency-key-invalid");
    }

    assert_eq!(app.rows(), before);
    app.order(&"k".repeat(255), "sticker", 1).await.expect(201);
}

#[tokio::test]
async fn a_product_of_the_wrong_shape_is_told_where() {
    let app = App::start_with_pool(2).await;
    let before = app.rows();
    let with = |member: &str, value: Value| {
        let mut terms = terms(10);
        terms[member] = value;
        terms
    };
    let grants = |grants: Value| with("grants", grants);
    let vectors = [
        (json!({}), "/name"),
        (with("name", json!("")), "/name"),
        (with("name", json!("x".repeat(201))), "/name"),
        (with("name", json!("a\0b")), "/name"),
        (with("unit_amount", json!(0)), "/unit_amount"),
        (with("unit_amount", json!(-1)), "/unit_amount"),
        (with("unit_amount", json!(100_000_000)), "/unit_amount"),
        (with("unit_amount", json!(1.5)), "/unit_amount"),
        (with("currency", json!("eur")), "/currency"),
        (with("currency", json!("XXQ")), "/currency"),
        (with("currency", json!("EURO")), "/currency"),
        (with("stock", json!(-1)), "/stock"),
        (with("stock", json!(1_000_000_001)), "/stock"),
        (with("stock", json!(9_007_199_254_740_992_i64)), "/stock"),
        (with("colour", json!("red")), "/colour"),
        (grants(json!({})), "/grants/feature"),
        (grants(json!({"feature": "a b"})), "/grants/feature"),
        (grants(json!({"feature": "pro", "units": 0})), "/grants/units"),
        (grants(json!({"feature": "pro", "units": 1_000_000_001})), "/grants/units"),
        (grants(json!({"feature": "pro", "days": 3651})), "/grants/days"),
        (grants(json!({"feature": "pro", "hours": 1})), "/grants/hours"),
    ];

    for (body, pointer) in vectors {
        let answer = app.put("/v1/products/mug", body.clone()).await.expect_problem(422, "invalid-request");
        assert_eq!(answer.pointers(), [pointer], "{body}");
    }

    assert_eq!(app.rows(), before);
}

#[tokio::test]
async fn bad_pages_and_ids_are_refused() {
    let app = App::start_with_pool(2).await;
    for query in ["limit=0", "limit=101", "limit=-1", "limit=x", "limit=", "limit=1.5", "limit=99999999999999999999"] {
        for list in ["/v1/orders", "/v1/products"] {
            let answer = app.get(&format!("{list}?{query}")).await.expect_problem(422, "invalid-request");
            assert_eq!(answer.pointers(), ["/limit"], "{query}");
        }
    }
    for query in ["after=", "after=x", "after=%00", "after=%ff", "after=1%27%20OR%201=1"] {
        app.get(&format!("/v1/orders?{query}")).await.expect_problem(422, "invalid-request");
    }
    app.get("/v1/orders?limit=1&limit=2").await.expect_problem(422, "invalid-request");

    for path in ["/v1/orders/7", "/v1/orders/%00", "/v1/orders/%ff", "/v1/products/%00", "/v1/products/a%20b"] {
        app.get(path).await.expect_problem(404, "not-found");
    }
    app.put("/v1/products/a%20b", terms(1)).await.expect_problem(404, "not-found");
    app.put(&format!("/v1/products/{}", "x".repeat(65)), terms(1)).await.expect_problem(404, "not-found");
    app.post("/v1/orders/7/cancel", "key", json!({})).await.expect_problem(404, "not-found");
}
