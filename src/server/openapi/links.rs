//! OpenAPI links: the operations that can follow an operation. Documentation shows the links, and fuzzers follow them.

use serde_json::{Value, json};

/// An operation, a status, and the operations that take the id from its body.
const LEADS: &[(&str, &str, &[&str])] = &[
    ("createOrder", "201", &["getOrder", "cancelOrder"]),
    ("createCharge", "201", &["getCharge", "createRefund", "listRefunds"]),
    ("createCharge", "202", &["getCharge"]),
    ("createRefund", "201", &["getRefund"]),
    ("createRefund", "202", &["getRefund"]),
    ("grantEntitlement", "201", &["getEntitlement", "consumeEntitlement", "revokeEntitlement"]),
];

/// The links of a response.
pub fn of(operation: &str, status: &str) -> Value {
    let leads = LEADS.iter().find(|(from, on, _)| *from == operation && *on == status).map_or(&[][..], |lead| lead.2);
    let link = |to: &&str| ((*to).to_owned(), json!({"operationId": to, "parameters": {"id": "$response.body#/id"}}));
    Value::Object(leads.iter().map(link).collect())
}
