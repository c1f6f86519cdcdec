//! What clients send that is not a request for something: OPTIONS, and queries that nobody reads.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::ALLOW;
use actix_web::middleware::Next;
use actix_web::{Error, HttpResponse};

use crate::error::ApiError;
use crate::idempotency::{FieldError, escape_pointer};

/// Tells the methods of a path: for OPTIONS that is no preflight of a browser.
pub(super) fn options(methods: &[&str]) -> HttpResponse {
    let mut allow: Vec<_> = methods.to_vec();
    if allow.contains(&"GET") {
        allow.push("HEAD");
    }
    allow.push("OPTIONS");
    HttpResponse::NoContent().insert_header((ALLOW, allow.join(", "))).finish()
}

/// Refuses query parameters where there are none: a client that sends one expects something of it.
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
