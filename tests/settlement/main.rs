//! The settlement module, lifted out of this crate together with the idempotency module: their folders, their two migrations,
//! and a toy service around them. In the toy service, drivers pay parking fines through a provider.
//!
//! This binary compiles both modules as its own parts. If a module imported anything else of the crate, this binary would not
//! compile.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

#[path = "../../src/idempotency/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the toy service does not use the whole module")]
mod idempotency;
#[path = "../../src/settlement/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the toy service does not use the whole module")]
mod settlement;

#[path = "../support/lifted.rs"]
mod lifted;
#[path = "../idempotency/proxy.rs"]
#[expect(dead_code, reason = "only the tests of the idempotency module use the rest")]
mod proxy;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "only other test binaries use the rest")]
mod support;

mod asking_again;
mod crashes;
mod fence;
mod fines;
mod hanging;
mod late;
mod money;
mod office;
mod parking;
mod paying;
mod provider;
mod rules;

/// Runs the two migrations and nothing else of the schema, then makes the toy service's tables.
fn prepare_template(url: &str) {
    support::execute(url, include_str!("../../migrations/2026-11-25-000001_idempotency_keys/up.sql"));
    support::execute(url, include_str!("../../migrations/2026-11-25-000002_settlements/up.sql"));
    support::execute(url, fines::TABLES);
}
