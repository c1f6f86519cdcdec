//! The metrics for Prometheus: requests and key outcomes by route, the pool, the resolver.
//!
//! Guarantees: a scrape waits for nothing. The number of series is bounded: labels are routes, statuses and a few fixed
//! words, and no client can add one.

use actix_web::HttpResponse;
use actix_web::web::Data;
use prometheus::{
    Encoder, Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TEXT_FORMAT,
    TextEncoder,
};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::db::{Db, Refusals};
use crate::http::ApiError;
use crate::http::endpoint::{Endpoint, endpoint};
use crate::server::causes;
use crate::server::gauges::{Gauges, Known};
use crate::shop::payments::Resolver;
use crate::shop::webhooks::DIFFERENCES;

/// In seconds. Most requests take milliseconds. A duplicate waits up to 5 s, a charge up to 6 s. The last bucket is for
/// requests that take longer than any should.
const BUCKETS: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 6.5, 15.0];

/// Counts requests as they end.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    requests: HistogramVec,
    keys: IntCounterVec,
}

impl Metrics {
    /// All counts begin at zero.
    ///
    /// # Errors
    /// Prometheus refuses a name, which is a defect.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let requests = HistogramVec::new(
            HistogramOpts::new("http_request_duration_seconds", "Time to the answer, by route and status.")
                .buckets(BUCKETS.to_vec()),
            &["method", "route", "status"],
        )?;
        let keys = IntCounterVec::new(
            Opts::new("idempotency_requests_total", "Requests with a key, by route and what the key met."),
            &["route", "outcome"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(keys.clone()))?;
        Ok(Self { registry, requests, keys })
    }

    /// Counts one answer. `route` is the path template. `outcome` is the key's outcome, if the request had a key.
    pub fn answered(&self, method: &str, route: &str, status: u16, outcome: Option<&str>, took: Duration) {
        // A client may send any word as its method.
        let method = if matches!(method, "GET" | "HEAD" | "POST" | "PUT") { method } else { "other" };
        let labels = [method, route, &status.to_string()];
        self.requests.with_label_values(&labels).observe(took.as_secs_f64());
        if let Some(outcome) = outcome {
            self.keys.with_label_values(&[&format!("{method} {route}"), outcome]).inc();
        }
    }
}

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![endpoint(__path_page, page)]
}

/// `GET /metrics`
///
/// # Errors
/// 500 for a defect.
#[utoipa::path(get, path = "/metrics", operation_id = "getMetrics", tag = "Service", summary = "Retrieve metrics",
    description = "Returns metrics for Prometheus: requests and key outcomes by route, the database pool, the resolver.",
    responses((status = 200, body = String, description = "The metrics in Prometheus' text format", content_type = "text/plain")))]
pub async fn page(
    metrics: Data<Metrics>,
    db: Data<Db>,
    resolver: Data<Resolver>,
    gauges: Data<Gauges>,
) -> Result<HttpResponse, ApiError> {
    let now = snapshot(&db, &resolver, &gauges).map_err(ApiError::internal)?;
    let mut families = metrics.registry.gather();
    families.extend(now.gather());
    families.extend(causes::snapshot(&db).map_err(ApiError::internal)?.gather());
    let mut text = Vec::new();
    TextEncoder::new().encode(&families, &mut text).map_err(ApiError::internal)?;
    Ok(HttpResponse::Ok().content_type(TEXT_FORMAT).body(text))
}

/// The current numbers of the pool, the resolver and the database.
fn snapshot(db: &Db, resolver: &Resolver, gauges: &Gauges) -> prometheus::Result<Registry> {
    let registry = Registry::new();
    let load = db.load();
    gauge(&registry, "db_connections_busy", "Database connections at work.", load.busy)?;
    gauge(&registry, "db_queue_length", "Work that waits for a database connection.", load.queued)?;
    let given_up = "Threads that wait for an answer of a silent database, and that nobody waits for any more.";
    gauge(&registry, "db_threads_given_up", given_up, load.given_up)?;
    refusals(&registry, load.refusals)?;
    let counts = resolver.counts();
    for (name, help, count) in [
        ("resolver_resolved_total", "Outcomes recorded.", &counts.resolved),
        ("resolver_unknown_total", "Attempts without an outcome.", &counts.unknown),
        ("resolver_parked_total", "Times that a charge or refund was parked.", &counts.parked),
        ("gateway_differences_total", "Resolved charges and refunds that the gateway sees otherwise.", &DIFFERENCES),
    ] {
        let counter = IntCounter::new(name, help)?;
        counter.inc_by(count.load(Ordering::Relaxed));
        registry.register(Box::new(counter))?;
    }
    // Without a recent look only these series are missing. The others are still worth a scrape.
    if let Some(Known { backlog, sweep_lag }) = gauges.known() {
        let open = "Charges and refunds without an outcome, without the parked ones.";
        gauge(&registry, "resolver_backlog", open, backlog.open)?;
        let oldest = "Age of the oldest charge or refund in the backlog.";
        seconds(&registry, "resolver_backlog_oldest_seconds", oldest, backlog.oldest.unwrap_or_default())?;
        gauge(&registry, "resolver_parked", "Charges and refunds that wait for `payments resolve`.", backlog.parked)?;
        let lag = "How long ago the oldest expired idempotency record expired that is not deleted yet.";
        seconds(&registry, "sweeper_lag_seconds", lag, sweep_lag)?;
    }
    Ok(registry)
}

fn refusals(registry: &Registry, refusals: Refusals) -> prometheus::Result<()> {
    let help = "Work that got no database connection, by the reason and by whose load was in the way.";
    let refused = IntCounterVec::new(Opts::new("db_refusals_total", help), &["cause", "load"])?;
    for (cause, of) in [("queue_full", refusals.queue_full), ("waited", refusals.waited)] {
        refused.with_label_values(&[cause, "own"]).inc_by(of.own);
        refused.with_label_values(&[cause, "others"]).inc_by(of.others);
    }
    registry.register(Box::new(refused))
}

fn gauge(registry: &Registry, name: &str, help: &str, value: impl TryInto<i64>) -> prometheus::Result<()> {
    let gauge = IntGauge::new(name, help)?;
    gauge.set(value.try_into().unwrap_or(i64::MAX));
    registry.register(Box::new(gauge))
}

fn seconds(registry: &Registry, name: &str, help: &str, value: Duration) -> prometheus::Result<()> {
    let gauge = Gauge::new(name, help)?;
    gauge.set(value.as_secs_f64());
    registry.register(Box::new(gauge))
}
