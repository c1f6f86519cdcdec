//! The program's SQL: each statement keeps the rules that let the schema be distributed by account, and a request makes
//! no more round trips than necessary.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

#[path = "../api/answer.rs"]
#[expect(dead_code, reason = "only the API's tests use the rest")]
mod answer;
#[path = "../api/app.rs"]
#[expect(dead_code, reason = "only the API's tests use the rest")]
mod app;
#[path = "../api/gateways.rs"]
#[expect(dead_code, reason = "only the API's tests use the rest")]
mod gateways;
#[path = "../api/paying.rs"]
#[expect(dead_code, reason = "only the API's tests use the rest")]
mod paying;
mod support {
    pub use test_database::*;

    pub fn fresh_database() -> String {
        test_database::fresh_database(crate::prepare_template)
    }
}

mod plans;
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
