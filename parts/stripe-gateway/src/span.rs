// SPDX-License-Identifier: MIT OR Apache-2.0
//! The span of a call, with the feature `otel`. The tracer and the propagator are the process's own.
//!
//! Guarantees: no span has an idempotency key, a payment method, a header or a query.

use opentelemetry::trace::{FutureExt, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue, global};
use opentelemetry_http::HeaderInjector;
use reqwest::{RequestBuilder, Response, StatusCode};
use url::Position;

/// Sends the request in a new span, whose parent is the current span, if there is one. The gateway gets `traceparent`.
pub(super) async fn send(request: RequestBuilder) -> reqwest::Result<Response> {
    let (client, request) = request.build_split();
    let mut request = request?;
    let (method, url) = (request.method().to_string(), request.url());
    let tracer = global::tracer(env!("CARGO_PKG_NAME"));
    let span = tracer.span_builder(format!("{method} {}", url.path())).with_kind(SpanKind::Client).with_attributes([
        KeyValue::new("http.request.method", method),
        // Without the parts that may be secret: the user's name, the password and the query.
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
fn fail(context: &Context, kind: &str) {
    context.span().set_attribute(KeyValue::new("error.type", kind.to_owned()));
    context.span().set_status(Status::error(""));
}
