//! The base of the API's tests: each test process has its own PostgreSQL cluster, and each test has a fresh database.

#![expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test fails by a panic")]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use dev_postgres::{Cluster, Options};

pub use idempotency_testing::{
    Proxy, at_once, connect, count, eventually, eventually_blocked, execute, number, serve_from,
};

static CLUSTER: OnceLock<Cluster> = OnceLock::new();
static NEXT: AtomicU32 = AtomicU32::new(0);

/// The cluster of this process, with a template that `prepare` fills once. When the process ends, even by a crash, the
/// cluster stops and its files are deleted.
pub fn cluster(prepare: fn(&str)) -> &'static Cluster {
    CLUSTER.get_or_init(|| {
        let cluster = dev_postgres::start(&Options::throw_away()).unwrap();
        cluster.create_database("template_of_tests").unwrap();
        prepare(&cluster.url("template_of_tests"));
        serve_from(&cluster.url("postgres"));
        cluster
    })
}

/// Creates a database for one test: a copy of the template.
pub fn fresh_database(prepare: fn(&str)) -> String {
    let cluster = cluster(prepare);
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    execute(&cluster.url("postgres"), &format!("CREATE DATABASE {name} TEMPLATE template_of_tests"));
    cluster.url(&name)
}
