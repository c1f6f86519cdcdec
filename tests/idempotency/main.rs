//! The idempotency module lifted out of this crate: its folder, its one migration, and a toy service around them.
//!
//! The module is compiled here as a part of this binary. If it imported anything else of the crate it came from, this
//! would not compile.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is how a failure is told")]

#[path = "../../src/idempotency/mod.rs"]
#[expect(dead_code, unused_imports, reason = "a toy doesn't need all of the module")]
mod idempotency;

#[path = "../support/lifted.rs"]
mod lifted;
#[path = "../support/mod.rs"]
mod support;

mod commit;
mod concurrency;
mod cost;
mod failures;
mod guard;
mod handler;
mod provisional;
mod proxy;
mod rendering;
mod replay;
mod run_again;
mod sweep;
mod toy;
mod useless_lock;

/// The module's migration and nothing else of the schema; then the toys.
fn prepare_template(url: &str) {
    support::execute(url, include_str!("../../migrations/2026-11-25-000001_idempotency_keys/up.sql"));
    support::execute(url, toy::TABLES);
}
