//! The OpenAPI document and the server agree about every route, every problem and every limit.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::LazyLock;

use idempotent_payments::http::endpoint::Endpoint;
use idempotent_payments::http::problems;
use idempotent_payments::server::{api, openapi};
use serde_json::{Value, json};

use crate::app::{App, send};

pub static DOCUMENT: LazyLock<Value> = LazyLock::new(|| openapi::document(&api()));

/// Every operation, as (method, path, its part of the document).
pub fn operations() -> Vec<(String, &'static str, &'static Value)> {
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let of_path = |(path, item): (&'static String, &'static Value)| {
        let operations = item.as_object().unwrap().iter();
        operations.map(move |(method, operation)| (method.to_uppercase(), path.as_str(), operation))
    };
    paths.iter().flat_map(of_path).collect()
}

#[test]
fn the_document_has_every_endpoint_and_no_page_for_people() {
    let documented: BTreeSet<_> = operations().iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    let endpoints: BTreeSet<_> = api().endpoints.iter().map(Endpoint::name).collect();
    assert_eq!(documented, endpoints);
    assert!(documented.contains("POST /v1/orders") && documented.contains("GET /openapi.json"), "{documented:?}");
    for page in ["GET /", "GET /docs", "GET /docs/{file}", "GET /problems", "GET /problems/{slug}", "GET /policies"] {
        assert!(!documented.contains(page), "{page}");
    }
}

#[tokio::test]
async fn a_documented_route_answers_and_its_405_lists_the_methods() {
    let app = App::start().await;
    for (method, path, operation) in operations() {
        let id = "00000000-0000-7000-8000-000000000000";
        let path = path.replace("{id}", id).replace("{sku}", "sticker");
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
    for endpoint in api().endpoints {
        let operation = &DOCUMENT["paths"][&endpoint.path][endpoint.method.to_lowercase()];
        let (name, policy) = (endpoint.name(), endpoint.policy);
        let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
        let key = parameters.iter().find(|parameter| parameter["name"] == "Idempotency-Key");
        assert_eq!(key.is_some_and(|key| key["required"] == true), policy.is_some(), "{name}");
        assert_eq!(operation["x-idempotency"]["route"].as_str(), policy.map(|policy| policy.route), "{name}");
        let replayed = operation["responses"].as_object().unwrap().iter().any(|(status, response)| {
            status.starts_with('2') && response["headers"].get("Idempotency-Replayed").is_some()
        });
        assert_eq!(replayed, policy.is_some(), "{name}");
    }
}

/// Follows a reference, also a reference that may be null, to its schema.
pub fn resolved(schema: &'static Value) -> &'static Value {
    if let Some(name) = schema["$ref"].as_str() {
        return resolved(DOCUMENT.pointer(name.trim_start_matches('#')).unwrap());
    }
    let of_several = schema["oneOf"].as_array().into_iter().flatten().find(|one| one["type"] != "null");
    of_several.map_or(schema, resolved)
}

#[test]
fn the_document_has_nothing_that_a_generator_drops() {
    let tags: Vec<_> = DOCUMENT["tags"].as_array().unwrap().iter().map(|tag| &tag["name"]).collect();
    for (method, path, operation) in operations() {
        // Generators create one class for each tag.
        let [tag] = operation["tags"].as_array().unwrap().as_slice() else { panic!("{method} {path} needs one tag") };
        assert!(tags.contains(&tag), "{method} {path}: {tag}");
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
}

/// openapi-generator refuses a document that has an object as the request body of a link.
#[test]
fn a_link_leads_to_an_operation_and_has_no_body() {
    let names: BTreeSet<_> = operations().iter().map(|(_, _, operation)| operation["operationId"].as_str()).collect();
    let mut links = 0;
    for (_, _, operation) in operations() {
        for response in operation["responses"].as_object().unwrap().values() {
            for link in response["links"].as_object().into_iter().flatten().map(|(_, link)| link) {
                assert!(link.get("requestBody").is_none() && names.contains(&link["operationId"].as_str()), "{link}");
                links += 1;
            }
        }
    }
    assert!(links > 5, "{links} links were found");
}

#[test]
fn the_answers_201_and_202_have_different_schemas() {
    for (path, of_201, of_202) in
        [("/v1/charges", "Charge", "ProcessingCharge"), ("/v1/charges/{id}/refunds", "Refund", "ProcessingRefund")]
    {
        let responses = &DOCUMENT["paths"][path]["post"]["responses"];
        for (status, name) in [("201", of_201), ("202", of_202)] {
            let schema = &responses[status]["content"]["application/json"]["schema"];
            assert_eq!(schema["$ref"], format!("#/components/schemas/{name}"), "{path} {status}");
        }
        let (all, processing) = (resolved_name(of_201), resolved_name(of_202));
        assert_eq!(processing["properties"]["status"]["enum"], json!(["processing"]));
        assert_eq!(processing["properties"]["processing"]["$ref"], "#/components/schemas/Progress");
        assert_eq!(processing["required"], all["required"], "{path}");
    }
}

fn resolved_name(name: &str) -> &'static Value {
    &DOCUMENT["components"]["schemas"][name]
}

/// The document is for strangers: it avoids the code's own words.
#[test]
fn no_description_uses_the_codes_own_words() {
    let mut read = 0;
    for (at, text) in descriptions(&DOCUMENT, "") {
        for word in ["external call", " lease", "as the API shows", "the table", "handler", "constant", "the status."] {
            assert!(!text.to_lowercase().contains(&word.to_lowercase()), "{at}: {text}");
        }
        read += 1;
    }
    assert!(read > 200, "{read} descriptions were read");
}

fn descriptions<'a>(value: &'a Value, at: &str) -> Vec<(String, &'a str)> {
    let inside = |name: &str, value| descriptions(value, &format!("{at}/{name}"));
    match value {
        Value::Object(members) => {
            let own = members.iter().filter(|(name, _)| matches!(name.as_str(), "description" | "summary"));
            let own: Vec<_> = own.filter_map(|(_, text)| Some((at.to_owned(), text.as_str()?))).collect();
            own.into_iter().chain(members.iter().flat_map(|(name, value)| inside(name, value))).collect()
        }
        Value::Array(items) => items.iter().flat_map(|item| inside("-", item)).collect(),
        _ => Vec::new(),
    }
}

/// What changes with the gateway or with a later release is not a closed enum.
#[test]
fn payment_methods_and_event_types_are_open() {
    let method = &resolved_name("NewCharge")["properties"]["payment_method"];
    assert_eq!((&method["type"], &method["maxLength"], method.get("enum")), (&json!("string"), &json!(255), None));
    let event = &resolved_name("Event")["properties"];
    assert_eq!((&event["type"]["type"], event["type"].get("enum")), (&json!("string"), None));
    let objects: Vec<_> =
        event["data"]["anyOf"].as_array().unwrap().iter().map(|one| one["$ref"].as_str().unwrap()).collect();
    for (name, object) in idempotent_payments::shop::events::EVENT_TYPES {
        assert!(event["type"]["description"].as_str().unwrap().contains(&format!("`{name}`")), "{name}");
        assert!(objects.contains(&format!("#/components/schemas/{object}").as_str()), "{object}");
        assert!(resolved_name(object).is_object(), "{object}");
    }
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
    assert_eq!(send(app.anonymous("GET", "/openapi.json")).await.expect(200).json(), *DOCUMENT);
    let printed = Command::new(env!("CARGO_BIN_EXE_payments"))
        .arg("openapi")
        .env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/nothing")
        .output()
        .unwrap();
    assert!(printed.status.success());
    assert_eq!(serde_json::from_slice::<Value>(&printed.stdout).unwrap(), *DOCUMENT);
    assert!(DOCUMENT["openapi"].as_str().unwrap().starts_with("3.1"));
}
