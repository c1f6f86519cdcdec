//! What the program says to PostgreSQL: each SQL text keeps the rules that let the schema distribute by account, and a
//! request costs no more round trips than it must.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is how a failure is told")]

#[path = "../api/app.rs"]
#[expect(dead_code, reason = "this binary needs a part of what the API's tests share")]
mod app;
#[path = "../api/gateways.rs"]
#[expect(dead_code, reason = "this binary needs a part of what the API's tests share")]
mod gateways;
#[path = "../api/paying.rs"]
#[expect(dead_code, reason = "this binary needs a part of what the API's tests share")]
mod paying;
#[path = "../idempotency/proxy.rs"]
#[expect(dead_code, reason = "this binary needs a part of what the module's tests share")]
mod proxy;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "this binary needs a part of what all tests share")]
mod support;

mod raw_sql;
mod recorder;
mod round_trips;
mod rules;
mod statements;
mod traffic;

fn prepare_template(url: &str) {
    idempotent_payments::db::migrate(url).unwrap();
    idempotent_payments::demo::seed(&mut support::connect(url)).unwrap();
}
