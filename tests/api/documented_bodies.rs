//! The OpenAPI document and the server agree about every request body: its limits, and its example.

use std::collections::BTreeSet;

use idempotent_payments::http::endpoint::Endpoint;
use idempotent_payments::server::api;
use serde_json::{Value, json};

use crate::app::{Answer, App, Client, send};
use crate::openapi::{DOCUMENT, operations, resolved};

/// A body with one changed member, and whether the schema allows the body.
struct Variant {
    pointer: String,
    value: Value,
    allowed: bool,
}

/// Finds the values just within and just beyond each limit of the members of `body`.
fn variants(schema: &'static Value, body: &Value, at: &str, found: &mut Vec<Variant>) {
    let schema = resolved(schema);
    let mut add = |value: Value, allowed| found.push(Variant { pointer: at.to_owned(), value, allowed });
    for (name, beyond) in [("minimum", -1), ("maximum", 1)] {
        if let Some(limit) = schema[name].as_i64() {
            add(json!(limit), true);
            add(json!(limit + beyond), false);
        }
    }
    if let Some(limit) = schema["minLength"].as_u64() {
        add(json!("a".repeat(usize::try_from(limit - 1).unwrap())), false);
    }
    if let Some(limit) = schema["maxLength"].as_u64() {
        let longest = "a".repeat(usize::try_from(limit).unwrap());
        add(json!(longest), true);
        add(json!(format!("{longest}a")), false);
    }
    if schema["pattern"].is_string() {
        // No pattern of this API allows control characters.
        add(json!("a\u{1}"), false);
        add(json!("a\u{85}"), false);
    }
    if schema["minItems"] == 1 {
        add(json!([]), false);
    }
    if let (Some(limit), Some(item)) = (schema["maxItems"].as_u64(), body.get(0)) {
        let mut items = vec![item.clone(); usize::try_from(limit).unwrap() + 1];
        for (number, item) in items.iter_mut().enumerate() {
            item["sku"] = json!(format!("sku-{number}"));
        }
        add(json!(items), false);
        items.pop();
        add(json!(items), true);
    }
    if let Some(limit) = schema["maxProperties"].as_u64() {
        let entries = |count: u64| (0..count).map(|number| (format!("key-{number}"), json!("x"))).collect();
        add(Value::Object(entries(limit)), true);
        add(Value::Object(entries(limit + 1)), false);
        let longest = "k".repeat(usize::try_from(schema["propertyNames"]["maxLength"].as_u64().unwrap()).unwrap());
        for (key, allowed) in [(longest.clone(), true), (format!("{longest}k"), false), (String::new(), false)] {
            add(json!({key: "x"}), allowed);
        }
        add(json!({"a\u{1}": "x"}), false);
        let (key, _) = body.as_object().unwrap().iter().next().unwrap();
        variants(&schema["additionalProperties"], &body[key], &format!("{at}/{key}"), found);
    }
    if let Some(properties) = schema["properties"].as_object() {
        assert_eq!(
            schema["additionalProperties"], false,
            "{at}: the API refuses unknown members, so the schema must refuse them, too"
        );
        for (name, property) in properties {
            let member = body.get(name).unwrap_or_else(|| panic!("this test's body lacks {at}/{name}"));
            variants(property, member, &format!("{at}/{name}"), found);
        }
    }
    if let Some(item) = body.get(0) {
        variants(&schema["items"], item, &format!("{at}/0"), found);
    }
}

async fn with(app: &Client, (method, path): (&str, &str), body: &Value, variant: &Variant) -> Answer {
    let mut body = body.clone();
    *body.pointer_mut(&variant.pointer).unwrap() = variant.value.clone();
    let key = uuid::Uuid::new_v4().to_string();
    let path = path.replace("{id}", &key).replace("{sku}", "mug");
    send(app.request(method, &path).header("Idempotency-Key", key).json(&body)).await
}

#[tokio::test]
async fn the_schemas_and_the_server_have_the_same_limits() {
    let app = App::start().await;
    let grants = json!({"feature": "pro", "units": 5, "days": 30});
    let terms = json!({"name": "Mug", "unit_amount": 5, "currency": "EUR", "stock": 5, "grants": grants});
    let metadata = json!({"number": "A-1001"});
    let order = json!({"customer": "ada", "items": [{"sku": "sticker", "quantity": 1}], "metadata": metadata});
    let charge = json!({"order_id": uuid::Uuid::nil(), "payment_method": "pm_card_visa", "metadata": metadata});
    let grant = json!({"customer": "ada", "feature": "pro", "units": 5, "expires_at": "2099-01-01T00:00:00Z"});
    let bodies = [
        ("PUT", "/v1/products/{sku}", terms),
        ("POST", "/v1/orders", order),
        ("POST", "/v1/charges", charge),
        ("POST", "/v1/charges/{id}/refunds", json!({"amount": 5, "metadata": metadata})),
        ("POST", "/v1/entitlements", grant),
        ("POST", "/v1/entitlements/{id}/consume", json!({"units": 5})),
    ];
    let mut tried = 0;
    for (method, path, body) in bodies {
        let operation = &DOCUMENT["paths"][path][method.to_lowercase()];
        let mut found = Vec::new();
        variants(&operation["requestBody"]["content"]["application/json"]["schema"], &body, "", &mut found);
        for variant in found {
            let answer = with(&app, (method, path), &body, &variant).await;
            let refused = answer.status == 422 && answer.problem() == "invalid-request";
            // The schema only gives a payment method its form. The gateway decides which methods exist.
            let unknown_method = refused && answer.body.contains("does not accept this payment method");
            let where_and_what = format!("{method} {path} {} = {}", variant.pointer, variant.value);
            assert_eq!(refused && !unknown_method, !variant.allowed, "{where_and_what}: {answer:?}");
            tried += 1;
        }
    }
    assert!(tried > 50, "only {tried} limits were found");
}

#[tokio::test]
async fn the_server_accepts_the_example_of_every_body() {
    let app = App::start().await;
    let mut tried = BTreeSet::new();
    for (method, path, operation) in operations() {
        let Some(content) = operation["requestBody"]["content"].get("application/json") else { continue };
        let example = resolved(&content["schema"]).get("example").cloned();
        let body = example.unwrap_or_else(|| example_of_members(resolved(&content["schema"])));
        let whole = Variant { pointer: String::new(), value: body, allowed: true };
        let answer = with(&app, (&method, path), &Value::Null, &whole).await;
        assert!(!matches!(answer.status, 400 | 415 | 422 | 500..), "{method} {path}: {answer:?}");
        tried.insert(format!("{method} {path}"));
    }
    // Each route that takes a body has an example, and the test sent each example.
    let endpoints = api().endpoints;
    let writing = endpoints.iter().filter(|endpoint| endpoint.method != "GET");
    assert_eq!(tried, writing.map(Endpoint::name).collect());
}

fn example_of_members(schema: &Value) -> Value {
    let members = schema["properties"].as_object().into_iter().flatten();
    let uuid = |member: &Value| if member["format"] == "uuid" { json!(uuid::Uuid::nil()) } else { Value::Null };
    members
        .map(|(name, member)| (name.clone(), member.get("example").cloned().unwrap_or_else(|| uuid(member))))
        .collect()
}
