//! The database server becomes read-only, like a standby before its promotion, and then accepts writes again.

use crate::app::{App, Client};
use crate::database::cut_connections;
use crate::support::{cluster, execute};

/// Makes new connections read-only or writable. Open connections keep their setting, as after a fail-over.
fn set_read_only(app: &App, read_only: bool) {
    let (_, name) = app.database.rsplit_once('/').unwrap();
    let setting = format!("ALTER DATABASE {name} SET default_transaction_read_only = {read_only}");
    execute(&cluster().url("postgres"), &setting);
}

/// Starts a server, all of whose connections are opened while the database is read-only.
async fn start_with_read_only_connections() -> App {
    // There are more connections than a request has attempts, so it gets a fresh connection only if one failure closes
    // all older ones.
    let app = App::start_with_pool(30).await;
    app.order("before", "pro-monthly", 1).await.expect(201);
    set_read_only(&app, true);
    cut_connections(&app);
    let reads = app.at_once(90, |app, _| async move { app.get("/v1/orders").await.status }).await;
    assert_eq!(reads, [200; 90], "the server still serves reads");
    app
}

#[tokio::test]
async fn a_server_with_a_read_only_database_is_not_ready_and_answers_writes_with_503() {
    let app = start_with_read_only_connections().await;

    let write = app.order("key", "pro-monthly", 1).await.expect_problem(503, "database-unavailable");
    assert_eq!(write.header("Retry-After"), Some("1"));
    let ready = app.eventually_ready(503).await.expect_problem(503, "database-unavailable");
    assert_eq!(ready.header("Retry-After"), Some("1"));
    app.get("/v1/orders").await.expect(200);
    assert_eq!(app.count("idempotency_keys"), 1);

    set_read_only(&app, false);
    app.eventually_ready(200).await;
    assert!(!app.order("key", "pro-monthly", 1).await.expect(201).is_replay());
}

#[tokio::test]
async fn after_a_fail_over_every_write_succeeds_although_no_connection_was_cut() {
    let app = start_with_read_only_connections().await;
    set_read_only(&app, false);

    app.order("alone", "pro-monthly", 1).await.expect(201);
    let order = |app: Client, number| async move { app.order(&format!("key-{number}"), "pro-monthly", 1).await.status };
    let writes = app.at_once(40, order).await;

    assert_eq!(writes, [201; 40]);
    assert_eq!(app.count("orders"), 42);
}

/// While something is wrong, the server looks at the database every second, even just before the fail-over.
#[tokio::test]
async fn a_look_at_the_read_only_server_delays_no_write_after_the_fail_over() {
    let app = start_with_read_only_connections().await;
    app.eventually_ready(503).await;
    set_read_only(&app, false);

    app.order("at-once", "pro-monthly", 1).await.expect(201);
}

#[tokio::test]
async fn a_charge_is_paid_over_connections_that_were_read_only() {
    let app = App::start_with_pool(6).await;
    let order = app.pending_order().await;
    set_read_only(&app, true);
    cut_connections(&app);
    app.at_once(24, |app, _| async move { app.get("/v1/orders").await.status }).await;
    set_read_only(&app, false);

    // The sandbox gateway has its own read-only connections, which this test is not about, so they are cut.
    cut_sandbox_connections(&app);
    let charge = app.pay("pay", &order, "pm_card_visa").await.expect(201);

    assert_eq!(charge.json()["status"], "succeeded");
    assert_eq!((app.captures(), app.count("orders WHERE status = 'paid'")), (1, 1));
}

/// Ends the connections of the sandbox gateway: only the API's connections have the application name `payments`.
fn cut_sandbox_connections(app: &App) {
    let (_, name) = app.database.rsplit_once('/').unwrap();
    let cut = format!(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
         WHERE datname = '{name}' AND application_name <> 'payments'"
    );
    execute(&cluster().url("postgres"), &cut);
}
