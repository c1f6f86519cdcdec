//! The number of round trips between the API and PostgreSQL for one request. During a round trip, the request holds a connection
//! of the pool.

use std::sync::Arc;

use crate::app::App;
use crate::paying::Sandbox;
use crate::support::fresh_database;
use test_database::Proxy;

/// A server with one connection, through a proxy that counts round trips. The gateway has another database.
struct Counted {
    app: App,
    proxy: Proxy,
    _sandbox: Sandbox,
}

impl Counted {
    fn start() -> Self {
        let (proxy, sandbox) = (Proxy::start(), Sandbox::start());
        let app = App::start_alone(proxy.url(&fresh_database()), 1, Arc::new(sandbox.gateway()));
        Self { app, proxy, _sandbox: sandbox }
    }

    /// The fewest round trips of eight requests: at first the connection must prepare statements, and the pool tests a
    /// connection that has been idle. `I` ended outside a transaction, `T` inside one.
    async fn fewest(&self, request: impl AsyncFn(&App, usize)) -> String {
        let mut trips = Vec::new();
        for number in 0..8 {
            self.proxy.round_trips();
            request(&self.app, number).await;
            trips.push(self.proxy.round_trips());
        }
        trips.into_iter().min_by_key(String::len).unwrap()
    }
}

#[tokio::test]
async fn a_fresh_order_of_an_unlimited_product_takes_seven_round_trips() {
    let counted = Counted::start();

    let trips = counted.fewest(async |app, number| {
        app.order(&format!("order-{number}"), "pro-monthly", 1).await.expect(201);
    });

    // BEGIN, claim, offers, order, event, record; COMMIT.
    assert_eq!(trips.await, "TTTTTTI");
}

#[tokio::test]
async fn a_replay_takes_one_round_trip() {
    let counted = Counted::start();
    counted.app.order("key", "pro-monthly", 1).await.expect(201);

    let trips = counted.fewest(async |app, _| assert!(app.order("key", "pro-monthly", 1).await.is_replay()));

    assert_eq!(trips.await, "I");
}

#[tokio::test]
async fn a_read_of_a_final_charge_takes_one_round_trip() {
    let counted = Counted::start();
    let charge = counted.app.paid_charge().await;

    let trips = counted.fewest(async |app, _| {
        app.get(&format!("/v1/charges/{charge}")).await.expect(200);
    });

    assert_eq!(trips.await, "I");
}

/// Both transactions of a charge: BEGIN, claim, savepoint, order, charge, external call, record and so on.
#[tokio::test]
async fn a_charge_with_one_grant_takes_at_most_22_round_trips() {
    let counted = Counted::start();
    let mut orders = Vec::new();
    for _ in 0..8 {
        orders.push(counted.app.pending_order().await);
    }

    let trips = counted.fewest(async |app, number| {
        app.pay(&format!("pay-{number}"), &orders[number], "pm_card_visa").await.expect(201);
    });

    let trips = trips.await;
    assert!(trips.len() <= 22, "{} round trips: {trips}", trips.len());
}
