// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a replay makes PostgreSQL write: nothing. The WAL belongs to the whole server, so this test is a separate
//! program.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use diesel_migrations::MigrationHarness as _;

#[path = "../protocol/lifted.rs"]
#[expect(dead_code, reason = "this test uses part of it")]
mod lifted;
#[path = "../protocol/toy.rs"]
#[expect(dead_code, reason = "this test uses part of it")]
mod toy;

mod support {
    pub use idempotency_testing::*;

    pub fn fresh_database() -> String {
        idempotency_testing::fresh_database(crate::prepare_template)
    }
}

fn prepare_template(url: &str) {
    support::connect(url).run_pending_migrations(idempotency::MIGRATIONS).unwrap();
    support::execute(url, toy::TABLES);
    // Autovacuum would write too.
    support::execute(url, "ALTER TABLE idempotency_keys SET (autovacuum_enabled = off)");
}

#[tokio::test]
async fn a_replay_writes_no_wal() {
    let workshop = toy::Workshop::open_on(support::fresh_database(), 1);
    let wal = || support::number(&workshop.url, "(pg_current_wal_insert_lsn() - '0/0')::bigint AS n");
    let before_first = wal();
    workshop.make("key").await;
    assert!(wal() > before_first, "a first request writes");

    let mut written = Vec::new();
    for _ in 0..5 {
        let before = wal();
        for _ in 0..10 {
            assert!(workshop.make("key").await.is_replay());
        }
        written.push(wal() - before);
    }

    // PostgreSQL itself writes a little WAL now and then, but not in each round.
    assert_eq!(written.iter().min(), Some(&0), "{written:?}");
}
