//! Bad input gets a clear problem and changes nothing.

use serde_json::{Value, json};

use crate::app::{Answer, App, Client, one_item, send};
use crate::support::execute;

/// Posts an order with this body, unchanged.
pub async fn post_raw(app: &Client, body: impl Into<reqwest::Body>) -> Answer {
    let request = app.request("POST", "/v1/orders").header("Idempotency-Key", "key");
    send(request.header("Content-Type", "application/json").body(body)).await
}

/// Asserts that no rows changed, and that the key is free.
pub async fn expect_nothing_changed(app: &Client, before: Vec<i64>) {
    assert_eq!(app.rows(), before);
    assert!(!app.order("key", "sticker", 1).await.expect(201).is_replay());
}

#[tokio::test]
async fn a_body_that_is_not_json_is_malformed() {
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
async fn an_order_of_the_wrong_shape_is_refused_with_pointers() {
    let app = App::start_with_pool(2).await;
    let before = app.rows();
    let item = |item: Value| json!({"customer": "ada", "items": [{"sku": "sticker", "quantity": 1}, item]});
    let customer = |name: &str| json!({"customer": name, "items": [{"sku": "sticker", "quantity": 1}]});
    let quantity = |quantity: Value| item(json!({"sku": "pro-monthly", "quantity": quantity}));
    let sku = |sku: &str| item(json!({"sku": sku, "quantity": 1}));
    let many: Vec<_> = (0..101).map(|number| json!({"sku": format!("s{number}"), "quantity": 1})).collect();
    let vectors = [
        (json!({}), "/customer /items"),
        (json!({"customer": "ada"}), "/items"),
        (json!({"customer": null, "items": []}), "/customer /items"),
        (json!({"customer": 7, "items": []}), "/customer /items"),
        (json!({"customer": "ada", "items": []}), "/items"),
        (json!({"customer": "ada", "items": {}}), "/items"),
        (json!({"customer": "ada", "items": many}), "/items"),
        (json!({"customer": "ada", "items": [], "coupon": "x"}), "/coupon /items"),
        (json!({"customer": "ada", "items": [], "a/b~c": "x"}), "/a~1b~0c /items"),
        (customer(""), "/customer"),
        (customer(&"x".repeat(256)), "/customer"),
        (customer("a\0b"), "/customer"),
        (customer("a\u{7f}b"), "/customer"),
        (item(json!({"quantity": 1})), "/items/1/sku"),
        (item(json!({"sku": "pro-monthly"})), "/items/1/quantity"),
        (item(json!({"sku": "pro-monthly", "quantity": 1, "price": 1})), "/items/1/price"),
        (item(json!("sticker")), "/items/1"),
        (item(json!(["pro-monthly", 1])), "/items/1"),
        (item(json!([])), "/items/1"),
        (item(json!({"sku": 7, "quantity": "1", "price": 1})), "/items/1/price /items/1/quantity /items/1/sku"),
        (
            json!({"customer": "", "items": [["sticker", 2], {"quantity": 0}]}),
            "/customer /items/0 /items/1/quantity /items/1/sku",
        ),
        (json!(["ada", [["sticker", 2]]]), ""),
        (sku(""), "/items/1/sku"),
        (sku(&"x".repeat(65)), "/items/1/sku"),
        (sku("a b"), "/items/1/sku"),
        (sku("a\0"), "/items/1/sku"),
        (sku("sticker"), "/items/1/sku"),
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
        assert_eq!(answer.pointers().join(" "), pointer, "{body} {answer:?}");
    }

    expect_nothing_changed(&app, before).await;
}

pub const LISTS: [&str; 6] =
    ["/v1/products", "/v1/orders", "/v1/charges", "/v1/entitlements", "/v1/events", "/v1/idempotency-keys"];

/// The errors of a 422, as (pointer, detail).
pub fn told(answer: &Answer) -> Vec<(String, String)> {
    let errors = answer.json()["errors"].as_array().cloned().unwrap_or_default();
    let text = |error: &Value, member: &str| error[member].as_str().unwrap().to_owned();
    let mut told: Vec<_> = errors.iter().map(|error| (text(error, "pointer"), text(error, "detail"))).collect();
    told.sort();
    told
}

#[tokio::test]
async fn the_details_of_a_wrong_body_use_the_words_of_json() {
    let app = App::start_with_pool(2).await;
    let items = json!([{"sku": "a b", "quantity": 1.5}, {"quantity": 10_001, "note": "x"}, ["sticker", 1]]);
    let order = post_raw(&app, json!({"customer": "a\u{7}", "items": items}).to_string()).await;
    let terms = json!({"name": "", "unit_amount": "5", "currency": "XXQ", "stock": true, "grants": 5});
    let product = app.put("/v1/products/mug", terms).await;
    let charge = app.post("/v1/charges", "k", json!({"order_id": 7, "payment_method": null})).await;
    let expires = json!({"customer": "", "feature": "x", "expires_at": "tomorrow"});
    let grant = app.post("/v1/entitlements", "k", expires).await;
    let method = json!({"order_id": "{00000000-0000-7000-8000-000000000000}", "payment_method": "a\0", "coupon": "x"});
    let charge_too = app.post("/v1/charges", "k", method).await;

    let pairs =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>();
    assert_eq!(
        told(&order),
        pairs(&[
            ("/customer", "must not have control characters"),
            ("/items/0/quantity", "must be an integer"),
            ("/items/0/sku", "must be 1 to 64 of the characters A-Z a-z 0-9 . _ -"),
            ("/items/1/note", "unknown member"),
            ("/items/1/quantity", "must be at most 10000"),
            ("/items/1/sku", "is missing"),
            ("/items/2", "must be an object"),
        ])
    );
    assert_eq!(
        told(&product),
        pairs(&[
            ("/currency", "must be a currency of ISO 4217, such as EUR"),
            ("/grants", "must be an object"),
            ("/name", "must have at least 1 character"),
            ("/stock", "must be an integer"),
            ("/unit_amount", "must be an integer"),
        ])
    );
    assert_eq!(told(&charge), pairs(&[("/order_id", "must be a UUID"), ("/payment_method", "is missing")]));
    let time = "must be a time in RFC 3339, such as 2027-01-31T12:00:00Z";
    assert_eq!(told(&grant), pairs(&[("/customer", "must have at least 1 character"), ("/expires_at", time)]));
    assert_eq!(
        told(&charge_too),
        pairs(&[
            ("/coupon", "unknown member"),
            ("/order_id", "must be a UUID"),
            ("/payment_method", "must not have control characters"),
        ])
    );
}

#[tokio::test]
async fn an_array_is_no_object_on_any_endpoint() {
    let app = App::start().await;
    let order = app.order("o", "sticker", 1).await.expect(201).json()["id"].as_str().unwrap().to_owned();
    let paid = json!({"order_id": order, "payment_method": "pm_card_visa"});
    let charge = app.post("/v1/charges", "c", paid).await.expect(201).json()["id"].as_str().unwrap().to_owned();
    let pending = app.order("p", "sticker", 1).await.expect(201).json()["id"].as_str().unwrap().to_owned();
    let grant = json!({"customer": "ada", "feature": "x", "units": 9});
    let grant = app.post("/v1/entitlements", "e", grant).await.expect(201).json()["id"].as_str().unwrap().to_owned();
    let before = app.rows();
    let arrays = [
        (format!("/v1/charges/{charge}/refunds"), json!([300])),
        (format!("/v1/charges/{charge}/refunds"), json!([null])),
        (format!("/v1/charges/{charge}/refunds"), json!([])),
        (format!("/v1/entitlements/{grant}/consume"), json!([3])),
        (format!("/v1/entitlements/{grant}/revoke"), json!([])),
        (format!("/v1/orders/{pending}/cancel"), json!([])),
        ("/v1/charges".to_owned(), json!([pending, "pm_card_visa"])),
        ("/v1/entitlements".to_owned(), json!(["ada", "x", 1, null])),
    ];

    for (path, body) in arrays {
        let answer = app.post(&path, "array", body.clone()).await.expect_problem(422, "invalid-request");
        assert_eq!(told(&answer), [(String::new(), "must be an object".to_owned())], "{path} {body}");
    }

    assert_eq!(app.rows(), before);
}

#[tokio::test]
async fn a_whole_number_may_be_spelt_in_any_way() {
    let app = App::start_with_pool(2).await;
    let order = |quantity: &str| format!(r#"{{"customer":"ada","items":[{{"sku":"sticker","quantity":{quantity}}}]}}"#);

    let first = post_raw(&app, order("2.0")).await.expect(201);
    for spelling in ["2", "2e0", "20e-1", "2.000"] {
        let again = post_raw(&app, order(spelling)).await;
        assert_eq!((again.reply(), again.is_replay()), (first.reply(), true), "{spelling}");
    }
    post_raw(&app, order("2.5")).await.expect_problem(422, "invalid-request");

    assert_eq!(first.json()["items"][0]["quantity"], 2);
}

#[tokio::test]
async fn all_members_out_of_range_are_reported_together() {
    let app = App::start_with_pool(2).await;
    let body = r#"{"customer":"","items":[{"sku":"a b","quantity":0},{"sku":"sticker","quantity":-5}]}"#;

    let answer = post_raw(&app, body).await.expect_problem(422, "invalid-request");

    assert_eq!(answer.pointers(), ["/customer", "/items/0/quantity", "/items/0/sku", "/items/1/quantity"]);
}

#[tokio::test]
async fn orders_that_the_catalogue_cannot_fill_change_nothing() {
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
    // An order can't contain another account's products.
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
