//! Refuses the query parameters of an endpoint that reads none. A client that sends a parameter expects an effect.

use actix_web::Error;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;

use crate::http::ApiError;
use idempotency::{FieldError, escape_pointer};

/// The most parameters that an answer names, as for the members of a body.
const NAMED: usize = 20;

pub(super) async fn no_query(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let query = request.query_string();
    if query.is_empty() {
        return Ok(next.call(request).await?.map_into_boxed_body());
    }
    // Any text is a list of pairs, so nothing gets past this check.
    let pairs: Vec<(String, String)> = serde_urlencoded::from_str(query).unwrap_or_default();
    let unknown = |(name, _): &(String, String)| FieldError {
        pointer: format!("/{}", escape_pointer(name)),
        detail: "unknown parameter".to_owned(),
    };
    let errors: Vec<_> = pairs.iter().take(NAMED).map(unknown).collect();
    if errors.is_empty() {
        return Ok(next.call(request).await?.map_into_boxed_body());
    }
    Ok(request.error_response(ApiError::invalid(&errors)))
}
