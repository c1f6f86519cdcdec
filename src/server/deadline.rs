//! Every request has its answer in time, whatever the database or the gateway does.

use std::time::Duration;

use actix_web::Error;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use tokio::time::timeout;

use crate::http::ApiError;
use crate::http::problems::DATABASE_UNAVAILABLE;

/// Clients and proxies commonly give up after 15 s or more. Each wait has its own, shorter limit; this one is for several waits
/// that come together, for example of a database that is silent while a key is looked up, and again while the request runs.
const ANSWER_WITHIN: Duration = Duration::from_millis(11_500);

/// Answers 503 if the handler and the checks before it take too long. What they have begun ends or rolls back; a retry with the
/// same key finds out which.
pub(super) async fn deadline(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let head = request.request().clone();
    if let Ok(answered) = timeout(ANSWER_WITHIN, next.call(request)).await {
        return Ok(answered?.map_into_boxed_body());
    }
    let late = ApiError::new(&DATABASE_UNAVAILABLE, "the server did not answer in time");
    Ok(ServiceResponse::from_err(late, head))
}
