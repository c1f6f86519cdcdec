// SPDX-License-Identifier: MIT OR Apache-2.0
//! The base of the tests: a PostgreSQL server, a fresh database for each test, and a proxy that loses answers.

#![expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test fails by a panic")]

mod databases;
mod proxy;
mod server;

use std::time::Duration;

use diesel::connection::{Connection, SimpleConnection};
use diesel::pg::PgConnection;
use diesel::prelude::*;

pub use self::databases::fresh_database;
pub use self::proxy::Proxy;
pub use self::server::serve_from;

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
