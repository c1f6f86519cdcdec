//! One operation of the document: the handler's own description, and what follows from its route and its policy.

use serde_json::{Map, Value, json};

use super::headers::header_refs;
use super::problem::problem_response;
use super::schemas::processing;
use crate::http::endpoint::{Described, Endpoint};
use crate::server::advice::problems_at;

/// A key in one of its two forms: bare visible characters, or a quoted string.
const KEY_PATTERN: &str = r#"^(?:[!#-+\--:<-\[\]-~]{1,255}|"(?:[ !#-\[\]-~]|\\["\\]){1,255}")$"#;

/// The text of every operation with a key. A program that reads only this must know what to do.
const RETRIES: &str = "A retry must send the same Idempotency-Key and the same body. Make the key before you send the request for the \
    first time, and keep it until an answer arrives. If no answer arrives, or the answer is 202, or `retry` is `again`: wait for \
    Retry-After and send the same request with the same key. Never make a new key because an answer was lost: a new key is a new \
    request.";

pub(super) fn operation(endpoint: &Endpoint, described: &Described) -> Value {
    // Strings, maps and numbers always serialize.
    let mut operation = serde_json::to_value(&described.operation).unwrap_or_default();
    operation["security"] = if endpoint.is_secured() { json!([{"apiKey": []}]) } else { json!([]) };
    take_null_from_body(&mut operation);
    if let Some(policy) = &endpoint.policy {
        let text = operation["description"].as_str().unwrap_or_default();
        operation["description"] = json!(format!("{text}\n\n{RETRIES}"));
        operation["x-idempotency"] = json!(policy);
        if operation["parameters"].is_null() {
            operation["parameters"] = json!([]);
        }
        if let Some(parameters) = operation["parameters"].as_array_mut() {
            parameters.push(key_parameter());
        }
    }
    let name = operation["operationId"].as_str().unwrap_or_default().to_owned();
    if let Some(responses) = operation["responses"].as_object_mut() {
        for (status, response) in responses {
            complete_success(&name, status, response, endpoint.policy.is_some());
        }
    }
    for problems in problems_at(endpoint).chunk_by(|one, next| one.status == next.status) {
        let status = problems[0].status;
        operation["responses"][status.to_string()] = problem_response(status, problems, endpoint);
    }
    operation
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

fn complete_success(operation: &str, status: &str, response: &mut Value, keyed: bool) {
    let mut names = vec!["X-Request-Id"];
    if keyed {
        names.push("Idempotency-Replayed");
    }
    if keyed && status != "202" {
        names.push("Idempotency-Expires");
    }
    if matches!(status, "201" | "202") {
        names.push("Location");
    }
    if matches!(operation, "getProduct" | "putProduct") {
        names.push("ETag");
    }
    if status == "202" {
        names.push("Retry-After");
        if let Some(schema) = response.pointer_mut("/content/application~1json/schema") {
            *schema = processing(schema);
        }
    }
    response["headers"] = header_refs(names);
    let links = links(operation, status);
    if !links.is_empty() {
        response["links"] = Value::Object(links);
    }
}

fn key_parameter() -> Value {
    json!({
        "name": "Idempotency-Key",
        "in": "header",
        "required": true,
        "description": "Your name for this request. A retry must send the same key. 1 to 255 visible ASCII characters, bare or as a \
            quoted string. A random UUID is a good key.",
        "schema": {"type": "string", "minLength": 1, "pattern": KEY_PATTERN},
        "example": "8e03978e-40d5-43e8-bc93-6894a57f9324",
    })
}

/// OpenAPI links: an operation, a status, and the operations that take the id from its body. Documentation shows them, and fuzzers
/// follow them.
const LINKS: &[(&str, &str, &[&str])] = &[
    ("createOrder", "201", &["getOrder", "cancelOrder"]),
    ("createCharge", "201", &["getCharge", "createRefund", "listRefunds"]),
    ("createCharge", "202", &["getCharge"]),
    ("createRefund", "201", &["getRefund"]),
    ("createRefund", "202", &["getRefund"]),
    ("grantEntitlement", "201", &["getEntitlement", "consumeEntitlement", "revokeEntitlement"]),
];

/// The links of a response.
fn links(operation: &str, status: &str) -> Map<String, Value> {
    let leads = LINKS.iter().find(|(from, on, _)| *from == operation && *on == status).map_or(&[][..], |lead| lead.2);
    let link = |to: &&str| ((*to).to_owned(), json!({"operationId": to, "parameters": {"id": "$response.body#/id"}}));
    leads.iter().map(link).collect()
}
