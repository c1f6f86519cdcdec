//! With the feature `otel`: sends spans to an OpenTelemetry collector, by OTLP over HTTP. This file also makes the span of a call
//! to the gateway. `server/request_span.rs` makes the span of a request.
//!
//! Guarantees: without an endpoint in the environment, nothing is recorded and nothing is sent. No request waits for the
//! collector: a span goes into a bounded queue, and a thread of the SDK sends the queue. If the queue is full, the span is
//! dropped. No span has an idempotency key, a payment method, a header or a query.
//!
//! Not done here: metrics, logs, TLS and gRPC. All settings are the SDK's own variables.

use std::env;
use std::time::Duration;

use opentelemetry::trace::{FutureExt, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, Key, KeyValue, global};
use opentelemetry_http::HeaderInjector;
use opentelemetry_otlp::{OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use reqwest::{RequestBuilder, Response, StatusCode};
use url::Position;

use crate::commands::args::Wrong;

/// The instrumentation scope of every span.
pub const SCOPE: &str = "idempotent-payments";

/// How long the process may take to send the last spans when it ends. Some 2,000 spans take well under a second. A
/// collector that hangs must not use up the time until SIGKILL (docs/operations.md, "Shutdown and restart").
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// Sends spans until it is dropped, when it sends the last ones.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

/// Starts sending spans, if the environment names an endpoint.
///
/// # Errors
/// The SDK can't send spans to the endpoint.
pub fn start() -> Result<Option<Traces>, Wrong> {
    let disabled = variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let named = [OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT]
        .into_iter()
        .find_map(|name| Some((name, variable(name)?)));
    let Some((name, endpoint)) = named.filter(|_| !disabled) else { return Ok(None) };
    if !endpoint.starts_with("http://") {
        let right = "it must begin with http://, since no TLS is compiled in: send to a collector on this host";
        return Err(Wrong::new(name, &endpoint, right));
    }
    let exporter = SpanExporter::builder().with_http().build();
    let exporter = exporter.map_err(|error| Wrong::new(name, &endpoint, error.to_string()))?;
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource()).build();
    global::set_tracer_provider(provider.clone());
    global::set_text_map_propagator(TraceContextPropagator::new());
    log::info!("spans are sent to the collector of {name}");
    Ok(Some(Traces(provider)))
}

impl Drop for Traces {
    fn drop(&mut self) {
        // The SDK logs a failure.
        let _ = self.0.shutdown_with_timeout(FLUSH_WITHIN);
    }
}

/// The value of a variable. Compose files and unit files pass an unset variable as an empty one.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// The attributes of this process, from the environment. Without a name, the service is `payments`, not
/// `unknown_service:payments`.
fn resource() -> Resource {
    let resource = Resource::builder().build();
    let name = resource.get(&Key::new("service.name"));
    if name.is_some_and(|name| !name.as_str().starts_with("unknown_service")) {
        return resource;
    }
    Resource::builder().with_service_name("payments").build()
}

/// Sends a call to the gateway in a new span. If a request makes the call, the request's span is the parent. The gateway gets
/// `traceparent`.
///
/// # Errors
/// As [`RequestBuilder::send`].
pub async fn call(request: RequestBuilder) -> reqwest::Result<Response> {
    let (client, request) = request.build_split();
    let mut request = request?;
    let (method, url) = (request.method().to_string(), request.url());
    let tracer = global::tracer(SCOPE);
    let span = tracer.span_builder(format!("{method} {}", url.path())).with_kind(SpanKind::Client).with_attributes([
        KeyValue::new("http.request.method", method),
        // Without the parts that may be secret: user name, password and query.
        KeyValue::new(
            "url.full",
            format!("{}{}", &url[..Position::BeforeUsername], &url[Position::BeforeHost..Position::AfterPath]),
        ),
        KeyValue::new("server.address", url.host_str().unwrap_or_default().to_owned()),
        KeyValue::new("server.port", i64::from(url.port_or_known_default().unwrap_or_default())),
    ]);
    let context = Context::current_with_span(span.start(&tracer));
    let headers = request.headers_mut();
    global::get_text_map_propagator(|to| to.inject_context(&context, &mut HeaderInjector(headers)));
    let answered = client.execute(request).with_context(context.clone()).await;
    let span = context.span();
    match &answered {
        Ok(response) => {
            let status = response.status();
            span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
            // A decline is an answer, not an error.
            if (status.is_client_error() || status.is_server_error()) && status != StatusCode::PAYMENT_REQUIRED {
                fail(&context, status.as_str());
            }
        }
        Err(error) if error.is_timeout() => fail(&context, "timeout"),
        Err(error) if error.is_connect() => fail(&context, "connect"),
        Err(_) => fail(&context, "no_answer"),
    }
    answered
}

/// Marks the context's span as failed. `kind` is one of a few words.
pub fn fail(context: &Context, kind: &str) {
    context.span().set_attribute(KeyValue::new("error.type", kind.to_owned()));
    context.span().set_status(Status::error(""));
}
