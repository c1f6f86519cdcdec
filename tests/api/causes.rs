//! The log tells why a database fails, in PostgreSQL's words: one line when the cause begins and one when it is over,
//! for any number of requests.

use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::pg::PgConnection;
use serde_json::json;

use crate::app::{ACME, Answer, Client, GLOBEX, one_item, send};
use crate::binary::Replica;
use crate::support::{Proxy, cluster, connect, eventually_blocked, execute, fresh_database};

/// No gateway is needed.
const NO_GATEWAY: &str = "http://127.0.0.1:9";

fn start(database: &str) -> Replica {
    Replica::start_logging(database, NO_GATEWAY, &[])
}

fn set(database: &str, setting: &str) {
    let (_, name) = database.rsplit_once('/').unwrap();
    execute(&cluster().url("postgres"), &format!("ALTER DATABASE {name} {setting}"));
}

fn cut(database: &str) {
    let (_, name) = database.rsplit_once('/').unwrap();
    let cut = format!("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'");
    execute(&cluster().url("postgres"), &cut);
}

async fn orders(replica: &Replica, name: &'static str, n: usize) -> Vec<Answer> {
    let order = move |api: Client, number| async move { api.order(&format!("{name}-{number}"), "sticker", 1).await };
    replica.at_once(n, order).await
}

/// The lines about this cause.
fn lines(replica: &Replica, cause: &str) -> Vec<String> {
    replica.log().into_iter().filter(|line| line.contains(&format!(" cause={cause} "))).collect()
}

/// Waits for the second line about this cause, which ends it, and returns the line. A cause is over after ten seconds
/// without it.
pub async fn end_of(replica: &Replica, cause: &str) -> String {
    let since = Instant::now();
    while lines(replica, cause).len() < 2 {
        assert!(since.elapsed() < Duration::from_secs(25), "{cause} does not end: {:#?}", replica.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(lines(replica, cause).len(), 2, "{:#?}", lines(replica, cause));
    lines(replica, cause).remove(1)
}

fn assert_has(line: &str, parts: &[&str]) {
    for part in parts {
        assert!(line.contains(part), "{part} is not in: {line}");
    }
}

/// A session that an operator has forgotten.
fn hold(database: &str, sql: &str) -> PgConnection {
    let mut conn = connect(database);
    conn.batch_execute(&format!("SET application_name = 'month end'; BEGIN; {sql}")).unwrap();
    conn
}

#[tokio::test]
async fn a_locked_table_is_one_line_that_names_the_holder() {
    let database = fresh_database();
    let replica = start(&database);
    let holder = hold(&database, "LOCK TABLE orders");
    let stuck = tokio::spawn({
        let api = (*replica).clone();
        async move {
            for round in 0..2 {
                let order = move |api: Client, n| async move {
                    let account = [ACME, GLOBEX][n % 2];
                    let key = format!("{round}-{n}");
                    api.post_as(account, "/v1/orders", &key, one_item("sticker", 1)).await.expect(503)
                };
                api.at_once(8, order).await;
            }
        }
    });
    eventually_blocked(&database, 3).await;

    let line = replica.logged("cause=lock_timeout").await;

    assert_has(
        &line,
        &[
            "WARN  requests wait too long for a lock in the database: canceling statement due to lock timeout; it is held by process ",
            ", application month end, user payments, idle in transaction, its transaction began ",
        ],
    );
    let ready = send(replica.anonymous("GET", "/health/ready")).await.expect(200).json();
    assert!(ready["failing"].as_array().unwrap().contains(&json!("lock_timeout")), "{ready}");
    stuck.await.unwrap();
    drop(holder);
    assert_has(
        &end_of(&replica, "lock_timeout").await,
        &[" WARN  over after ", ": requests wait too long for a lock in the database cause="],
    );
    orders(&replica, "after", 1).await.remove(0).expect(201);
}

#[tokio::test]
async fn one_request_that_waited_for_a_row_names_the_oldest_idle_transaction() {
    let database = fresh_database();
    let replica = start(&database);
    let _holder = hold(&database, "SELECT FROM products WHERE sku = 'sticker' FOR UPDATE");

    orders(&replica, "k", 1).await.remove(0).expect_problem(503, "database-unavailable");

    let line = replica.logged("cause=lock_timeout").await;
    assert_has(&line, &["; the oldest idle transaction is that of process ", ", application month end,"]);
    assert_has(&end_of(&replica, "lock_timeout").await, &[" requests=1 times=1 since="]);
}

#[tokio::test]
async fn a_read_only_database_is_one_line_and_few_connections_and_hides_no_other_cause() {
    let (direct, proxy) = (fresh_database(), Proxy::start());
    let replica = start(&proxy.url(&direct));
    orders(&replica, "before", 4).await;
    set(&direct, "SET default_transaction_read_only = on");
    cut(&direct);
    let (made, began) = (proxy.connections(), Instant::now());

    for round in ["a", "b", "c", "d", "e"] {
        for answer in orders(&replica, round, 20).await {
            answer.expect_problem(503, "database-unavailable");
        }
    }

    // Four connections every two seconds, and one a second for the look.
    let (made, took) = (proxy.connections() - made, began.elapsed().as_secs());
    assert!(made as u64 <= 10 + 4 * took, "{made} connections in {took} s");
    let ready = replica.eventually_ready(503).await.json();
    assert_eq!(
        (&ready["cause"], &ready["detail"]),
        (&json!("read_only"), &json!("the database is read-only, for example a standby"))
    );
    // Another cause within the same minute.
    set(&direct, "ALLOW_CONNECTIONS false");
    cut(&direct);
    orders(&replica, "away", 1).await.remove(0).expect(503);
    let away = replica.logged("cause=unreachable").await;
    assert_has(&away, &["ERROR the database can't be reached: ", "is not currently accepting connections"]);
    set(&direct, "ALLOW_CONNECTIONS true");
    set(&direct, "SET default_transaction_read_only = off");

    assert_has(
        &end_of(&replica, "read_only").await,
        &[" WARN  over after ", ": the database is read-only cause=", " requests=100 "],
    );
    assert_has(&end_of(&replica, "unreachable").await, &[" over after ", ": the database can't be reached cause="]);
    assert_has(
        &lines(&replica, "read_only")[0],
        &["ERROR the database is read-only: cannot execute ", " in a read-only transaction"],
    );
    let log = replica.log();
    assert!(!log.iter().any(|line| line.contains("running again")), "{log:#?}");
    assert_eq!(log.iter().filter(|line| line.contains(" ERROR ")).count(), 2, "{log:#?}");
    orders(&replica, "a", 1).await.remove(0).expect(201);
}

#[tokio::test]
async fn a_role_without_a_free_connection_says_so_and_requests_share_the_one_that_it_has() {
    let database = fresh_database();
    let (_, name) = database.rsplit_once('/').unwrap();
    // Only a role that is not a superuser has a limit.
    let role = format!("few_{name}");
    let grants = format!("GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}; GRANT CREATE ON SCHEMA public TO {role}");
    execute(&database, &format!("CREATE ROLE {role} LOGIN; {grants}"));
    let replica = start(&database.replace("payments@", &format!("{role}@")));
    execute(&database, &format!("ALTER ROLE {role} CONNECTION LIMIT 1"));
    cut(&database);
    let answers = orders(&replica, "k", 12).await;
    assert!(answers.iter().all(|answer| answer.status < 500), "{answers:?}");

    let line = replica.logged("cause=too_many_connections").await;

    assert_has(&line, &["ERROR the database accepts no more connections: ", "too many connections for role"]);
    execute(&database, &format!("ALTER ROLE {role} CONNECTION LIMIT -1"));
    assert_has(
        &end_of(&replica, "too_many_connections").await,
        &[" over after ", ": the database accepts no more connections cause="],
    );
}

#[tokio::test]
async fn readiness_and_the_log_report_a_silent_database() {
    let (direct, proxy) = (fresh_database(), Proxy::start());
    let replica = start(&proxy.url(&direct));
    orders(&replica, "before", 1).await.remove(0).expect(201);
    proxy.pause();

    let ready = replica.eventually_ready(503).await.json();

    assert_eq!((&ready["cause"], &ready["failing"]), (&json!("silent"), &json!(["silent"])));
    assert_has(&replica.logged("cause=silent").await, &["ERROR the database does not answer: "]);
    let metrics = send(replica.anonymous("GET", "/metrics")).await.expect(200).body;
    for line in ["db_ready 0", "db_failing{cause=\"silent\"} 1", "http_refused_total{cause=\"disk_full\"} 0"] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in {metrics}");
    }
    proxy.resume_for_new_connections();
    assert_has(&end_of(&replica, "silent").await, &[" over after ", ": the database does not answer cause="]);
    orders(&replica, "after", 1).await.remove(0).expect(201);
}

#[tokio::test]
async fn a_full_disk_and_a_slow_statement_are_logged_in_postgresqls_words() {
    let database = fresh_database();
    let replica = start(&database);
    let fail = |statement: &str| {
        let trigger = "CREATE OR REPLACE TRIGGER fail BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION fail()";
        let body = format!("BEGIN {statement}; RETURN NEW; END");
        let function = format!("CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $${body}$$");
        execute(&database, &format!("{function}; {trigger}"));
    };
    fail("RAISE EXCEPTION 'could not extend file \"base/1/2\": No space left on device' USING ERRCODE = '53100'");
    orders(&replica, "full", 6).await.remove(0).expect(503);
    fail("PERFORM pg_sleep(6)");
    orders(&replica, "slow", 1).await.remove(0).expect(503);
    execute(&database, "DROP TRIGGER fail ON orders");

    let full =
        "ERROR the database has no room left: could not extend file \"base/1/2\": No space left on device cause=";
    assert_has(&replica.logged("cause=disk_full").await, &[full]);
    let slow = "WARN  statements in the database take too long: canceling statement due to statement timeout cause=";
    assert_has(&replica.logged("cause=statement_timeout").await, &[slow]);
    assert_has(&end_of(&replica, "disk_full").await, &[" requests=6 times=6 since="]);
    assert_has(&end_of(&replica, "statement_timeout").await, &[" requests=1 times=1 since="]);
}

#[tokio::test]
async fn work_that_gets_no_turn_names_the_account_that_has_most() {
    let database = fresh_database();
    let replica = Replica::start_logging(&database, NO_GATEWAY, &[("DB_POOL_SIZE", "2")]);
    replica.get("/v1/orders").await.expect(200);
    let _holder = hold(&database, "SELECT FROM products WHERE sku = 'sticker' FOR UPDATE");

    let answers = orders(&replica, "k", 20).await;

    assert!(answers.iter().any(|answer| answer.status == 503 && answer.problem() == "overloaded"), "{answers:?}");
    let line = replica.logged("cause=queue").await;
    assert_has(
        &line,
        &["WARN  requests find no free connection: account ", " runs 1 and waits with ", ", of 2 connections"],
    );
}
