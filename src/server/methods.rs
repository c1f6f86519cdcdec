//! Unusual requests: OPTIONS, and query parameters that no handler reads.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::ALLOW;
use actix_web::middleware::Next;
use actix_web::{Error, HttpResponse};

use crate::http::ApiError;
use idempotency::{FieldError, escape_pointer};

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
    if let Ok(pairs) = serde_urlencoded::from_str::<Vec<(String, String)>>(request.query_string())
        && !pairs.is_empty()
    {
        let unknown = |(name, _): &(String, String)| FieldError {
            pointer: format!("/{}", escape_pointer(name)),
            detail: "is not known here".to_owned(),
        };
        let errors: Vec<_> = pairs.iter().map(unknown).collect();
        return Ok(request.error_response(ApiError::invalid(&errors)));
    }
    Ok(next.call(request).await?.map_into_boxed_body())
}
