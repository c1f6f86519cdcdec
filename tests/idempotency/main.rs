//! The idempotency module, lifted out of this crate: the module's folder, its one migration, and a toy service around them.
//!
//! This binary compiles the module as its own part. If the module imported anything else of the crate, this binary would not
//! compile.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

#[path = "../../src/idempotency/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the toy service does not use the whole module")]
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

/// Runs the module's migration and nothing else of the schema, then makes the toy service's tables.
fn prepare_template(url: &str) {
    support::execute(url, include_str!("../../migrations/2026-11-25-000001_idempotency_keys/up.sql"));
    support::execute(url, toy::TABLES);
}
