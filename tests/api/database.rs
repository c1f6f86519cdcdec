//! The database goes away and comes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use stripe_gateway::{Key, Stripe};

use crate::app::{App, Client, send};
use crate::support::{cluster, execute};

/// Makes the database refuse new connections, or accept them again.
fn allow_connections(app: &App, allow: bool) {
    let (_, name) = app.database.rsplit_once('/').unwrap();
    execute(&cluster().url("postgres"), &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {allow}"));
}

/// Ends all connections, like a restart of PostgreSQL or a firewall.
pub fn cut_connections(app: &App) {
    let (_, name) = app.database.rsplit_once('/').unwrap();
    let cut = format!("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'");
    execute(&cluster().url("postgres"), &cut);
}

#[tokio::test]
async fn without_its_database_the_server_answers_503_and_serves_again_when_the_database_is_back() {
    let app = App::start_with_pool(2).await;
    app.order("before", "sticker", 1).await.expect(201);
    allow_connections(&app, false);
    cut_connections(&app);

    let asked = Instant::now();
    for answer in [app.order("key", "sticker", 1).await, app.get("/v1/orders").await, app.get("/health/ready").await] {
        let answer = answer.expect_problem(503, "database-unavailable");
        assert_eq!(answer.header("Retry-After"), Some("1"));
    }
    assert!(asked.elapsed() < Duration::from_secs(12), "three answers took {:?}", asked.elapsed());
    app.get("/health/live").await.expect(200);

    allow_connections(&app, true);
    assert!(!app.order("key", "sticker", 1).await.expect(201).is_replay());
    app.eventually_ready(200).await;
    assert_eq!(app.count("orders"), 2);
}

#[tokio::test]
async fn a_server_that_never_had_a_database_still_answers() {
    let nobody = Arc::new(Stripe::new("http://127.0.0.1:1", &Key::of_sandbox()).unwrap());
    let app = App::start_without_resolver("postgresql://payments@%2Fnowhere/payments".into(), nobody);

    app.order("key", "sticker", 1).await.expect_problem(503, "database-unavailable");
    app.get("/health/ready").await.expect_problem(503, "database-unavailable");
    app.get("/health/live").await.expect(200);
}

#[tokio::test]
async fn a_server_is_ready_when_its_database_is() {
    let app = App::start_with_pool(2).await;
    assert_eq!(send(app.anonymous("GET", "/health/ready")).await.expect(200).json()["status"], "ready");
    assert_eq!(send(app.anonymous("GET", "/health/live")).await.expect(200).json()["status"], "live");

    execute(
        &app.database,
        "DELETE FROM __diesel_schema_migrations WHERE version = (SELECT max(version) FROM __diesel_schema_migrations)",
    );

    app.eventually_ready(503).await.expect_problem(503, "database-unavailable");
}

#[tokio::test]
async fn orders_are_created_over_connections_that_were_cut_while_idle() {
    let app = App::start_with_pool(4).await;
    app.at_once(8, |app, number| async move { app.order(&format!("before-{number}"), "pro-monthly", 1).await }).await;
    cut_connections(&app);

    let after =
        app.at_once(8, |app, number| async move { app.order(&format!("after-{number}"), "pro-monthly", 1).await });

    assert!(after.await.iter().all(|answer| answer.status == 201));
    assert_eq!(app.count("orders"), 16);
}

#[tokio::test]
async fn reads_are_answered_over_connections_that_were_cut_while_idle() {
    let app = App::start_with_pool(4).await;
    app.at_once(8, |app, _| async move { app.get("/v1/orders").await }).await;
    cut_connections(&app);

    let after = app.at_once(8, |app, _| async move { app.get("/v1/orders").await.status }).await;

    assert_eq!(after, [200; 8]);
}

#[tokio::test]
async fn a_storm_survives_repeated_cuts_of_its_connections() {
    let app = App::start_with_pool(4).await;
    let client = (*app).clone();
    let storm = tokio::spawn(async move {
        let order = |app: Client, number: usize| async move {
            app.order(&format!("key-{}", number % 20), "pro-monthly", 1).await
        };
        client.at_once(60, order).await
    });
    for _ in 0..5 {
        cut_connections(&app);
        tokio::task::yield_now().await;
    }

    for answer in storm.await.unwrap() {
        assert!([201, 503].contains(&answer.status), "{answer:?}");
    }
    for number in 0..20 {
        app.order(&format!("key-{number}"), "pro-monthly", 1).await.expect(201);
    }
    assert_eq!((app.count("orders"), app.count("idempotency_keys")), (20, 20));
}
