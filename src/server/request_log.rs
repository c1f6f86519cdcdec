//! The frame around every request: gives the request an id, answers a failure with a problem document, and writes a log line.
//!
//! The log line names what a person on call looks for: the request, the account, the client's key with its outcome, and
//! the resource. Text from a client enters it only after a check, and only up to a fixed length.

use std::time::{Duration, Instant};

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderValue, LOCATION, X_CONTENT_TYPE_OPTIONS};
use actix_web::http::{ConnectionType, StatusCode};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpMessage, HttpResponse};
use log::Level;
use log::kv::Value;
use uuid::Uuid;

use super::connections;
use super::request_id::{Names, X_REQUEST_ID};
use crate::db::Db;
use crate::http::auth::{Account, KeyId};
use crate::http::problems::{
    KEY_REUSED, MALFORMED_REQUEST, METHOD_NOT_ALLOWED, NOT_FOUND, Problem, REQUEST_IN_FLIGHT, Retry,
};
use crate::http::{ApiError, RETRY_ADVICE};
use crate::process::logging;
use crate::server::metrics::Metrics;
use idempotency::{self, Instance, Key, Origin};

/// The most characters of a path in the log. The longest route with ids has half as many.
pub(super) const PATH_SHOWN: usize = 160;

/// The middleware of every request.
pub(super) async fn frame(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let names = Names::of(request.headers());
    let started = Instant::now();
    request.extensions_mut().insert(Instance(names.id));
    let offers_upgrade = request.head().upgrade();
    let answered = logging::of_request(names.id, next.call(request)).await?;
    let response = with_problem(answered.map_into_boxed_body(), names.id);
    let is_stored_problem = response.status().as_u16() >= 400 && response.response().extensions().contains::<Origin>();
    let (response, resource) = with_resource(response);
    let mut response = connections::with_body(response);
    if offers_upgrade {
        // The server stays with HTTP/1.1, and actix closes a connection whose client offered another protocol. The
        // header tells the client.
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if is_stored_problem {
        // A record has the body, but not this header. A policy stores only final failures and declines, after which
        // another attempt needs a new key.
        headers.insert(RETRY_ADVICE, HeaderValue::from_static(Retry::NewKey.as_str()));
    }
    if let Ok(value) = HeaderValue::from_str(&names.id.to_string()) {
        headers.insert(X_REQUEST_ID, value);
    }
    tell(&response, &names, resource.as_deref(), started.elapsed());
    Ok(response)
}

/// Answers an error, the framework's own included, with a problem document. Other headers stay, such as those for
/// browsers.
fn with_problem(response: ServiceResponse<BoxBody>, id: Uuid) -> ServiceResponse<BoxBody> {
    let Some(error) = problem_of(response.response()) else { return response };
    if let (Some(cause), Some(db)) = (error.cause, response.request().app_data::<Data<Db>>()) {
        db.pool().outages().count_refused(cause);
    }
    let (answer, document) = error.response(id).into_parts();
    let mut response = response.map_body(|head, _| {
        head.status = answer.status();
        for (name, value) in answer.headers() {
            head.headers_mut().insert(name.clone(), value.clone());
        }
        document
    });
    response.response_mut().extensions_mut().insert(error.problem);
    response
}

fn problem_of(response: &HttpResponse) -> Option<ApiError> {
    let Some(error) = response.error() else {
        // If the path exists, but not with this method, the router answers 405 without an error inside.
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
        status if status.is_client_error() => ApiError::new(&MALFORMED_REQUEST, error.to_string()),
        _ => ApiError::internal(error),
    })
}

/// The key's outcome in one word, for the log and the metrics.
pub(super) fn key_outcome(response: &HttpResponse) -> Option<&'static str> {
    match (response.extensions().get::<Origin>(), problem(response)) {
        (Some(Origin::Fresh), _) => Some("fresh"),
        (Some(Origin::Recovered), _) => Some("recovered"),
        (Some(Origin::Replayed), _) => Some("replayed"),
        (None, Some(&REQUEST_IN_FLIGHT)) => Some("in_flight"),
        (None, Some(&KEY_REUSED)) => Some("reused"),
        (None, _) => None,
    }
}

/// The problem that the response answers with.
pub(super) fn problem(response: &HttpResponse) -> Option<&'static Problem> {
    response.extensions().get::<&'static Problem>().copied()
}

/// Whether machines call this route every few seconds.
pub(super) fn asked_by_machines(route: &str) -> bool {
    route.starts_with("/health/") || route == "/metrics"
}

/// The resource of the request: the answer's `Location`, the instance of a 402, or the path if it names one resource.
fn with_resource(response: ServiceResponse<BoxBody>) -> (ServiceResponse<BoxBody>, Option<String>) {
    if let Some(location) = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()) {
        let location = location.to_owned();
        return (response, Some(location));
    }
    if response.status() != StatusCode::PAYMENT_REQUIRED {
        let request = response.request();
        let is_one = !request.match_info().is_empty() || request.match_pattern().is_none();
        let path = is_one.then(|| request.path().chars().take(PATH_SHOWN).collect());
        return (response, path);
    }
    let mut url = None;
    let response = response.map_body(|_, body| match body.try_into_bytes() {
        Ok(bytes) => {
            let problem: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
            // The URL of the charge or the refund.
            url = problem["instance"].as_str().filter(|url| url.starts_with('/')).map(str::to_owned);
            BoxBody::new(bytes)
        }
        Err(body) => body,
    });
    (response, url)
}

fn tell(response: &ServiceResponse<BoxBody>, names: &Names, resource: Option<&str>, took: Duration) {
    let request = response.request();
    let pattern = request.match_pattern();
    let (method, route) = (request.method().as_str(), pattern.as_deref().unwrap_or("-"));
    let status = response.status().as_u16();
    let outcome = key_outcome(response.response());
    if let Some(metrics) = request.app_data::<Data<Metrics>>() {
        metrics.answered(method, route, status, outcome, took);
    }
    // Their lines would hide the others.
    let level = if asked_by_machines(route) { Level::Debug } else { Level::Info };
    let (id, route) = (names.id.to_string(), format!("{method} {route}"));
    let account = request.extensions().get::<Account>().map(|account| account.id.to_string());
    let api_key = request.extensions().get::<KeyId>().map(ToString::to_string);
    let key = Key::of(request).ok();
    let problem = problem(response.response()).map(|problem| problem.slug);
    let words = [
        ("account", account.as_deref()),
        ("api_key", api_key.as_deref()),
        ("key", key.as_ref().map(Key::as_str)),
        ("outcome", outcome),
        ("resource", resource),
        ("problem", problem),
        ("trace", names.trace.as_deref()),
        ("client_request_id", names.clients.as_deref()),
    ];
    // Rounded to tenths of a millisecond.
    let milliseconds = (took.as_secs_f64() * 10_000.0).round() / 10.0;
    let mut fields: Vec<(&str, Value)> = vec![("request", id.as_str().into()), ("route", route.as_str().into())];
    fields.push(("status", status.into()));
    fields.extend(words.iter().filter_map(|(name, word)| Some((*name, Value::from((*word)?)))));
    fields.push(("ms", milliseconds.into()));
    logging::line(level, module_path!(), "answered", &fields);
}
