//! The headers of answers, which the operations refer to.

use serde_json::{Value, json};

/// The headers of one answer.
pub(super) fn header_refs(names: Vec<&str>) -> Value {
    let header = |name: &str| (name.to_owned(), json!({"$ref": format!("#/components/headers/{name}")}));
    Value::Object(names.into_iter().map(header).collect())
}

pub(super) fn headers() -> Value {
    json!({
        "X-Request-Id": {"description": "The id of this request. The server's log has the same id.", "schema": {"type": "string", "format": "uuid"}},
        "Idempotency-Replayed": {
            "description": "`true` if the answer is a stored reply. Absent from the answer to the request that ran.",
            "schema": {"type": "string", "const": "true"},
        },
        "Idempotency-Expires": {
            "description": "The HTTP date until which a retry with this key gets this reply. Absent if nothing is stored.",
            "schema": {"type": "string"}, "example": "Wed, 25 Nov 2026 08:00:00 GMT",
        },
        "Location": {"description": "The URL of the resource that the request created.", "schema": {"type": "string", "format": "uri-reference"}},
        "Retry-After": {"description": "The seconds to wait before you send the same request again.", "schema": {"type": "string", "pattern": "^[0-9]+$"}},
        "Retry-Advice": {"description": "What to do next: the same as the member `retry`.", "schema": {"$ref": "#/components/schemas/Retry"}},
        "ETag": {"description": "The version of the resource, for `If-Match` of a later PUT.", "schema": {"type": "string"}},
        "WWW-Authenticate": {"description": "`Bearer`.", "schema": {"type": "string"}},
        "Allow": {"description": "The methods of this path.", "schema": {"type": "string"}},
    })
}
