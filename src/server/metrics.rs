//! The metrics for Prometheus: requests and key outcomes by route, the pool, why the database can't serve, the resolver.
//!
//! Guarantees: a scrape waits for nothing: it gets what the last look found. The number of series is bounded: labels are
//! routes, statuses and a few fixed words, and no client can add one.

use actix_web::HttpResponse;
use actix_web::web::Data;
use prometheus::{
    Encoder, HistogramVec, IntCounterVec, Registry, TEXT_FORMAT, TextEncoder, register_gauge_with_registry,
    register_histogram_vec_with_registry, register_int_counter_vec_with_registry, register_int_counter_with_registry,
    register_int_gauge_vec_with_registry, register_int_gauge_with_registry,
};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::db::{Cause, Db};
use crate::http::ApiError;
use crate::http::endpoint::{Endpoint, endpoint};
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
        let requests = register_histogram_vec_with_registry!(
            "http_request_duration_seconds",
            "Time to the answer, by route and status.",
            &["method", "route", "status"],
            BUCKETS.to_vec(),
            registry
        )?;
        let help = "Requests with a key, by route and what the key met.";
        let labels = &["route", "outcome"];
        let keys = register_int_counter_vec_with_registry!("idempotency_requests_total", help, labels, registry)?;
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
    let now = Registry::new();
    of_database(&now, &db).map_err(ApiError::internal)?;
    of_resolver(&now, &resolver, &gauges).map_err(ApiError::internal)?;
    let mut families = metrics.registry.gather();
    families.extend(now.gather());
    let mut text = Vec::new();
    TextEncoder::new().encode(&families, &mut text).map_err(ApiError::internal)?;
    Ok(HttpResponse::Ok().content_type(TEXT_FORMAT).body(text))
}

/// The pool's current numbers, and why the database can't serve.
fn of_database(now: &Registry, db: &Db) -> prometheus::Result<()> {
    let load = db.pool().load();
    gauge(now, "db_connections_busy", "Database connections at work.", load.busy)?;
    gauge(now, "db_queue_length", "Work that waits for a database connection.", load.queued)?;
    let given_up = "Threads that wait for a silent or slow database, and that nobody waits for any more.";
    gauge(now, "db_threads_given_up", given_up, load.given_up)?;
    let help = "Work that got no database connection, by the reason and by whose load was in the way.";
    let refused = register_int_counter_vec_with_registry!("db_refusals_total", help, &["cause", "load"], now)?;
    for (cause, of) in [("queue_full", load.refusals.queue_full), ("waited", load.refusals.waited)] {
        refused.with_label_values(&[cause, "own"]).inc_by(of.own);
        refused.with_label_values(&[cause, "others"]).inc_by(of.others);
    }
    let ready = "Whether the database could serve at the last look, as /health/ready says.";
    gauge(now, "db_ready", ready, db.pool().was_ready())?;
    let help = "1 while requests meet this cause, and until it is over.";
    let failing = register_int_gauge_vec_with_registry!("db_failing", help, &["cause"], now)?;
    let help = "Requests that were answered with 503 because of the database, by cause.";
    let refused = register_int_counter_vec_with_registry!("http_refused_total", help, &["cause"], now)?;
    let lasting = db.pool().outages().on();
    // Every cause has its series from the start, so that a rate sees the first refusal.
    for cause in Cause::ALL {
        failing.with_label_values(&[cause.name()]).set(lasting.contains(&cause).into());
        refused.with_label_values(&[cause.name()]).inc_by(db.pool().outages().refused(cause));
    }
    Ok(())
}

/// The resolver's current numbers, and the sweeper's.
fn of_resolver(now: &Registry, resolver: &Resolver, gauges: &Gauges) -> prometheus::Result<()> {
    let counts = resolver.counts();
    for (name, help, count) in [
        ("resolver_resolved_total", "Outcomes recorded.", &counts.resolved),
        ("resolver_unknown_total", "Attempts without an outcome.", &counts.unknown),
        ("resolver_parked_total", "Times that a charge or refund was parked.", &counts.parked),
        ("gateway_differences_total", "Resolved charges and refunds that the gateway sees otherwise.", &DIFFERENCES),
    ] {
        register_int_counter_with_registry!(name, help, now)?.inc_by(count.load(Ordering::Relaxed));
    }
    // Without a recent look only these series are missing. The others are still worth a scrape.
    if let Some(Known { backlog, sweep_lag }) = gauges.known() {
        let open = "Charges and refunds without an outcome, without the parked ones.";
        gauge(now, "resolver_backlog", open, backlog.open)?;
        let help = "Age of the oldest charge or refund in the backlog.";
        let oldest = register_gauge_with_registry!("resolver_backlog_oldest_seconds", help, now)?;
        oldest.set(backlog.oldest.unwrap_or_default().as_secs_f64());
        gauge(now, "resolver_parked", "Charges and refunds that wait for `payments resolve`.", backlog.parked)?;
        let help = "How long ago the oldest expired idempotency record expired that is not deleted yet.";
        register_gauge_with_registry!("sweeper_lag_seconds", help, now)?.set(sweep_lag.as_secs_f64());
    }
    Ok(())
}

fn gauge(now: &Registry, name: &str, help: &str, value: impl TryInto<i64>) -> prometheus::Result<()> {
    register_int_gauge_with_registry!(name, help, now)?.set(value.try_into().unwrap_or(i64::MAX));
    Ok(())
}
