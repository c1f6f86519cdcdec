//! A flood of events at the gateway's webhook.

use std::cell::Cell;
use std::time::Instant;

use futures_util::future::join_all;

use crate::app::App;
use crate::webhooks::{event, reference, signed};

/// More senders than the account has places in the queue for connections, and they never pause. If each event waited in
/// that queue, it would be full, and the charges would be refused.
#[tokio::test]
async fn a_flood_of_events_keeps_no_charge_out() {
    const SENDERS: usize = 300;
    let app = App::start_with_pool(4).await;
    let (acme, order) = (app.account("acme"), app.pending_order().await);
    let paid = app.pay("k", &order, "pm_card_visa").await.expect(201);
    let (known, nobody) = (reference(&paid), "0".repeat(64));
    let charges = async |name: &str| {
        let begun = Instant::now();
        for n in 0..10 {
            let order = app.order(&format!("{name}-{n}"), "credits-1000", 2).await.expect(201).id();
            app.pay(&format!("{name}-pay-{n}"), &order, "pm_card_visa").await.expect(201);
        }
        begun.elapsed()
    };
    let alone = charges("alone").await;
    let ended = Cell::new(false);
    let flood = join_all((0..SENDERS).map(async |sender| {
        let mut taken = 0;
        while !ended.get() {
            let body = event(&acme, if sender % 2 == 0 { &known } else { &nobody }).to_string();
            let event = app.deliver(&body, &[signed(&body)]).await;
            assert!(matches!(event.status, 200 | 503), "{event:?}");
            taken += usize::from(event.status == 200);
        }
        taken
    }));
    let beside = async {
        let took = charges("beside").await;
        ended.set(true);
        took
    };

    let (events, took) = tokio::join!(flood, beside);

    let events: usize = events.iter().sum();
    println!("ten orders and charges took {alone:?}, and {took:?} beside {events} events");
    assert!(events > 100, "{events}");
}
