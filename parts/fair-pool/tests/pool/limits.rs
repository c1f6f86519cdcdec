// SPDX-License-Identifier: MIT OR Apache-2.0
//! The connections of the pool have the limits that the crate `idempotency` requires.

use diesel::prelude::*;
use diesel::sql_types::Text;
use fair_pool::{NOBODY, Pool, with_client_limits};
use idempotency_testing::execute;

use crate::{Failed, fresh_database, pool};

/// The crate's `CONNECTION_LIMITS`, as PostgreSQL shows them. PostgreSQL shows the limits of TCP only on TCP
/// connections.
const LIMITS: [(&str, &str); 4] = [
    ("statement_timeout", "5s"),
    ("lock_timeout", "3s"),
    ("idle_in_transaction_session_timeout", "5s"),
    ("default_transaction_isolation", "read committed"),
];

async fn limits(pool: &Pool) -> Vec<(&'static str, String)> {
    let read = pool.read(NOBODY, |conn| {
        let show = |(name, _)| {
            let setting = diesel::dsl::sql::<Text>(&format!("current_setting('{name}')"));
            Ok((name, diesel::select(setting).get_result(conn)?))
        };
        LIMITS.into_iter().map(show).collect::<Result<Vec<(&str, String)>, Failed>>()
    });
    read.await.unwrap()
}

/// The database has other defaults, so each expected value can only come from the pool.
#[tokio::test]
async fn every_connection_of_the_pool_has_the_limits_even_after_a_reconnect() {
    let url = fresh_database();
    let (_, name) = url.rsplit_once('/').unwrap();
    let (name, _) = name.split_once('?').unwrap();
    execute(
        &url,
        &format!(
            "ALTER DATABASE {name} SET statement_timeout = 0; ALTER DATABASE {name} SET lock_timeout = 0; \
             ALTER DATABASE {name} SET idle_in_transaction_session_timeout = 0; \
             ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'"
        ),
    );
    let pool = pool(&url, 1);
    let expected: Vec<_> = LIMITS.into_iter().map(|(name, limit)| (name, limit.to_owned())).collect();

    assert_eq!(limits(&pool).await, expected);
    let others = "datname = current_database() AND pid <> pg_backend_pid()";
    execute(&url, &format!("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {others}"));
    assert_eq!(limits(&pool).await, expected);
}

/// Without these, a database whose host vanishes holds every thread for minutes.
#[test]
fn every_form_of_the_url_gets_the_clients_limits() {
    let limits = [
        "connect_timeout=2",
        "keepalives_idle=5",
        "keepalives_interval=1",
        "keepalives_count=3",
        "tcp_user_timeout=8000",
        "application_name=tickets",
    ];
    for (url, separator) in [
        ("postgres://host/db", "?"),
        ("postgres://host/db?", ""),
        ("postgresql://host/db?sslmode=disable", "&"),
        ("host=h user=u", " "),
    ] {
        let limited = with_client_limits(url, "tickets");
        assert!(limited.starts_with(&format!("{url}{separator}connect_timeout=")), "{limited}");
        for limit in limits {
            assert!(limited.split(['?', '&', ' ']).any(|part| part == limit), "{limit} is not in {limited}");
        }
    }
    let own = with_client_limits("postgres://host/db?connect_timeout=9", "tickets");
    assert_eq!(own.matches("connect_timeout").count(), 1, "{own}");
}
