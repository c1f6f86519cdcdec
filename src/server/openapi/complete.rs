//! Completes every operation by its route and its policy.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use utoipa::openapi::OpenApi;

use super::headers::{header_ref, headers};
use super::links;
use super::problem::{problem_response, problem_schema, retry_schema};
use crate::http::problems::{
    DATABASE_UNAVAILABLE, INTERNAL, INVALID_REQUEST, KEY_INVALID, KEY_MISSING, KEY_REUSED, MALFORMED_REQUEST,
    METHOD_NOT_ALLOWED, NOT_FOUND, OVERLOADED, PAYLOAD_TOO_LARGE, Problem, REQUEST_IN_FLIGHT, REQUEST_TIMEOUT,
    UNAUTHORIZED, UNSUPPORTED_MEDIA_TYPE,
};
use crate::server::advice;
use crate::server::policies::{self, PolicyData};

/// A key in one of its two forms: bare visible characters, or a quoted string.
const KEY_PATTERN: &str = r#"^(?:[!#-+\--:<-\[\]-~]{1,255}|"(?:[ !#-\[\]-~]|\\["\\]){1,255}")$"#;

/// The text of every operation with a key. A program that reads it must know what to do.
const RETRIES: &str = "A retry must send the same Idempotency-Key and the same body. Make the key before the first sending, and keep \
    the key until an answer arrives. If no answer arrives, or the answer is 202, or `retry` is `again`: wait for Retry-After and \
    send the same request with the same key. Never make a new key because an answer was lost: a new key is a new request.";

/// Adds to the document what the macros don't know.
pub fn complete(described: &OpenApi) -> Value {
    // Strings, maps and numbers: the document always serializes.
    let mut document = serde_json::to_value(described).unwrap_or_default();
    // The licence is an expression of two licences, so no single page describes it.
    document["info"]["license"] = json!({"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"});
    document["components"]["securitySchemes"] = json!({"apiKey": {
        "type": "http", "scheme": "bearer",
        "description": "An API key, such as `sk_demo_acme` of the demo. `payments account create NAME` makes one.",
    }});
    document["components"]["headers"] = headers();
    document["components"]["schemas"]["Problem"] = problem_schema();
    document["components"]["schemas"]["Retry"] = retry_schema();
    document["components"]["schemas"]["PaymentMethod"] = payment_method();
    document["components"]["schemas"]["NewCharge"]["properties"]["payment_method"] =
        json!({"$ref": "#/components/schemas/PaymentMethod", "example": PAYMENT_METHODS[0].0});
    for (name, schema) in members(&mut document["components"]["schemas"]) {
        // The macros repeat the schema of the items in each generic page.
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
    take_null_from_body(operation);
    take_wildcard_from_files(operation);
    if let Some(policy) = policy {
        let text = operation["description"].as_str().unwrap_or_default();
        operation["description"] = json!(format!("{text}\n\n{RETRIES}"));
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

/// The client may leave out the body, but may not send null.
fn take_null_from_body(operation: &mut Value) {
    let Some(schema) = operation.pointer_mut("/requestBody/content/application~1json/schema") else { return };
    let choices = schema["oneOf"].as_array().cloned().unwrap_or_default();
    if let Some(body) = choices.iter().find(|choice| choice["type"] != "null") {
        *schema = body.clone();
        operation["requestBody"]["required"] = json!(false);
    }
}

/// Client generators drop a response of type `*/*`. So the document names the types of the page's files.
fn take_wildcard_from_files(operation: &mut Value) {
    let Some(content) = operation.pointer_mut("/responses/200/content") else { return };
    if let Some(any) = content.get("*/*").cloned() {
        let types =
            ["text/css", "text/html", "text/javascript", "application/javascript", "application/json", "image/png"];
        *content = types.into_iter().map(|name| (name.to_owned(), any.clone())).collect();
    }
}

/// Some of the sandbox's payment methods, and what each does.
const PAYMENT_METHODS: [(&str, &str); 8] = [
    ("pm_card_visa", "succeeds."),
    ("pm_card_visa_chargeDeclined", "is declined: 402 card-declined."),
    ("pm_card_visa_chargeDeclinedInsufficientFunds", "is declined for lack of money: 402 card-declined."),
    (
        "pm_card_threeDSecure2Required",
        "needs the customer's answer, and is declined with authentication_required: 402 card-declined.",
    ),
    ("pm_card_slow", "succeeds after 3 seconds."),
    (
        "pm_card_lost_reply",
        "succeeds, but the gateway's first answer is lost: 202, and 201 on a retry with the same key.",
    ),
    ("pm_card_gateway_error", "succeeds after two errors of the gateway."),
    ("pm_card_sticky_error", "meets an error that the gateway has stored: 202, until the gateway forgets its key."),
];

/// Any payment method of the gateway. An unknown one is a failed charge.
fn payment_method() -> Value {
    let lines = PAYMENT_METHODS.map(|(method, does)| format!("- `{method}` {does}"));
    json!({
        "type": "string",
        "minLength": 1,
        "maxLength": 255,
        "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]*$",
        "description": format!(
            "The name of a stored payment method at the gateway. Stripe's test cards, and at the sandbox some more:\n\n{}",
            lines.join("\n")
        ),
        "example": "pm_card_visa",
    })
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
    if matches!(operation, "getProduct" | "putProduct") {
        headers.insert("ETag".into(), header_ref("ETag"));
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

/// The problems that the operation may answer with: those of its body, and those that follow from its parameters.
fn problems_of(route: &str, operation: &Value) -> Vec<&'static Problem> {
    let mut problems = advice::decided_at(route).to_vec();
    let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
    let takes = |place: &str| parameters.iter().any(|parameter| parameter["in"] == place);
    if takes("path") {
        problems.push(&NOT_FOUND);
    }
    // Every operation refuses an unknown query parameter.
    if route.contains(" /v1/") {
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
    if policies::of_route(route).is_some() {
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

fn key_parameter() -> Value {
    json!({
        "name": "Idempotency-Key",
        "in": "header",
        "required": true,
        "description": "The client's name for this request. A retry must send the same key. 1 to 255 visible ASCII characters, bare or \
            as a quoted string. A random UUID is good.",
        "schema": {"type": "string", "minLength": 1, "pattern": KEY_PATTERN},
        "example": "8e03978e-40d5-43e8-bc93-6894a57f9324",
    })
}
