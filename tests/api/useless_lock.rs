//! What duplicates do to money where the advisory lock is of no use, as on two nodes that don't share their locks.

use serde_json::json;

use crate::app::App;
use crate::support::{at_once, execute, fresh_database};

#[tokio::test]
async fn duplicates_of_a_charge_capture_once_although_every_claim_gets_the_lock() {
    let database = fresh_database();
    execute(&database, include_str!("../support/useless_lock.sql"));
    let replicas = [App::start_on(database.clone(), 4).await, App::start_on(database, 4).await];
    for number in 0..5 {
        let order = replicas[0].order(&format!("order-{number}"), "pro-monthly", 1).await.expect(201);
        let body = json!({"order_id": order.json()["id"], "payment_method": "pm_card_visa"});
        let clients = [(*replicas[0]).clone(), (*replicas[1]).clone()];

        let answers = at_once(20, move |duplicate| {
            let (client, body) = (clients[duplicate % 2].clone(), body.clone());
            async move { client.post("/v1/charges", &format!("charge-{number}"), body).await.expect(201) }
        });
        let answers = answers.await;

        assert!(answers.iter().all(|answer| answer.reply() == answers[0].reply()), "{answers:?}");
        assert_eq!(answers.iter().filter(|answer| !answer.is_replay()).count(), 1);
    }
    assert_eq!((replicas[0].count("charges"), replicas[0].count("sandbox.captures")), (5, 5));
}
