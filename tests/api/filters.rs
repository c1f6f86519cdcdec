//! Lists take filters, alone and together; what they let through is what they say.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::app::{App, Client};
use crate::support::execute;

/// The ids, or what else names the items, of a list.
async fn listed(app: &Client, path: &str, member: &str) -> Vec<String> {
    let page = app.get(path).await.expect(200).json();
    let text = |item: &Value| item[member].as_str().unwrap().to_owned();
    page["data"].as_array().unwrap().iter().map(text).collect()
}

#[tokio::test]
async fn entitlements_are_found_by_customer_feature_and_time() {
    let app = App::start_with_pool(2).await;
    let mut ids = Vec::new();
    for (customer, feature, at) in [("ada", "x", "2026-01-01"), ("ada", "y", "2026-01-02"), ("bob", "x", "2026-01-03")]
    {
        let new = json!({"customer": customer, "feature": feature});
        let made = app.post("/v1/entitlements", &Uuid::new_v4().to_string(), new).await.expect(201).json();
        let id = made["id"].as_str().unwrap().to_owned();
        execute(&app.database, &format!("UPDATE entitlements SET created_at = '{at}T00:00:00Z' WHERE id = '{id}'"));
        ids.push(id);
    }
    let found = async |query: &str| {
        let found = listed(&app, &format!("/v1/entitlements?{query}"), "id").await;
        ids.iter().enumerate().filter(|(_, id)| found.contains(id)).map(|(number, _)| number).collect::<Vec<_>>()
    };

    assert_eq!(found("").await, [0, 1, 2]);
    assert_eq!(found("customer=ada").await, [0, 1]);
    assert_eq!(found("customer=ada&feature=x").await, [0]);
    assert_eq!(found("created_from=2026-01-02T00:00:00Z").await, [1, 2]);
    assert_eq!(found("created_before=2026-01-02T00:00:00Z").await, [0]);
    assert_eq!(found("created_from=2026-01-02T01:00:00%2B01:00&created_before=2026-01-03T00:00:00Z").await, [1]);
    assert_eq!(found("created_from=2026-01-02T00:00:00Z&feature=x").await, [2]);
}

#[tokio::test]
async fn events_are_found_by_type_and_object() {
    let app = App::start_with_pool(2).await;
    app.product("mug", 10).await.expect(201);
    app.product("mug", 11).await.expect(200);
    let order = app.order("key", "mug", 1).await.expect(201).json()["id"].as_str().unwrap().to_owned();
    app.post(&format!("/v1/orders/{order}/cancel"), "key", json!({})).await.expect(200);
    let types = async |query: &str| listed(&app, &format!("/v1/events?limit=100&{query}"), "type").await;

    assert_eq!(types("type=order.created").await, ["order.created"]);
    assert_eq!(types(&format!("object_id={order}")).await, ["order.created", "order.canceled"]);
    assert_eq!(types("object_id=mug").await, ["product.updated", "product.updated"]);
    assert_eq!(types(&format!("object_id={order}&type=order.canceled")).await, ["order.canceled"]);
    assert_eq!(types("created_before=2020-01-01T00:00:00Z").await, [] as [&str; 0]);
    // A page of a filtered feed goes on from its last cursor.
    let first = app.get("/v1/events?object_id=mug&limit=1").await.expect(200).json();
    assert_eq!(first["has_more"], true);
    let cursor = first["data"][0]["cursor"].as_str().unwrap();
    assert_eq!(types(&format!("object_id=mug&after={cursor}")).await, ["product.updated"]);
}

#[tokio::test]
async fn products_are_found_by_time() {
    let app = App::start_with_pool(2).await;
    execute(&app.database, "UPDATE products SET created_at = '2020-01-01' WHERE sku = 'sticker'");
    assert_eq!(listed(&app, "/v1/products?created_before=2021-01-01T00:00:00Z", "sku").await, ["sticker"]);
}
