//! `cargo run` without any configuration, on a cluster in the test's own directory.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use dev_postgres::{self, Durability, Lifetime, Options};
use rustix::process::{Pid, Signal, kill_process};

use crate::app::send;
use crate::binary::{Replica, bare};
use crate::support::{count, eventually, execute};

#[tokio::test]
async fn a_local_run_prints_what_to_try_survives_a_killed_postgresql_and_can_be_reset() {
    let dir = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o711)).tempdir().unwrap();
    let cluster = dir.path().join("cluster");
    let mut replica = Replica::start_alone(bare().env("DEV_POSTGRES_DIR", &cluster));
    replica.order("k", "sticker", 1).await.expect(201);

    // PostgreSQL is killed, for example by the out-of-memory killer.
    let lock_file = cluster.join("data/postmaster.pid");
    let postmaster = || fs::read_to_string(&lock_file).ok()?.lines().next()?.parse().ok().and_then(Pid::from_raw);
    let killed = postmaster().unwrap();
    kill_process(killed, Signal::KILL).unwrap();
    eventually("another PostgreSQL runs", || postmaster().is_some_and(|pid| pid != killed)).await;
    let since = Instant::now();
    while replica.get("/health/ready").await.status != 200 {
        assert!(since.elapsed() < Duration::from_secs(30), "PostgreSQL is still away");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(replica.order("k", "sticker", 1).await.expect(201).is_replay());

    // The database is emptied while the API runs.
    let reset = bare().env("DEV_POSTGRES_DIR", &cluster).args(["reset", "--yes"]).output().unwrap();
    assert!(reset.status.success(), "{reset:?}");
    assert_eq!(replica.get("/v1/orders").await.expect(200).json()["data"].as_array().unwrap().len(), 0);
    let sticker = replica.get("/v1/products/sticker").await.expect(200).json();
    assert_eq!((sticker["stock"].as_i64(), sticker["reserved"].as_i64()), (Some(10), Some(0)));
    assert!(!replica.order("k", "sticker", 1).await.expect(201).is_replay());
    send(replica.anonymous("GET", "/health/ready")).await.expect(200);

    // A reset recreates the database of a later release.
    let local = Options { dir: cluster.clone(), durability: Durability::Durable, lifetime: Lifetime::Kept };
    let url = dev_postgres::start(&local).unwrap().url("payments");
    execute(&url, "INSERT INTO __diesel_schema_migrations (version) VALUES ('20991231')");
    let run = |arguments: &[&str]| bare().env("DEV_POSTGRES_DIR", &cluster).args(arguments).output().unwrap();
    assert!(run(&["reset", "--yes"]).status.success());
    assert_eq!(count(&url, "__diesel_schema_migrations WHERE version = '20991231'"), 0);
    assert!(run(&["migrate"]).status.success());

    replica.terminate();
    assert_eq!(replica.end().await.code(), Some(0));
    let banner = replica.said();
    let shown = ["/docs", "/v1/payment_intents", "sk_demo_acme", "sk_demo_globex", "Ctrl-C", cluster.to_str().unwrap()];
    for part in shown {
        assert!(banner.contains(part), "{part} is not in: {banner}");
    }
    assert!(!lock_file.exists(), "the second PostgreSQL was not stopped");
}

/// These variables are meant for the user's other servers. Each of them alone would break the local cluster.
#[tokio::test]
async fn the_users_variables_for_libpq_do_not_reach_the_local_cluster() {
    let dir = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o711)).tempdir().unwrap();
    let mut command = bare();
    command.env("DEV_POSTGRES_DIR", dir.path().join("cluster")).envs([
        ("PGSERVICE", "nowhere"),
        ("PGOPTIONS", "-c default_transaction_read_only=on"),
        ("PGCHANNELBINDING", "require"),
        ("PGTARGETSESSIONATTRS", "standby"),
        ("PGSSLMODE", "verify-full"),
        ("PGPORT", "1"),
    ]);

    let mut replica = Replica::start_alone(&mut command);

    replica.order("k", "sticker", 1).await.expect(201);
    replica.terminate();
    assert_eq!(replica.end().await.code(), Some(0));
}
