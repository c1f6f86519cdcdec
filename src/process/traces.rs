//! With the feature `otel`: sends spans to an OpenTelemetry collector, by OTLP over HTTP. `server/request_span.rs` makes the span of
//! a request, and the crate `stripe-gateway` the span of a call to the gateway.
//!
//! Guarantees: without an endpoint in the environment, nothing is recorded and nothing is sent. No request waits for the
//! collector: a span goes into a bounded queue, and a thread of the SDK sends the queue. If the queue is full, the span is
//! dropped. No span has an idempotency key, a payment method, a header or a query.
//!
//! Not done here: metrics, logs, TLS and gRPC. All settings are the SDK's own variables.

use std::env;
use std::time::Duration;

use opentelemetry::{Key, global};
use opentelemetry_otlp::{OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;

use super::wrong::Wrong;

/// How long the process may take to send the last spans when it ends. Some 2,000 spans take well under a second. A
/// collector that hangs must not use up the time until SIGKILL (docs/operations.md, "Shutdown and restart").
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// Sends spans until it is dropped, when it sends the last ones.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

/// Begins to send spans, if the environment names an endpoint.
///
/// # Errors
/// If the SDK can't send spans to the endpoint.
pub fn start() -> Result<Option<Traces>, Wrong> {
    let disabled = variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let named = [OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT]
        .into_iter()
        .find_map(|name| Some((name, variable(name)?)));
    let Some((name, value)) = named.filter(|_| !disabled) else { return Ok(None) };
    if !value.starts_with("http://") {
        let right = "it must begin with http://, since no TLS is compiled in: send to a collector on this host";
        return Err(Wrong::new(name, &value, right));
    }
    let exporter = SpanExporter::builder().with_http().build();
    let exporter = exporter.map_err(|error| Wrong::new(name, &value, error.to_string()))?;
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
