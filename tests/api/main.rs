//! The API over HTTP: the real server on a port of its own, with a real database of its own, for each test.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is how a failure is told")]

#[path = "../support/mod.rs"]
mod support;

mod app;
mod binary;
mod crashes;
mod dev_postgres;
mod errors;
mod orders;
mod paying;
mod products;
mod retries;

fn prepare_template(url: &str) {
    idempotent_payments::db::migrate(url).unwrap();
    idempotent_payments::demo::seed(&mut support::connect(url)).unwrap();
}
