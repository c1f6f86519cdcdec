//! What holds for every operation, by its route and its policy.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use utoipa::openapi::OpenApi;

use super::links;
use crate::advice;
use crate::policies::{self, PolicyData};
use crate::problems::{
    CARD_DECLINED, DATABASE_UNAVAILABLE, GATEWAY_FAILED, INTERNAL, INVALID_REQUEST, KEY_EXPIRED, KEY_INVALID,
    KEY_MISSING, KEY_REUSED, Kind, MALFORMED_REQUEST, METHOD_NOT_ALLOWED, NOT_FOUND, OUT_OF_STOCK, OVERLOADED,
    PAYLOAD_TOO_LARGE, Problem, QUOTA_EXCEEDED, REFUND_EXCEEDS_CHARGE, REQUEST_IN_FLIGHT, REQUEST_TIMEOUT, Retry,
    UNAUTHORIZED, UNKNOWN_PRODUCT, UNSUPPORTED_MEDIA_TYPE,
};

/// A key in one of its two forms: bare visible characters, or a quoted string.
const KEY_PATTERN: &str = r#"^(?:[!#-+\--:<-\[\]-~]{1,255}|"(?:[ !#-\[\]-~]|\\["\\]){1,255}")$"#;

/// An id for examples.
const EXAMPLE_ID: &str = "0199a3c4-5b6d-7e8f-9a0b-1c2d3e4f5a6b";

/// The document with what the macros don't know.
pub fn complete(described: &OpenApi) -> Value {
    // Strings, maps and numbers: the document always serializes.
    let mut document = serde_json::to_value(described).unwrap_or_default();
    // The licence is an expression of two, which has no one page to link to.
    document["info"]["license"] = json!({"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"});
    document["components"]["securitySchemes"] = json!({"apiKey": {
        "type": "http", "scheme": "bearer",
        "description": "An API key, such as `sk_demo_acme` of the demo. `payments account create NAME` makes one.",
    }});
    document["components"]["headers"] = headers();
    document["components"]["schemas"]["Problem"] = problem_schema();
    for (name, schema) in members(&mut document["components"]["schemas"]) {
        // The macros write the items of a generic page out once more.
        if let Some(item) = name.strip_prefix("Page_") {
            schema["properties"]["data"]["items"] = json!({"$ref": format!("#/components/schemas/{item}")});
        }
    }
    for (path, item) in members(&mut document["paths"]) {
        for (method, operation) in members(item) {
            complete_operation(&method.to_ascii_uppercase(), path, operation);
        }
    }
    document
}

fn members(value: &mut Value) -> impl Iterator<Item = (&String, &mut Value)> {
    value.as_object_mut().into_iter().flatten()
}

fn complete_operation(method: &str, path: &str, operation: &mut Value) {
    let route = format!("{method} {path}");
    let policy = policies::of_route(&route);
    let secured = path.starts_with("/v1/");
    operation["security"] = if secured { json!([{"apiKey": []}]) } else { json!([]) };
    if let Some(policy) = policy {
        operation["x-idempotency"] = json!(PolicyData::from(policy));
        if operation["parameters"].is_null() {
            operation["parameters"] = json!([]);
        }
        if let Some(parameters) = operation["parameters"].as_array_mut() {
            parameters.push(key_parameter());
        }
    }
    let name = operation["operationId"].as_str().unwrap_or_default().to_owned();
    for (status, response) in members(&mut operation["responses"]) {
        complete_success(&name, status, response, policy.is_some());
    }
    for (status, problems) in by_status(problems_of(&route, operation)) {
        operation["responses"][status.to_string()] = problem_response(status, &problems, &route);
    }
}

fn complete_success(operation: &str, status: &str, response: &mut Value, keyed: bool) {
    let mut headers = Map::new();
    headers.insert("X-Request-Id".into(), header_ref("X-Request-Id"));
    if keyed {
        headers.insert("Idempotency-Replayed".into(), header_ref("Idempotency-Replayed"));
    }
    if keyed && status != "202" {
        headers.insert("Idempotency-Expires".into(), header_ref("Idempotency-Expires"));
    }
    if matches!(status, "201" | "202") {
        headers.insert("Location".into(), header_ref("Location"));
    }
    if status == "202" {
        headers.insert("Retry-After".into(), header_ref("Retry-After"));
    }
    response["headers"] = Value::Object(headers);
    let links = links::of(operation, status);
    if links.as_object().is_some_and(|links| !links.is_empty()) {
        response["links"] = links;
    }
}

/// The problems that the operation may answer with: its own, and those that follow from what it takes.
fn problems_of(route: &str, operation: &Value) -> Vec<&'static Problem> {
    let mut problems = advice::decided_at(route).to_vec();
    let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
    let takes = |place: &str| parameters.iter().any(|parameter| parameter["in"] == place);
    if takes("path") {
        problems.push(&NOT_FOUND);
    }
    if takes("query") {
        problems.push(&INVALID_REQUEST);
    }
    if !operation["requestBody"].is_null() {
        problems.extend([
            &MALFORMED_REQUEST,
            &REQUEST_TIMEOUT,
            &PAYLOAD_TOO_LARGE,
            &UNSUPPORTED_MEDIA_TYPE,
            &INVALID_REQUEST,
        ]);
    }
    if takes("header") {
        problems.extend([&KEY_MISSING, &KEY_INVALID, &KEY_REUSED, &REQUEST_IN_FLIGHT]);
    }
    if operation["security"].as_array().is_some_and(|schemes| !schemes.is_empty()) {
        problems.extend([&UNAUTHORIZED, &INTERNAL, &OVERLOADED, &DATABASE_UNAVAILABLE]);
    }
    problems.push(&METHOD_NOT_ALLOWED);
    problems
}

fn by_status(problems: Vec<&'static Problem>) -> BTreeMap<u16, Vec<&'static Problem>> {
    let mut by_status: BTreeMap<u16, Vec<&Problem>> = BTreeMap::new();
    for problem in problems {
        let of_status = by_status.entry(problem.status).or_default();
        if !of_status.iter().any(|other| other.slug == problem.slug) {
            of_status.push(problem);
        }
    }
    by_status
}

/// One schema for all problems, on purpose: generators keep it, and a client survives a problem that is new to it.
fn problem_response(status: u16, problems: &[&Problem], route: &str) -> Value {
    let lines: Vec<_> = problems.iter().map(|problem| format!("`{}`: {}", problem.slug, problem.meaning)).collect();
    let examples: Map<_, _> = problems
        .iter()
        .map(|problem| (problem.slug.to_owned(), json!({"summary": problem.title, "value": example(problem, route)})))
        .collect();
    let mut names = vec!["X-Request-Id"];
    let kept = |problem: &&Problem| matches!(problem.kind, Kind::Final | Kind::Outcome);
    if policies::of_route(route).is_some() && problems.iter().any(kept) {
        names.extend(["Idempotency-Replayed", "Idempotency-Expires"]);
    }
    match status {
        401 => names.push("WWW-Authenticate"),
        405 => names.push("Allow"),
        _ => {}
    }
    if problems.iter().any(|problem| problem.retry(false) == Retry::Again) {
        names.push("Retry-After");
    }
    let headers: Map<_, _> = names.into_iter().map(|name| (name.to_owned(), header_ref(name))).collect();
    let told: Vec<_> = problems
        .iter()
        .map(|problem| json!({"type": format!("/problems/{}", problem.slug), "retry": advice::retries_at(route, problem)}))
        .collect();
    json!({
        "description": lines.join("\n\n"),
        "headers": headers,
        "content": {"application/problem+json": {
            "schema": {"$ref": "#/components/schemas/Problem"},
            "examples": examples,
        }},
        "x-problems": told,
    })
}

/// The members that some problems have beyond those of every problem.
fn extensions(problem: &Problem) -> Value {
    let url = format!("/v1/charges/{EXAMPLE_ID}");
    match problem.slug {
        slug if slug == INVALID_REQUEST.slug => {
            json!({"errors": [{"pointer": "/items/0/quantity", "detail": "lower than 1"}]})
        }
        slug if slug == CARD_DECLINED.slug => {
            json!({"decline_code": "card_declined", "charge_id": EXAMPLE_ID, "instance": url})
        }
        slug if slug == GATEWAY_FAILED.slug => json!({"charge_id": EXAMPLE_ID, "instance": url}),
        slug if slug == KEY_EXPIRED.slug => json!({"resource": url}),
        slug if slug == OUT_OF_STOCK.slug => json!({"sku": "sticker", "available": 3}),
        slug if slug == UNKNOWN_PRODUCT.slug => json!({"sku": "stickers"}),
        slug if slug == QUOTA_EXCEEDED.slug || slug == REFUND_EXCEEDS_CHARGE.slug => json!({"available": 10}),
        _ => json!({}),
    }
}

fn example(problem: &Problem, route: &str) -> Value {
    let mut example = json!({
        "type": format!("/problems/{}", problem.slug),
        "title": problem.title,
        "status": problem.status,
        "detail": problem.meaning,
        "instance": "urn:uuid:0e9f1a3c-7f5b-4f0e-8a55-2f4d3c2b1a09",
        "retry": advice::retries_at(route, problem)[0],
    });
    if let (Some(example), Value::Object(more)) = (example.as_object_mut(), extensions(problem)) {
        example.extend(more);
    }
    example
}

fn problem_schema() -> Value {
    let text = |description: &str| json!({"type": "string", "description": description});
    let id = |description: &str| json!({"type": "string", "format": "uuid", "description": description});
    json!({
        "type": "object",
        "description": "An RFC 9457 problem document.",
        "required": ["type", "title", "status", "detail", "instance", "retry"],
        "properties": {
            "type": {"type": "string", "format": "uri-reference", "description": "Which problem: its page. Decide by this."},
            "title": text("What it is called."),
            "status": {"type": "integer", "minimum": 400, "maximum": 599, "description": "The HTTP status."},
            "detail": text("What is particular to this occurrence, for a person."),
            "instance": {"type": "string", "format": "uri-reference",
                "description": "This occurrence: a request's id, or the resource that stands for it."},
            "retry": {"type": "string", "enum": Retry::ALL, "description": retry_description()},
            "errors": {
                "type": "array", "description": "What is wrong with the request, of invalid-request.",
                "items": {
                    "type": "object", "required": ["pointer", "detail"],
                    "properties": {
                        "pointer": text("JSON pointer to the member, or to where it would stand."),
                        "detail": text("What is wrong with it."),
                    },
                },
            },
            "sku": text("The product in question."),
            "available": {"type": "integer", "description": "How much there would be."},
            "decline_code": text("Why the payment method was declined."),
            "charge_id": id("The charge that failed."),
            "refund_id": id("The refund that failed."),
            "resource": text("What the expired key made."),
        },
    })
}

fn retry_description() -> String {
    let lines = Retry::ALL.map(|retry| format!("- `{}`: {}", retry.as_str(), retry.for_a_person()));
    format!("What to do next.\n\n{}", lines.join("\n"))
}

fn header_ref(name: &str) -> Value {
    json!({"$ref": format!("#/components/headers/{name}")})
}

fn headers() -> Value {
    json!({
        "X-Request-Id": {"description": "This request's id, also in the log.", "schema": {"type": "string", "format": "uuid"}},
        "Idempotency-Replayed": {
            "description": "`true` on every answer but that of the request whose own body ran.",
            "schema": {"type": "string", "const": "true"},
        },
        "Idempotency-Expires": {
            "description": "HTTP date: how long a retry of this key gets this reply. Absent where nothing is kept.",
            "schema": {"type": "string"}, "example": "Wed, 25 Nov 2026 08:00:00 GMT",
        },
        "Location": {"description": "What was made.", "schema": {"type": "string", "format": "uri-reference"}},
        "Retry-After": {"description": "Seconds to wait before the same request is sent again.", "schema": {"type": "string", "pattern": "^[0-9]+$"}},
        "WWW-Authenticate": {"description": "`Bearer`.", "schema": {"type": "string"}},
        "Allow": {"description": "The methods of this path.", "schema": {"type": "string"}},
    })
}

fn key_parameter() -> Value {
    json!({
        "name": "Idempotency-Key",
        "in": "header",
        "required": true,
        "description": "The client's name for this request, kept for its retries: 1 to 255 visible ASCII characters, bare or \
            as a quoted string. A random UUID is good.",
        "schema": {"type": "string", "minLength": 1, "pattern": KEY_PATTERN},
        "example": "8e03978e-40d5-43e8-bc93-6894a57f9324",
    })
}
