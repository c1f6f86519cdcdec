//! Orders: create, read and list them.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::app::{App, GLOBEX, one_item, send};

#[tokio::test]
async fn an_order_is_created_at_the_catalogues_prices_and_found_at_its_location() {
    let app = App::start_with_pool(2).await;
    let items = json!([{"sku": "pro-monthly", "quantity": 2}, {"sku": "sticker", "quantity": 3}]);

    let made = app.post("/v1/orders", "key", json!({"customer": "ada", "items": items})).await.expect(201);

    let order = made.json();
    assert_eq!(order["customer"], "ada");
    assert_eq!(order["status"], "pending");
    assert_eq!((&order["currency"], &order["amount"]), (&json!("EUR"), &json!(2 * 4900 + 3 * 500)));
    let items = json!([
        {"sku": "pro-monthly", "name": "Pro, a month", "quantity": 2, "unit_amount": 4900},
        {"sku": "sticker", "name": "Sticker", "quantity": 3, "unit_amount": 500},
    ]);
    assert_eq!(order["items"], items);
    let id = Uuid::parse_str(order["id"].as_str().unwrap()).unwrap();
    assert_eq!(id.get_version_num(), 7);
    assert_eq!(made.header("Location"), Some(format!("/v1/orders/{id}").as_str()));
    let found = app.get(made.header("Location").unwrap()).await.expect(200);
    assert_eq!(found.json(), order);
}

#[tokio::test]
async fn an_order_keeps_the_terms_it_was_created_at() {
    let app = App::start_with_pool(2).await;
    let order = app.order("key", "sticker", 1).await.expect(201);
    let dearer = json!({"name": "Gold sticker", "unit_amount": 99_999_999, "currency": "USD", "stock": 10});
    app.put("/v1/products/sticker", dearer).await.expect(200);

    let found = app.get(order.header("Location").unwrap()).await.expect(200);

    assert_eq!(found.json(), order.json());
}

#[tokio::test]
async fn the_largest_order_is_created_and_replayed() {
    let app = App::start_with_pool(2).await;
    let name = "\u{1f9e6}\"".repeat(100);
    let mut items = Vec::new();
    for number in 0..100 {
        let sku = format!("{}{number:03}", "s".repeat(61));
        let terms = json!({"name": name, "unit_amount": 99_999_999, "currency": "JPY"});
        app.put(&format!("/v1/products/{sku}"), terms).await.expect(201);
        items.push(json!({"sku": sku, "quantity": 10_000}));
    }
    let body = json!({"customer": "\u{1f9e6}".repeat(255), "items": items});

    let made = app.post("/v1/orders", "key", body.clone()).await.expect(201);
    let retry = app.post("/v1/orders", "key", body).await.expect(201);

    assert_eq!(made.json()["amount"], 99_999_999_000_000_i64);
    assert_eq!(retry.reply(), made.reply());
}

#[tokio::test]
async fn an_order_writes_its_event_in_the_same_transaction() {
    let app = App::start_with_pool(2).await;

    let order = app.order("key", "sticker", 1).await.expect(201).json();

    let same = "orders JOIN events USING (account_id) JOIN idempotency_keys record USING (account_id) \
                WHERE type = 'order.created' AND orders.xmin = events.xmin AND record.xmin = events.xmin";
    assert_eq!(app.count(same), 1);
    let said = format!("events WHERE type = 'order.created' AND data::jsonb = '{order}'::jsonb");
    assert_eq!(app.count(&said), 1);
}

#[tokio::test]
async fn a_failed_order_leaves_nothing() {
    let app = App::start_with_pool(2).await;
    let before = app.rows();
    let items = json!([{"sku": "pro-monthly", "quantity": 1}, {"sku": "sticker", "quantity": 11}]);

    let failed = app.post("/v1/orders", "key", json!({"customer": "ada", "items": items})).await;

    let problem = failed.expect_problem(409, "out-of-stock").json();
    assert_eq!((&problem["sku"], &problem["available"]), (&json!("sticker"), &json!(10)));
    assert_eq!(app.rows(), before);
}

#[tokio::test]
async fn lists_are_paged_newest_first() {
    let app = App::start_with_pool(2).await;
    let mut made = Vec::new();
    for number in 0..5 {
        let order = app.order(&format!("key-{number}"), "pro-monthly", 1).await.expect(201);
        made.insert(0, order.json());
    }
    app.post_as(GLOBEX, "/v1/orders", "key", one_item("sticker", 1)).await.expect(201);

    let mut pages: Vec<Value> = Vec::new();
    let mut after = String::new();
    loop {
        let page = app.get(&format!("/v1/orders?limit=2{after}")).await.expect(200).json();
        let data = page["data"].as_array().unwrap().clone();
        after = format!("&after={}", data.last().unwrap()["id"].as_str().unwrap());
        pages.push(page.clone());
        if page["has_more"] == false {
            break;
        }
    }

    assert_eq!(pages.iter().map(|page| page["data"].as_array().unwrap().len()).collect::<Vec<_>>(), [2, 2, 1]);
    let all: Vec<Value> = pages.iter().flat_map(|page| page["data"].as_array().unwrap().clone()).collect();
    assert_eq!(all, made);
    let whole = app.get("/v1/orders?limit=5").await.expect(200).json();
    assert_eq!(whole, json!({"data": made, "has_more": false}));
    let beyond = app.get(&format!("/v1/orders?after={}", made[4]["id"].as_str().unwrap())).await.expect(200).json();
    assert_eq!(beyond, json!({"data": [], "has_more": false}));
}

#[tokio::test]
async fn a_page_has_twenty_items_by_default() {
    let app = App::start_with_pool(2).await;
    for number in 0..21 {
        app.order(&format!("key-{number}"), "pro-monthly", 1).await.expect(201);
    }

    let page = app.get("/v1/orders").await.expect(200).json();

    assert_eq!((page["data"].as_array().unwrap().len(), &page["has_more"]), (20, &json!(true)));
}

#[tokio::test]
async fn an_order_of_another_account_is_not_found() {
    let app = App::start_with_pool(2).await;
    let order = app.order("key", "sticker", 1).await.expect(201);

    let request = app.request_as(GLOBEX, "GET", order.header("Location").unwrap());

    send(request).await.expect_problem(404, "not-found");
}
