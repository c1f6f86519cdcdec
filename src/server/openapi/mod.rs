//! The OpenAPI 3.1 document, generated from the endpoints.
//!
//! Each handler's `#[utoipa::path]` describes the operation. Each type's `ToSchema` describes members and ranges. `operation.rs`
//! adds what follows from the route and its policy: problems by status, headers, the key's parameter, `x-idempotency`.

mod headers;
mod operation;
mod problem;
mod schemas;

use actix_web::HttpResponse;
use actix_web::http::header::ContentType;
use actix_web::web::{Bytes, Data};
use serde_json::{Value, json};
use utoipa::OpenApi;

use self::headers::headers;
use self::operation::operation;
use self::schemas::schemas;
use crate::http::endpoint::{Api, Endpoint, endpoint};

/// What the document says about the API as a whole.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Idempotent payments",
        description = "Orders, charges, refunds and entitlements that a client can retry without fear. A request with an \
            `Idempotency-Key` takes effect once, and a retry gets the first final reply byte for byte. Each operation \
            says in `x-idempotency` what a retry does. Every error is a problem document (RFC 9457), and its `retry` says \
            what to do next.",
        contact(name = "Idempotent payments"),
    ),
    servers((url = "/", description = "This server")),
    tags(
        (name = "Products", description = "The catalogue. PUT is idempotent by itself and needs no key."),
        (name = "Orders", description = "An order is created at the catalogue's prices and paid by a charge, and can be canceled while it is pending."),
        (name = "Charges", description = "A charge pays an order through the gateway. Its outcome becomes known even if the gateway's answer is lost."),
        (name = "Refunds", description = "A refund returns part or all of a charge."),
        (name = "Entitlements", description = "What a customer may use: granted, consumed, revoked."),
        (name = "Events", description = "One event for each change, in an order that never changes."),
        (name = "Idempotency", description = "What became of a key, and what each endpoint does with a retry."),
        (name = "Service", description = "Health, metrics and this document. No authentication."),
    )
)]
struct Described;

/// The document of the running server, as every answer has it.
pub struct Document(Bytes);

impl Document {
    /// Describes these endpoints.
    #[must_use]
    pub fn of(api: &Api) -> Self {
        Self(document(api).to_string().into())
    }
}

/// The document.
#[must_use]
pub fn document(api: &Api) -> Value {
    // Strings, maps and numbers always serialize.
    let mut document = serde_json::to_value(Described::openapi()).unwrap_or_default();
    // The licence is an expression of two licences, so no single page describes it.
    document["info"]["license"] = json!({"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"});
    document["components"] = json!({
        "schemas": schemas(api),
        "headers": headers(),
        "securitySchemes": {"apiKey": {
            "type": "http", "scheme": "bearer",
            "description": "An API key, such as `sk_demo_acme` of the demo. `payments account create NAME` creates one.",
        }},
    });
    for endpoint in &api.endpoints {
        if let Some(described) = &endpoint.described {
            document["paths"][&endpoint.path][endpoint.method.to_ascii_lowercase()] = operation(endpoint, described);
        }
    }
    document
}

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![endpoint(__path_json, self::json)]
}

/// `GET /openapi.json`
#[utoipa::path(get, path = "/openapi.json", operation_id = "getOpenApi", tag = "Service",
    summary = "Retrieve this document", description = "Returns the API's description in OpenAPI 3.1.",
    responses((status = 200, body = Value, description = "The document", content_type = "application/json")))]
pub async fn json(document: Data<Document>) -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::json()).body(document.0.clone())
}
