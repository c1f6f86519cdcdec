//! Unusual requests: OPTIONS, an offer of another protocol, and query parameters that no handler reads.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::ConnectionType;
use actix_web::http::header::ALLOW;
use actix_web::middleware::Next;
use actix_web::{Error, HttpResponse};

use crate::error::ApiError;
use crate::idempotency::{FieldError, escape_pointer};

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

/// Adds `Connection: close` if the client offers another protocol, for example Java's client with `Upgrade: h2c`. The client
/// gets its answer in HTTP/1.1. Then actix closes the connection, and without the header the client would send its next
/// request on the closed connection.
pub(super) async fn honest_close(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let offers_upgrade = request.head().upgrade();
    let mut response = next.call(request).await?;
    if offers_upgrade {
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    Ok(response)
}
