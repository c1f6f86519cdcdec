//! The checks before a handler: the API key, and that a handler which reads no query gets none. They also bound the
//! time of every request, whatever the database or the gateway does.

use std::time::Duration;

use actix_web::Error;
use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use tokio::time::timeout;

use crate::http::auth::authenticate;
use crate::http::problems::DATABASE_UNAVAILABLE;
use crate::http::{ApiError, NoFilter, query};

/// Clients and proxies commonly give up after 15 s or more. Each wait has its own, shorter limit. This one is for
/// several waits in one request, for example when the database is silent while a key is looked up, and again while the
/// request runs.
const ANSWER_WITHIN: Duration = Duration::from_millis(11_500);

/// Checks a request before its handler. `secured`: it needs an API key. `reads_query`: the handler reads the query, and refuses
/// unknown parameters.
///
/// Answers 503 if the handler and the checks before it take too long. What they have begun still ends or rolls back; a
/// retry with the same key shows which.
pub(super) async fn check(
    request: ServiceRequest,
    next: Next<BoxBody>,
    secured: bool,
    reads_query: bool,
) -> Result<ServiceResponse, Error> {
    let head = request.request().clone();
    let answer = async {
        if secured {
            authenticate(&request).await?;
        }
        if !reads_query {
            // A client that sends a parameter expects an effect.
            query::<NoFilter>(request.query_string())?;
        }
        next.call(request).await
    };
    let late = |_| Err(ApiError::new(&DATABASE_UNAVAILABLE, "the server did not answer in time").into());
    let answer = timeout(ANSWER_WITHIN, answer).await.unwrap_or_else(late);
    Ok(answer.unwrap_or_else(|error| ServiceResponse::from_err(error, head)))
}
