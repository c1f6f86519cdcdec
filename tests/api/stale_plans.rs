//! A migration changes columns while a server runs. The server's connections hold prepared statements.

use crate::app::{App, Client};
use crate::support::{eventually, execute};

/// Widens columns of orders and charges, like a migration.
fn widen_columns(app: &App) {
    execute(
        &app.database,
        "ALTER TABLE orders ALTER customer TYPE varchar(300); ALTER TABLE charges ALTER payment_method TYPE varchar(300); \
         ALTER TABLE products ALTER name TYPE varchar(300); ALTER TABLE idempotency_keys ALTER content_type TYPE varchar(300)",
    );
}

async fn order(app: Client, key: String) -> u16 {
    app.order(&key, "pro-monthly", 1).await.status
}

#[tokio::test]
async fn orders_are_created_and_read_over_connections_with_stale_plans() {
    // There are more connections than a request has attempts, so it gets a fresh connection only if one failure closes
    // all older ones.
    let app = App::start_with_pool(30).await;
    app.at_once(40, |app, number| order(app, format!("before-{number}"))).await;
    app.at_once(40, |app, _| async move { app.get("/v1/orders").await.status }).await;

    widen_columns(&app);

    app.get("/v1/orders").await.expect(200);
    app.order("before-0", "pro-monthly", 1).await.expect(201);
    app.order("alone", "pro-monthly", 1).await.expect(201);
    let read = app.at_once(40, |app, _| async move { app.get("/v1/orders").await.status }).await;
    assert_eq!(read, [200; 40]);
    let replayed = app.at_once(40, |app, number| order(app, format!("before-{number}"))).await;
    assert_eq!(replayed, [201; 40]);
    let made = app.at_once(40, |app, number| order(app, format!("after-{number}"))).await;
    assert_eq!(made, [201; 40]);
    assert_eq!(app.count("orders"), 81);
}

#[tokio::test]
async fn a_payment_is_recorded_at_once_although_the_columns_changed_during_the_call() {
    let app = App::start_with_pool(2).await;
    for _ in 0..3 {
        app.paid_charge().await;
    }
    let order = app.pending_order().await;
    let paying = app.pay("pay", &order, "pm_card_slow");
    let migrating = async {
        eventually("the gateway has captured", || app.captures() == 4).await;
        widen_columns(&app);
    };

    let (charge, ()) = tokio::join!(paying, migrating);

    assert_eq!(charge.expect(201).json()["status"], "succeeded");
    assert_eq!((app.captures(), app.count("orders WHERE status = 'paid'")), (4, 4));
}
