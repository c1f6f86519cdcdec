//! What a replay costs: nothing that PostgreSQL would have to write.

use diesel::connection::SimpleConnection;
use idempotent_payments::dev_postgres::{self, Options};

use crate::support::{connect, execute, number};
use crate::toy::Workshop;

#[tokio::test]
async fn a_replay_takes_no_lock_on_the_record() {
    let workshop = Workshop::open();
    let first = workshop.make("key").await;
    let mut other = connect(&workshop.url);
    other.batch_execute("BEGIN; SELECT FROM idempotency_keys FOR UPDATE").unwrap();

    let retry = workshop.make("key").await;

    assert_eq!(retry.reply(), first.reply());
    other.batch_execute("ROLLBACK; BEGIN; SELECT FROM idempotency_keys FOR UPDATE NOWAIT").unwrap();
}

#[tokio::test]
async fn a_replay_writes_no_wal() {
    // A cluster of its own, since the log is the whole cluster's.
    let cluster = dev_postgres::start(&Options::throw_away()).unwrap();
    let url = cluster.url("postgres");
    execute(&url, "ALTER SYSTEM SET autovacuum = off");
    execute(&url, "SELECT pg_reload_conf()");
    crate::prepare_template(&url);
    let workshop = Workshop::open_on(url, 1);
    let wal = || number(&workshop.url, "(pg_current_wal_insert_lsn() - '0/0')::bigint AS n");
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

    // PostgreSQL itself writes a little now and then, but not each time.
    assert_eq!(written.iter().min(), Some(&0), "{written:?}");
}
