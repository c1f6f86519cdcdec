//! Around every request: an id, a problem document for what is not a success, and a line in the log.

use std::time::{Duration, Instant};

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpMessage, HttpResponse};
use uuid::Uuid;

use crate::auth::Account;
use crate::error::ApiError;
use crate::idempotency::{self, Instance, Origin};
use crate::metrics::Metrics;
use crate::problems::{self, KEY_REUSED, METHOD_NOT_ALLOWED, NOT_FOUND, Problem, REQUEST_IN_FLIGHT};

/// The id of this request, which the log has too.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Around every request: an id, a problem document for what is not a success, and a line in the log.
pub(super) async fn frame(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let id = Uuid::new_v4();
    let started = Instant::now();
    request.extensions_mut().insert(Instance(id));
    let mut response = with_problem(next.call(request).await?.map_into_boxed_body(), id);
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
    tell(&response, id, started.elapsed());
    Ok(response)
}

/// Makes the problem document of an error, ours or the framework's.
fn with_problem(response: ServiceResponse<BoxBody>, id: Uuid) -> ServiceResponse<BoxBody> {
    let Some(error) = problem_of(response.response()) else { return response };
    let allow = response.headers().get(ALLOW).cloned();
    let outcome = Outcome(error.problem());
    let mut response = response.into_response(error.response(id, allow));
    response.response_mut().extensions_mut().insert(outcome);
    response
}

fn problem_of(response: &HttpResponse) -> Option<ApiError> {
    let Some(error) = response.error() else {
        // The router's own answer for a path without this method has no error in it.
        let is_unrouted = response.status() == StatusCode::METHOD_NOT_ALLOWED;
        return is_unrouted.then(|| ApiError::new(&METHOD_NOT_ALLOWED, "the path exists, but not with this method"));
    };
    if let Some(error) = error.as_error::<ApiError>() {
        return Some(error.clone());
    }
    if let Some(error) = error.as_error::<idempotency::Error>() {
        return Some(error.clone().into());
    }
    Some(match response.status() {
        StatusCode::NOT_FOUND => ApiError::new(&NOT_FOUND, "there is nothing at this path"),
        status if status.is_client_error() => ApiError::new(&problems::MALFORMED_REQUEST, error.to_string()),
        _ => ApiError::internal(error),
    })
}

/// The problem that a response answers with, in its extensions, for the log.
#[derive(Clone, Copy)]
struct Outcome(&'static Problem);

/// What the request's key met, in one word for the log and the metrics.
fn key_outcome(response: &HttpResponse) -> Option<&'static str> {
    let extensions = response.extensions();
    match (extensions.get::<Origin>(), extensions.get::<Outcome>()) {
        (Some(Origin::Fresh), _) => Some("fresh"),
        (Some(Origin::Recovered), _) => Some("recovered"),
        (Some(Origin::Replayed), _) => Some("replayed"),
        (None, Some(Outcome(problem))) if problem.slug == REQUEST_IN_FLIGHT.slug => Some("in_flight"),
        (None, Some(Outcome(problem))) if problem.slug == KEY_REUSED.slug => Some("reused"),
        (None, _) => None,
    }
}

fn tell(response: &ServiceResponse<BoxBody>, id: Uuid, took: Duration) {
    let request = response.request();
    let account =
        request.extensions().get::<Account>().map_or_else(|| "-".to_owned(), |account| account.id.to_string());
    let pattern = request.match_pattern();
    let (method, route) = (request.method().as_str(), pattern.as_deref().unwrap_or("-"));
    let status = response.status().as_u16();
    let key = key_outcome(response.response());
    let problem = response.response().extensions().get::<Outcome>().map_or("-", |outcome| outcome.0.slug);
    if let Some(metrics) = request.app_data::<Data<Metrics>>() {
        metrics.answered(method, route, status, key, took);
    }
    // Asked every few seconds by machines, these would drown the rest.
    let asked_by_machines = route.starts_with("/health/") || route == "/metrics";
    log::log!(
        if asked_by_machines { log::Level::Debug } else { log::Level::Info },
        "request={id} account={account} route=\"{method} {route}\" status={status} key={} problem={problem} ms={:.1}",
        key.unwrap_or("-"),
        took.as_secs_f64() * 1000.0,
    );
}
