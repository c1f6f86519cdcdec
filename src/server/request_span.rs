//! The span of a request, with the feature `otel`: the standard attributes of HTTP, and the key's outcome.
//!
//! Guarantees: a span continues the client's trace. No attribute has the idempotency key, a header, the query or a body.

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderMap, HeaderName};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpMessage};
use opentelemetry::propagation::Extractor;
use opentelemetry::trace::{FutureExt, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue, global};

use super::request_id::single;
use super::request_log::{PATH_SHOWN, asked_by_machines, key_outcome, problem};
use crate::http::endpoint::Api;
use idempotency::Instance;

/// Serves the request in a span. A route that machines call every few seconds gets none.
pub(super) async fn traced(request: ServiceRequest, next: Next<BoxBody>) -> Result<ServiceResponse<BoxBody>, Error> {
    let route = request.match_pattern();
    if route.as_deref().is_some_and(asked_by_machines) {
        return next.call(request).await;
    }
    // If the client leaves, this future is dropped, and the span ends without a status.
    let context = begin(&request, route);
    let response = next.call(request).with_context(context.clone()).await?;
    note(&context, &response);
    Ok(response)
}

fn begin(request: &ServiceRequest, route: Option<String>) -> Context {
    let from_client = global::get_text_map_propagator(|from| from.extract(&Headers(request.headers())));
    let method = match request.method().as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "OPTIONS" | "PATCH") => known,
        // A client may send any word as its method.
        _ => "_OTHER",
    };
    let mut attributes = vec![
        KeyValue::new("http.request.method", method.to_owned()),
        KeyValue::new("url.scheme", "http"),
        KeyValue::new("url.path", request.path().chars().take(PATH_SHOWN).collect::<String>()),
    ];
    let mut name = method.to_owned();
    if let Some(route) = route {
        name = format!("{method} {route}");
        attributes.push(KeyValue::new("http.route", route));
    }
    let api = request.app_data::<Data<Api>>();
    if let Some(policy) = api.and_then(|api| api.policies().find(|policy| policy.route == name)) {
        attributes.push(KeyValue::new("idempotency.scope", policy.scope.as_str()));
    }
    let tracer = global::tracer(env!("CARGO_PKG_NAME"));
    let span = tracer.span_builder(name).with_kind(SpanKind::Server).with_attributes(attributes);
    from_client.with_span(span.start_with_context(&tracer, &from_client))
}

/// Adds the attributes that are known after the answer.
fn note(context: &Context, response: &ServiceResponse<BoxBody>) {
    let (span, status) = (context.span(), response.status());
    span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
    if let Some(Instance(id)) = response.request().extensions().get() {
        span.set_attribute(KeyValue::new("request_id", id.to_string()));
    }
    if let Some(outcome) = key_outcome(response.response()) {
        span.set_attribute(KeyValue::new("idempotency.outcome", outcome));
    }
    if let Some(problem) = problem(response.response()) {
        span.set_attribute(KeyValue::new("problem", problem.slug));
    }
    if status.is_server_error() {
        span.set_attribute(KeyValue::new("error.type", status.as_str().to_owned()));
        span.set_status(Status::error(""));
    }
}

/// The request's headers. One that is sent twice is ignored, as in the log.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        single(self.0, name)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}
