//! The OpenAPI document and the server agree about every route, every problem and every limit.

use std::collections::BTreeSet;
use std::process::Command;

use idempotent_payments::http::problems;
use idempotent_payments::server::{self, openapi, policies};
use serde_json::{Value, json};

use crate::app::{Answer, App, Client, send};

/// Every operation, as (method, path, its part of the document).
fn operations() -> Vec<(String, &'static str, &'static Value)> {
    let paths = openapi::document()["paths"].as_object().unwrap();
    let of_path = |(path, item): (&'static String, &'static Value)| {
        let operations = item.as_object().unwrap().iter();
        operations.map(move |(method, operation)| (method.to_uppercase(), path.as_str(), operation))
    };
    paths.iter().flat_map(of_path).collect()
}

#[test]
fn the_documented_operations_are_the_routed_operations() {
    let routed: BTreeSet<_> = server::routed().into_iter().map(|(method, path)| format!("{method} {path}")).collect();
    let documented: BTreeSet<_> = operations().iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    assert_eq!(documented, routed);
}

#[tokio::test]
async fn a_documented_route_answers_and_its_405_lists_the_methods() {
    let app = App::start().await;
    for (method, path, operation) in operations() {
        let id = "00000000-0000-7000-8000-000000000000";
        let path = path.replace("{id}", id).replace("{sku}", "sticker").replace("{slug}", "internal");
        let path = path.replace("{file}", "swagger-ui.css");
        let open = operation["security"].as_array().unwrap().is_empty();
        let answer = send(app.anonymous(&method, &path)).await;
        if open {
            answer.expect(200);
        } else {
            let answer = answer.expect_problem(401, "unauthorized");
            assert_eq!(answer.header("WWW-Authenticate"), Some("Bearer"));
        }
        let other = send(app.anonymous("DELETE", &path)).await.expect_problem(405, "method-not-allowed");
        let allowed = other.header("Allow").unwrap_or_default().to_owned();
        assert!(allowed.split(", ").any(|allow| allow == method), "{method} {path}: {allowed}");
    }
}

#[test]
fn every_problem_is_documented_under_its_status() {
    let (mut documented, mut examples) = (BTreeSet::new(), 0);
    for (_, _, operation) in operations() {
        for (status, response) in operation["responses"].as_object().unwrap() {
            let of_status = response["content"]["application/problem+json"]["examples"].as_object();
            for (slug, example) in of_status.into_iter().flatten() {
                examples += 1;
                assert_eq!(example["value"]["status"].to_string(), *status, "{slug}");
                documented.insert(slug.as_str());
            }
        }
    }
    let all: BTreeSet<_> = problems::ALL.iter().map(|problem| problem.slug).collect();
    assert_eq!(documented, all);
    // About twenty operations have several problems each.
    assert!(examples > 50, "only {examples} examples were found");
}

#[test]
fn a_policy_is_documented_exactly_at_its_route() {
    for (method, path, operation) in operations() {
        let policy = policies::of_route(&format!("{method} {path}"));
        let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
        let key = parameters.iter().find(|parameter| parameter["name"] == "Idempotency-Key");
        assert_eq!(key.is_some_and(|key| key["required"] == true), policy.is_some(), "{method} {path}");
        assert_eq!(operation["x-idempotency"]["route"].as_str(), policy.map(|policy| policy.route), "{method} {path}");
        let replayed = operation["responses"].as_object().unwrap().iter().any(|(status, response)| {
            status.starts_with('2') && response["headers"].get("Idempotency-Replayed").is_some()
        });
        assert_eq!(replayed, policy.is_some(), "{method} {path}");
    }
}

/// Follows a reference, also a reference that may be null, to its schema.
fn resolved(schema: &'static Value) -> &'static Value {
    if let Some(name) = schema["$ref"].as_str() {
        return resolved(openapi::document().pointer(name.trim_start_matches('#')).unwrap());
    }
    let of_several = schema["oneOf"].as_array().into_iter().flatten().find(|one| one["type"] != "null");
    of_several.map_or(schema, resolved)
}

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
    let order = json!({"customer": "ada", "items": [{"sku": "sticker", "quantity": 1}]});
    let charge = json!({"order_id": uuid::Uuid::nil(), "payment_method": "pm_card_visa"});
    let grant = json!({"customer": "ada", "feature": "pro", "units": 5, "expires_at": "2099-01-01T00:00:00Z"});
    let bodies = [
        ("PUT", "/v1/products/{sku}", terms),
        ("POST", "/v1/orders", order),
        ("POST", "/v1/charges", charge),
        ("POST", "/v1/charges/{id}/refunds", json!({"amount": 5})),
        ("POST", "/v1/entitlements", grant),
        ("POST", "/v1/entitlements/{id}/consume", json!({"units": 5})),
    ];
    let mut tried = 0;
    for (method, path, body) in bodies {
        let operation = &openapi::document()["paths"][path][method.to_lowercase()];
        let mut found = Vec::new();
        variants(&operation["requestBody"]["content"]["application/json"]["schema"], &body, "", &mut found);
        for variant in found {
            let answer = with(&app, (method, path), &body, &variant).await;
            let refused = answer.status == 422 && answer.problem() == "invalid-request";
            // The schema sets a shape for a payment method. The gateway decides which methods exist.
            let unknown_method = refused && answer.body.contains("does not accept this payment method");
            let where_and_what = format!("{method} {path} {} = {}", variant.pointer, variant.value);
            assert_eq!(refused && !unknown_method, !variant.allowed, "{where_and_what}: {answer:?}");
            tried += 1;
        }
    }
    assert!(tried > 50, "only {tried} limits were found");
}

#[test]
fn the_document_has_nothing_that_a_generator_drops() {
    for (method, path, operation) in operations() {
        let body = &operation["requestBody"];
        if let Some(content) = body["content"].get("application/json") {
            assert!(
                content["schema"]["$ref"].is_string(),
                "{method} {path}: the body must be one schema, and never null"
            );
        }
        for (status, response) in operation["responses"].as_object().unwrap() {
            for (kind, content) in response["content"].as_object().into_iter().flatten() {
                assert_ne!(kind, "*/*", "{method} {path} {status}");
                // A generator can't merge two constants of one member.
                assert!(content["schema"].get("allOf").is_none(), "{method} {path} {status}");
            }
        }
        let text = operation["description"].as_str().unwrap_or_default();
        let keyed = operation.get("x-idempotency").is_some();
        assert_eq!(text.contains("A retry must send the same Idempotency-Key"), keyed, "{method} {path}");
    }
    // A real gateway has any payment method, so the schema lists none.
    let methods = &openapi::document()["components"]["schemas"]["PaymentMethod"];
    assert_eq!(methods["enum"], Value::Null);
    for method in ["pm_card_visa", "pm_card_visa_chargeDeclined", "pm_card_lost_reply", "pm_card_sticky_error"] {
        assert!(methods["description"].as_str().unwrap().contains(&format!("- `{method}` ")), "{method}");
    }
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
    let routed = server::routed().into_iter().filter(|(method, _)| *method != "GET");
    assert_eq!(tried, routed.map(|(method, path)| format!("{method} {path}")).collect());
}

fn example_of_members(schema: &Value) -> Value {
    let members = schema["properties"].as_object().into_iter().flatten();
    let uuid = |member: &Value| if member["format"] == "uuid" { json!(uuid::Uuid::nil()) } else { Value::Null };
    members
        .map(|(name, member)| (name.clone(), member.get("example").cloned().unwrap_or_else(|| uuid(member))))
        .collect()
}

#[tokio::test]
async fn the_documentation_loads_nothing_from_another_host() {
    let app = App::start().await;
    for page in ["/docs", "/assets/docs.js", "/"] {
        let answer = send(app.anonymous("GET", page)).await.expect(200);
        for outside in ["src=\"http", "href=\"http", "href=\"//", "src=\"//"] {
            assert!(!answer.body.contains(outside), "{page} has {outside}");
        }
    }
    let page = send(app.anonymous("GET", "/docs")).await;
    assert!(page.body.contains("/docs/swagger-ui-bundle.js"), "{}", page.body);
    // Without this setting, a badge on the page would call a validator on another host.
    let setup = send(app.anonymous("GET", "/assets/docs.js")).await;
    assert!(setup.body.contains("/openapi.json") && setup.body.contains("validatorUrl: \"none\""), "{}", setup.body);
    for nothing in ["nothing", "index.html", "swagger-initializer.js"] {
        send(app.anonymous("GET", &format!("/docs/{nothing}"))).await.expect_problem(404, "not-found");
    }
}

#[tokio::test]
async fn the_document_is_served_and_printed_without_a_database() {
    let app = App::start().await;
    assert_eq!(send(app.anonymous("GET", "/openapi.json")).await.expect(200).json(), *openapi::document());
    let printed = Command::new(env!("CARGO_BIN_EXE_payments"))
        .arg("openapi")
        .env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/nothing")
        .output()
        .unwrap();
    assert!(printed.status.success());
    assert_eq!(serde_json::from_slice::<Value>(&printed.stdout).unwrap(), *openapi::document());
    assert!(openapi::document()["openapi"].as_str().unwrap().starts_with("3.1"));
}
