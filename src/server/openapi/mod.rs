//! The OpenAPI 3.1 document, made from the code.
//!
//! Each handler's `#[utoipa::path]` describes the operation. Each wire type's `ToSchema` describes members and ranges.
//! `complete.rs` adds what follows from the route and its policy: problems by status, headers, the key's parameter,
//! `x-idempotency`. So no data of another file is repeated here.

mod complete;
mod headers;
mod links;
mod problem;

use std::sync::LazyLock;

use actix_web::HttpResponse;
use serde_json::Value;
use utoipa::OpenApi;

use crate::server::{health, idempotency_keys, metrics, pages, policies};
use crate::shop::{charges, entitlements, events, orders, payments, products, refunds};

/// The document as the macros make it.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Idempotent payments",
        description = "Orders, charges, refunds and entitlements that a client can retry without fear: a request with an \
            `Idempotency-Key` takes effect once, and a retry gets the first final reply byte for byte. Each operation \
            says in `x-idempotency` what a retry does. All errors are RFC 9457 problem documents; `type` is a page that \
            says what to do.",
        contact(name = "Idempotent payments", url = "https://example.com/idempotent-payments"),
    ),
    servers((url = "/", description = "This server")),
    paths(
        products::list, products::get, products::put,
        orders::list, orders::create, orders::get, orders::cancel,
        charges::reads::list, payments::create_charge, charges::reads::get,
        refunds::reads::list, payments::create_refund, refunds::reads::get,
        entitlements::reads::list, entitlements::grant, entitlements::reads::get, entitlements::consume, entitlements::revoke,
        events::list, idempotency_keys::list, policies::list,
        health::live, health::ready, metrics::page, json, pages::home, pages::docs, pages::docs_file, pages::problem_list, pages::problem, pages::policies,
    ),
    tags(
        (name = "Products", description = "The catalogue. PUT is idempotent by itself and needs no key."),
        (name = "Orders", description = "Made at the catalogue's prices, paid by a charge, canceled while pending."),
        (name = "Charges", description = "The payment of an order through the gateway. A charge is resolved even if the gateway's answer was lost."),
        (name = "Refunds", description = "A refund gives back part or all of a charge."),
        (name = "Entitlements", description = "What a customer may use: granted, consumed, revoked."),
        (name = "Events", description = "One event for each change, in an order that a poller can trust."),
        (name = "Idempotency", description = "What became of a key, and what each endpoint does with a retry."),
        (name = "Service", description = "Health, metrics and documentation. No authentication."),
    )
)]
struct Described;

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| complete::complete(&Described::openapi()));

/// The document.
#[must_use]
pub fn document() -> &'static Value {
    &DOCUMENT
}

/// `GET /openapi.json`
#[utoipa::path(get, path = "/openapi.json", operation_id = "getOpenApi", tag = "Service",
    summary = "This document", description = "OpenAPI 3.1, made from the code that runs.",
    responses((status = 200, body = Value, description = "The document", content_type = "application/json")))]
pub async fn json() -> HttpResponse {
    HttpResponse::Ok().json(document())
}
