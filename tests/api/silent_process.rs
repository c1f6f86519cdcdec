//! The database is silent, and a whole process must end, start or go on: the background resolver, SIGTERM, a start,
//! commands.

use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use crate::binary::{Replica, bare};
use crate::causes::end_of;
use crate::paying::{Sandbox, until_final};
use crate::support::{Proxy, cluster, connect, count, eventually, fresh_database};

/// Two silent looks take at most 20 s, and the wait for another's migrations 30 s.
const COMMAND_ENDS_WITHIN: Duration = Duration::from_secs(40);

fn proxied() -> (Proxy, String, String) {
    cluster();
    let (proxy, direct) = (Proxy::start(), fresh_database());
    let url = proxy.url(&direct);
    (proxy, url, direct)
}

#[tokio::test]
async fn the_resolver_goes_on_after_a_silence_and_the_log_has_one_line() {
    let ((proxy, url, direct), sandbox) = (proxied(), Sandbox::start());
    let replica = Replica::start_logging(&url, &sandbox.url, &[]);
    proxy.pause();
    let line = replica.logged("the database does not answer").await;
    assert!(line.contains("ERROR"), "{line}");
    // Two more looks of the resolver.
    tokio::time::sleep(Duration::from_secs(9)).await;
    proxy.resume_for_new_connections();
    end_of(&replica, "silent").await;

    let order = replica.pending_order().await;
    let charge = replica.pay("k", &order, "pm_card_lost_reply").await;
    let charge = if charge.status == 202 {
        until_final(async || replica.pay("k", &order, "pm_card_lost_reply").await).await
    } else {
        charge
    };

    assert_eq!(charge.expect(201).json()["status"], "succeeded");
    assert_eq!((sandbox.captures(), count(&direct, "orders WHERE status = 'paid'")), (1, 1));
}

/// Only one connection is silent, for good, and the abandoned work is the only sign of it.
#[tokio::test]
async fn work_that_is_given_up_has_its_line_in_the_log() {
    let (proxy, url, direct) = proxied();
    let replica = Replica::start_logging(&url, "http://127.0.0.1:1", &[]);
    proxy.forget_after(b"COMMIT\0");
    let client = (*replica).clone();
    let stuck = tokio::spawn(async move { client.order("k", "sticker", 1).await });
    eventually("the transaction commits", || proxy.has_forgotten_one()).await;
    // Meanwhile the database answers on other connections.
    while !stuck.is_finished() {
        replica.order("other", "sticker", 1).await.expect(201);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    stuck.await.unwrap().expect_problem(503, "database-unavailable");

    let line = replica.logged("work was given up after 8 s, with its connection").await;
    assert!(
        line.contains("WARN  connections to the database are lost") && line.contains("cause=connection_lost"),
        "{line}"
    );
    assert!(replica.order("k", "sticker", 1).await.expect(201).is_replay());
    assert_eq!(count(&direct, "orders"), 2);
}

#[tokio::test]
async fn sigterm_ends_a_process_whose_database_is_silent() {
    let (proxy, url, _) = proxied();
    let mut replica = Replica::start_logging(&url, "http://127.0.0.1:1", &[]);
    replica.order("warm", "sticker", 1).await.expect(201);
    proxy.pause();
    let client = (*replica).clone();
    let stuck = tokio::spawn(async move { client.order("k", "sticker", 1).await });
    tokio::time::sleep(Duration::from_secs(1)).await;

    replica.terminate();
    let told = Instant::now();

    stuck.await.unwrap().expect_problem(503, "database-unavailable");
    while told.elapsed() < Duration::from_secs(20) && !replica.has_ended() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(replica.end().await.code(), Some(0));
}

/// Runs a command on this database. The command must end by itself.
async fn run(url: &str, arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::from(bare());
    command.args(arguments).env("DATABASE_URL", url).env("GATEWAY_URL", "http://127.0.0.1:1");
    command.env("GATEWAY_KEY", "sk_test_sandbox");
    command.env("BIND", "127.0.0.1:0").stdin(Stdio::null()).kill_on_drop(true);
    let ended = tokio::time::timeout(COMMAND_ENDS_WITHIN, command.output()).await;
    ended.unwrap_or_else(|_| panic!("{arguments:?} has not ended after {COMMAND_ENDS_WITHIN:?}")).unwrap()
}

#[tokio::test]
async fn a_start_and_every_command_end_with_one_line_at_a_silent_database() {
    // When connecting, in the lock of the migrations, in the migrations, and in the command's own statement.
    let places: [(Option<&[u8]>, &[&str]); 6] = [
        (None, &["serve"]),
        (Some(b"pg_encoding_to_char"), &["serve"]),
        (Some(b"pg_try_advisory_xact_lock"), &["serve"]),
        (Some(b"__diesel_schema_migrations"), &["migrate"]),
        (Some(b"FROM \"accounts\""), &["account", "list"]),
        (Some(b"idempotency_keys"), &["sweep"]),
    ];
    let ends = places.map(|(at, arguments)| async move {
        let (proxy, url, _) = proxied();
        match at {
            None => proxy.pause(),
            Some(statement) => proxy.pause_after(statement),
        }
        let ended = run(&url, arguments).await;
        assert!(proxy.is_paused(), "{arguments:?} did not send its statement: {ended:?}");
        (arguments, ended)
    });
    for (arguments, ended) in futures_util::future::join_all(ends).await {
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(matches!(ended.status.code(), Some(1 | 2)), "{arguments:?}: {said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
        assert!(said.contains("does not answer") || said.contains("timeout expired"), "{said}");
    }
}

/// Holds the lock of the migrations, like a process that migrates.
fn hold_migration_lock(url: &str) -> diesel::PgConnection {
    use diesel::connection::SimpleConnection;
    let mut conn = connect(url);
    conn.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(x'6d696772617465'::bigint)").unwrap();
    conn
}

#[tokio::test]
async fn a_start_beside_a_migration_says_so_and_goes_on_when_it_has_ended() {
    let url = fresh_database();
    let mut holder = Some(hold_migration_lock(&url));
    let mut command = bare();
    let log = tempfile::NamedTempFile::new().unwrap();
    command.arg("migrate").env("DATABASE_URL", &url).env("RUST_LOG", "info").stderr(log.reopen().unwrap());
    let mut process = command.stdout(Stdio::null()).spawn().unwrap();

    eventually("the process says that it waits", || {
        std::fs::read_to_string(log.path()).unwrap().contains("another process migrates this database")
    })
    .await;
    // While it waits, it holds no transaction open.
    assert_eq!(count(&url, "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"), 0);
    assert!(process.try_wait().unwrap().is_none());
    holder.take();

    eventually("the migration ends", || process.try_wait().unwrap().is_some_and(|status| status.success())).await;
}

#[tokio::test]
async fn a_start_gives_up_after_half_a_minute_beside_a_migration() {
    let url = fresh_database();
    let _holder = hold_migration_lock(&url);
    let began = Instant::now();

    let ended = run(&url, &["migrate"]).await;

    assert!((29..35).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    assert_eq!(ended.status.code(), Some(1));
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(said.starts_with("payments: another process has been migrating"), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
}
