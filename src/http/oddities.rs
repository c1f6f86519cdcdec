//! What clients send that is not a request for something: OPTIONS, offers of another protocol, and queries that nobody reads.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::ConnectionType;
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

/// Says that the connection ends, where it does. A client that offers another protocol (`Upgrade: h2c`, as Java does) gets
/// its answer in HTTP/1.1; actix closes such a connection after it, and without a word the client would send its next
/// request into the void.
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
