//! The base of the tests: each test process has its own PostgreSQL cluster, and each test has a fresh database.

#![expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test fails by a panic")]

mod proxy;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dev_postgres::{Cluster, Options};
use diesel::connection::{Connection, SimpleConnection};
use diesel::pg::PgConnection;
use diesel::prelude::*;

pub use self::proxy::Proxy;

static CLUSTER: OnceLock<Cluster> = OnceLock::new();
static NEXT: AtomicU32 = AtomicU32::new(0);

/// The cluster of this process, with a template that `prepare` fills, once. When the process ends, also by a crash, the cluster
/// stops and its files are deleted.
pub fn cluster(prepare: fn(&str)) -> &'static Cluster {
    CLUSTER.get_or_init(|| {
        let cluster = dev_postgres::start(&Options::throw_away()).unwrap();
        cluster.create_database("template_of_tests").unwrap();
        prepare(&cluster.url("template_of_tests"));
        cluster
    })
}

/// Makes a database for one test: a copy of the template.
pub fn fresh_database(prepare: fn(&str)) -> String {
    let cluster = cluster(prepare);
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let mut admin = PgConnection::establish(&cluster.url("postgres")).unwrap();
    admin.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template_of_tests")).unwrap();
    cluster.url(&name)
}

/// A connection for the test itself.
#[must_use]
pub fn connect(url: &str) -> PgConnection {
    PgConnection::establish(url).unwrap()
}

/// Reads one number from the database.
#[must_use]
pub fn number(url: &str, sql: &str) -> i64 {
    #[derive(QueryableByName)]
    struct Number {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        n: i64,
    }
    diesel::sql_query(format!("SELECT {sql}")).get_result::<Number>(&mut connect(url)).unwrap().n
}

/// Counts rows.
#[must_use]
pub fn count(url: &str, rows: &str) -> i64 {
    number(url, &format!("count(*) AS n FROM {rows}"))
}

/// Runs SQL on a new connection.
pub fn execute(url: &str, sql: &str) {
    connect(url).batch_execute(sql).unwrap();
}

/// Starts `n` tasks in order, and waits for all of them.
pub async fn at_once<T: Send + 'static, F>(n: usize, task: impl Fn(usize) -> F) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
{
    let tasks: Vec<_> = (0..n).map(|number| tokio::spawn(task(number))).collect();
    let mut results = Vec::with_capacity(n);
    for task in tasks {
        results.push(task.await.unwrap());
    }
    results
}

/// Waits until a condition is true. Fails after ten seconds: no condition of a test needs that long.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within ten seconds: {what}");
}

/// Waits until at least this many backends of the database wait for a lock.
pub async fn eventually_blocked(url: &str, backends: i64) {
    eventually("a backend waits for a lock", || {
        count(url, "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") >= backends
    })
    .await;
}
