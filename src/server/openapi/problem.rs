//! The problems in the document: one schema for all problems. Each response lists its problems, and the `retry` of each.

use serde_json::{Map, Value, json};

use super::headers::header_refs;
use crate::http::endpoint::Endpoint;
use crate::http::problems::{
    CARD_DECLINED, GATEWAY_FAILED, INVALID_REQUEST, KEY_EXPIRED, Kind, OUT_OF_STOCK, Problem, QUOTA_EXCEEDED,
    REFUND_EXCEEDS_CHARGE, Retry, UNKNOWN_PRODUCT,
};
use crate::server::advice;

/// An id for examples.
const EXAMPLE_ID: &str = "0199a3c4-5b6d-7e8f-9a0b-1c2d3e4f5a6b";

/// All problems share one schema, so that generators keep it and a client can read a problem type that it doesn't know.
pub(super) fn problem_response(status: u16, problems: &[&Problem], endpoint: &Endpoint) -> Value {
    let lines: Vec<_> = problems.iter().map(|problem| format!("`{}`: {}", problem.slug, problem.meaning)).collect();
    let examples: Map<_, _> = problems
        .iter()
        .map(|problem| {
            (problem.slug.to_owned(), json!({"summary": problem.title, "value": example(problem, endpoint)}))
        })
        .collect();
    let mut names = vec!["X-Request-Id", "Retry-Advice"];
    let kept = |problem: &&Problem| matches!(problem.kind, Kind::Final | Kind::Outcome);
    if endpoint.policy.is_some() && problems.iter().any(kept) {
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
    let told: Vec<_> = problems
        .iter()
        .map(|problem| json!({"type": format!("/problems/{}", problem.slug), "retry": advice::retries_at(endpoint, problem)}))
        .collect();
    json!({
        "description": lines.join("\n\n"),
        "headers": header_refs(names),
        "content": {"application/problem+json": {
            "schema": {"$ref": "#/components/schemas/Problem"},
            "examples": examples,
        }},
        "x-problems": told,
    })
}

/// Examples of members that only some problems have.
fn extensions(problem: &Problem) -> Value {
    let url = format!("/v1/charges/{EXAMPLE_ID}");
    match *problem {
        INVALID_REQUEST => json!({"errors": [{"pointer": "/items/0/quantity", "detail": "must be at least 1"}]}),
        CARD_DECLINED => json!({"decline_code": "generic_decline", "charge_id": EXAMPLE_ID, "instance": url}),
        GATEWAY_FAILED => json!({"failure_code": "resource_missing", "charge_id": EXAMPLE_ID, "instance": url}),
        KEY_EXPIRED => json!({"resource": url}),
        OUT_OF_STOCK => json!({"sku": "sticker", "available": 3}),
        UNKNOWN_PRODUCT => json!({"sku": "stickers"}),
        QUOTA_EXCEEDED | REFUND_EXCEEDS_CHARGE => json!({"available": 10}),
        _ => json!({}),
    }
}

fn example(problem: &Problem, endpoint: &Endpoint) -> Value {
    let mut example = json!({
        "type": format!("/problems/{}", problem.slug),
        "title": problem.title,
        "status": problem.status,
        "detail": problem.meaning,
        "instance": "urn:uuid:0e9f1a3c-7f5b-4f0e-8a55-2f4d3c2b1a09",
        "retry": advice::retries_at(endpoint, problem)[0],
    });
    if let (Some(example), Value::Object(more)) = (example.as_object_mut(), extensions(problem)) {
        example.extend(more);
    }
    example
}

pub(super) fn problem_schema() -> Value {
    let text = |description: &str| json!({"type": "string", "description": description});
    let id = |description: &str| json!({"type": "string", "format": "uuid", "description": description});
    json!({
        "type": "object",
        "description": "An RFC 9457 problem document.",
        "required": ["type", "title", "status", "detail", "instance", "retry"],
        "properties": {
            "type": {"type": "string", "format": "uri-reference", "description": "The type of the problem, and the path of its page. Show it to people, log it, count it, but let `retry` decide what to do next."},
            "title": text("The problem's name, for a person."),
            "status": {"type": "integer", "minimum": 400, "maximum": 599, "description": "The HTTP status."},
            "detail": text("What happened this time, for a person."),
            "instance": {"type": "string", "format": "uri-reference",
                "description": "This occurrence: the id of the request, or the URL of a charge or refund."},
            "retry": {"$ref": "#/components/schemas/Retry"},
            "errors": {
                "type": "array", "description": "What is wrong with the request: at most 20 faults. Only with invalid-request.",
                "items": {
                    "type": "object", "required": ["pointer", "detail"],
                    "properties": {
                        "pointer": text("A JSON pointer to the member, also to one that is missing."),
                        "detail": text("What is wrong with the member."),
                    },
                },
            },
            "sku": text("The product in question."),
            "available": {"type": "integer", "description": "How much is available."},
            "decline_code": text("Why the payment method was declined."),
            "failure_code": text("Why the gateway failed the call: its own code, or gateway_failed."),
            "charge_id": id("The charge that failed."),
            "refund_id": id("The refund that failed."),
            "cause": text("Why the server is not ready. Only in the answer of `/health/ready`."),
            "failing": {"type": "array", "items": {"type": "string"},
                "description": "The causes for which requests get 503 at present. Only in the answer of `/health/ready`."},
            "resource": text("The URL of the resource that the request with the expired key created."),
        },
    })
}

pub(super) fn retry_schema() -> Value {
    let lines = Retry::ALL.map(|retry| format!("- `{}`: {}", retry.as_str(), retry.for_a_person()));
    json!({"type": "string", "enum": Retry::ALL, "description": format!("What to do next. Decide by this member.\n\n{}", lines.join("\n"))})
}
