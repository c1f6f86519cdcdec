// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests with a toy service that makes toys.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod lifted;
use diesel_migrations::MigrationHarness as _;

mod support {
    pub use idempotency_testing::*;

    pub fn fresh_database() -> String {
        idempotency_testing::fresh_database(crate::prepare_template)
    }
}

mod another_request;
mod commit;
mod concurrency;
mod cost;
mod failures;
mod handler;
mod locks;
mod optional_key;
mod plain_http;
mod provisional;
mod rendering;
mod replay;
mod run_again;
mod sweep;
mod toy;
mod traces;
mod useless_lock;

/// Runs the crate's migrations, then creates the toy service's tables.
fn prepare_template(url: &str) {
    support::connect(url).run_pending_migrations(idempotency::MIGRATIONS).unwrap();
    support::execute(url, toy::TABLES);
}
