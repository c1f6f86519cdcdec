// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests with a toy service in which drivers pay parking fines through a provider.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

#[path = "../../../idempotency/tests/protocol/lifted.rs"]
mod lifted;
use diesel_migrations::MigrationHarness as _;

mod support {
    pub use idempotency_testing::*;

    pub fn fresh_database() -> String {
        idempotency_testing::fresh_database(crate::prepare_template)
    }
}

mod asking_again;
mod crashes;
mod fence;
mod fines;
mod hanging;
mod hook;
mod late;
mod log_lines;
mod looking;
mod money;
mod office;
mod parking;
mod paying;
mod provider;
mod rules;
mod traces;

/// Runs the two crates' migrations, then creates the toy service's tables.
fn prepare_template(url: &str) {
    let conn = &mut support::connect(url);
    conn.run_pending_migrations(idempotency::MIGRATIONS).unwrap();
    conn.run_pending_migrations(external_calls::MIGRATIONS).unwrap();
    support::execute(url, fines::TABLES);
}
