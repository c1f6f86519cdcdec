//! The headers of answers. Operations refer to these descriptions.

use serde_json::{Value, json};

pub(super) fn header_ref(name: &str) -> Value {
    json!({"$ref": format!("#/components/headers/{name}")})
}

pub(super) fn headers() -> Value {
    json!({
        "X-Request-Id": {"description": "This request's id, also in the log.", "schema": {"type": "string", "format": "uuid"}},
        "Idempotency-Replayed": {
            "description": "`true` if the answer is a stored reply. The request whose own body ran gets its answer without this header.",
            "schema": {"type": "string", "const": "true"},
        },
        "Idempotency-Expires": {
            "description": "HTTP date until which a retry with this key gets this reply. Absent if nothing is stored.",
            "schema": {"type": "string"}, "example": "Wed, 25 Nov 2026 08:00:00 GMT",
        },
        "Location": {"description": "The URL of the resource that the request made.", "schema": {"type": "string", "format": "uri-reference"}},
        "Retry-After": {"description": "Seconds to wait before the same request is sent again.", "schema": {"type": "string", "pattern": "^[0-9]+$"}},
        "ETag": {"description": "The version, for `If-Match` of a later PUT.", "schema": {"type": "string"}},
        "WWW-Authenticate": {"description": "`Bearer`.", "schema": {"type": "string"}},
        "Allow": {"description": "The methods of this path.", "schema": {"type": "string"}},
    })
}
