//! The settlement module lifted out of this crate, with the idempotency module that it stands on: their folders, their two
//! migrations, and a toy service around them, where drivers pay parking fines through a provider.
//!
//! Both modules are compiled here as a part of this binary. If they imported anything else of the crate they came from,
//! this would not compile.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is how a failure is told")]

#[path = "../../src/idempotency/mod.rs"]
#[expect(dead_code, unused_imports, reason = "a toy doesn't need all of the module")]
mod idempotency;
#[path = "../../src/settlement/mod.rs"]
#[expect(dead_code, unused_imports, reason = "a toy doesn't need all of the module")]
mod settlement;

#[path = "../support/lifted.rs"]
mod lifted;
#[path = "../idempotency/proxy.rs"]
#[expect(dead_code, reason = "what the tests of the idempotency module need besides")]
mod proxy;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "what the other test binaries need besides")]
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

/// The two migrations and nothing else of the schema; then the fines.
fn prepare_template(url: &str) {
    support::execute(url, include_str!("../../migrations/2026-11-25-000001_idempotency_keys/up.sql"));
    support::execute(url, include_str!("../../migrations/2026-11-25-000002_settlements/up.sql"));
    support::execute(url, fines::TABLES);
}
