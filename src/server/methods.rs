//! Unusual requests: OPTIONS, and query parameters that no handler reads.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::ALLOW;
use actix_web::middleware::Next;
use actix_web::{Error, HttpResponse};

use crate::http::no_parameters;

/// Answers an OPTIONS request that is no preflight of a browser: `Allow` lists the methods of the path.
pub(super) fn options(methods: &[&str]) -> HttpResponse {
    let mut allow: Vec<_> = methods.to_vec();
    if allow.contains(&"GET") {
        allow.push("HEAD");
    }
    allow.push("OPTIONS");
    HttpResponse::NoContent().insert_header((ALLOW, allow.join(", "))).finish()
}

/// Refuses query parameters at a route without any. A client that sends a parameter expects an effect.
pub(super) async fn no_query(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    if let Err(unknown) = no_parameters(request.query_string()) {
        return Ok(request.error_response(unknown));
    }
    Ok(next.call(request).await?.map_into_boxed_body())
}
