//! Metrics that tell why the database can't serve.
//!
//! Guarantees: the labels are the names of the causes, a fixed list. A scrape waits for nothing: it gets what the last look found.

use prometheus::core::Collector;
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::db::{Cause, Db};

/// The current numbers. Every cause has its series from the start, so that a rate sees the first refusal.
pub(super) fn snapshot(db: &Db) -> prometheus::Result<Registry> {
    let ready = IntGauge::new("db_ready", "Whether the database could serve at the last look, as /health/ready says.")?;
    ready.set(db.was_ready().into());
    let help = "1 while requests meet this cause, and until it is over.";
    let failing = IntGaugeVec::new(Opts::new("db_failing", help), &["cause"])?;
    let help = "Requests that were answered with 503 because of the database, by cause.";
    let refused = IntCounterVec::new(Opts::new("http_refused_total", help), &["cause"])?;
    let lasting = db.outages().on();
    for cause in Cause::ALL {
        failing.with_label_values(&[cause.name()]).set(lasting.contains(&cause).into());
        refused.with_label_values(&[cause.name()]).inc_by(db.outages().refused(cause));
    }
    let registry = Registry::new();
    let all: [Box<dyn Collector>; 3] = [Box::new(ready), Box::new(failing), Box::new(refused)];
    all.into_iter().try_for_each(|metric| registry.register(metric))?;
    Ok(registry)
}
