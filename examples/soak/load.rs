//! The load: clients order, cancel, pay and refund. They repeat requests, compete for one order, and leave early.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::Fatal;
use crate::client::{Answer, Client, Kind, Operation};

/// Two accounts that use the same keys. An account must never meet the other account's keys.
const API_KEYS: [&str; 2] = ["sk_demo_acme", "sk_demo_globex"];

/// Payment methods with their weights: most payments succeed, and each kind of failure happens all the time. A stored error
/// (`pm_card_sticky_error`) is left out: it stays without an outcome for as long as the gateway keeps its key, 24 h.
const CARDS: [(&str, u32); 6] = [
    ("pm_card_visa", 70),
    ("pm_card_visa_chargeDeclined", 7),
    ("pm_card_visa_chargeDeclinedInsufficientFunds", 4),
    ("pm_card_slow", 5),
    ("pm_card_lost_reply", 7),
    ("pm_card_gateway_error", 7),
];

/// The maximum of keys, so that memory and the time to finish are bounded, however long the load runs.
const MAX_KEYS: usize = 500_000;

/// How often a client sends one key during the load. After the load, `finish` sends the key again.
const SENDS: u32 = 4;

/// How many keys `finish` sends at the same time.
const FINISHING_AT_ONCE: usize = 16;

/// Makes a product with a stock that does not run out. The demo's stickers run out.
pub async fn stock_up(client: &Client) -> Result<(), Fatal> {
    let poster = json!({"name": "Poster", "unit_amount": 900, "currency": "EUR", "stock": 1_000_000_000});
    for api_key in API_KEYS {
        let answer = client.put(api_key, "/v1/products/poster", &poster).await.ok_or("no answer to the first PUT")?;
        if answer.status >= 300 {
            return Err(format!("the first PUT was answered {}: {}", answer.status, answer.body).into());
        }
    }
    Ok(())
}

/// Runs all clients until the deadline.
pub async fn run(client: &Arc<Client>, clients: u32, deadline: Instant) {
    let tasks = (0..clients).map(|number| {
        let client = Arc::clone(client);
        tokio::spawn(async move {
            let mut visits = 0;
            while Instant::now() < deadline && client.journal_is_below(MAX_KEYS) {
                let (pair, api_key) = (number / 2, API_KEYS[number as usize % 2]);
                Visit { client: &client, api_key, name: format!("{pair}-{visits}") }.run().await;
                visits += 1;
                sleep(Duration::from_millis(fastrand::u64(..60))).await;
            }
        })
    });
    join_all(tasks).await;
}

/// Sends every key until its reply is final. Returns the number of keys without a final reply. Keys with a final reply are sent
/// again too: the reply must be the same.
pub async fn finish(client: &Client) -> u64 {
    let ends = stream::iter(client.journal()).map(async |operation| u64::from(!end(client, &operation).await));
    ends.buffer_unordered(FINISHING_AT_ONCE).fold(0, async |unfinished, one| unfinished + one).await
}

async fn end(client: &Client, operation: &Operation) -> bool {
    for _ in 0..60 {
        if client.send(operation).await.is_some_and(|answer| answer.is_final()) {
            return true;
        }
        sleep(Duration::from_secs(1)).await;
    }
    false
}

/// One customer's visit, from the order to a refund.
struct Visit<'a> {
    client: &'a Client,
    api_key: &'static str,
    name: String,
}

impl Visit<'_> {
    async fn run(self) {
        let order = self.begin(Kind::Order, "/v1/orders".to_owned(), "order", self.basket());
        let Some(order) = self.perform(&order).await.filter(|answer| answer.status == 201) else { return };
        let order = order.member("id");
        let cancel = async {
            if chance(15) {
                let cancel = self.begin(Kind::Cancel, format!("/v1/orders/{order}/cancel"), "cancel", json!({}));
                self.perform(&cancel).await;
            }
        };
        let (charge, ()) = tokio::join!(self.pay(&order), cancel);
        if let Some(charge) = charge
            && chance(40)
        {
            self.refund(&charge).await;
        }
    }

    fn basket(&self) -> Value {
        const SKUS: [&str; 5] = ["credits-1000", "pro-monthly", "poster", "credits-1000", "sticker"];
        let first = fastrand::usize(..SKUS.len());
        let mut items = vec![json!({"sku": SKUS[first], "quantity": fastrand::u32(1..4)})];
        if chance(30) && SKUS[first] != "poster" {
            items.push(json!({"sku": "poster", "quantity": 1}));
        }
        json!({"customer": format!("customer-{}", self.name), "items": items})
    }

    /// Pays with one key or with several keys at once. If no payment succeeds, often pays again with another key. Returns the
    /// charge.
    async fn pay(&self, order: &str) -> Option<String> {
        let keys = if chance(20) { 3 } else { 1 };
        let charges = join_all((0..keys).map(async |key| self.charge(order, &format!("charge-{key}"), card()).await));
        let answers = charges.await;
        let mut paid = answers.iter().flatten().find(|answer| answer.status == 201).map(|answer| answer.member("id"));
        if paid.is_none() && chance(70) {
            let again = self.charge(order, "charge-again", "pm_card_visa").await;
            paid = again.filter(|answer| answer.status == 201).map(|answer| answer.member("id"));
        }
        paid
    }

    async fn charge(&self, order: &str, key: &str, card: &str) -> Option<Answer> {
        let body = json!({"order_id": order, "payment_method": card});
        self.perform(&self.begin(Kind::Charge, "/v1/charges".to_owned(), key, body)).await
    }

    /// Refunds a part or the rest, with one key or with several keys at once.
    async fn refund(&self, charge: &str) {
        let keys = if chance(30) { 3 } else { 1 };
        join_all((0..keys).map(async |key| {
            let body = if chance(50) { json!({}) } else { json!({"amount": fastrand::u32(1..1500)}) };
            let path = format!("/v1/charges/{charge}/refunds");
            self.perform(&self.begin(Kind::Refund, path, &format!("refund-{key}"), body)).await
        }))
        .await;
    }

    fn begin(&self, kind: Kind, path: String, what: &str, body: Value) -> Arc<Operation> {
        self.client.begin(kind, self.api_key, path, format!("{}-{what}", self.name), body)
    }

    /// Sends a key like a real client. Most clients are patient. Some send a key several times at once, some leave at once.
    async fn perform(&self, operation: &Operation) -> Option<Answer> {
        if chance(8) {
            self.client.send_and_leave(operation).await;
            if chance(50) {
                return None;
            }
        }
        let answer = if chance(15) {
            join_all((0..3).map(|_| self.insist(operation))).await.into_iter().flatten().next()
        } else {
            self.insist(operation).await
        };
        if chance(10) {
            self.client.send(operation).await;
        }
        answer
    }

    async fn insist(&self, operation: &Operation) -> Option<Answer> {
        for _ in 0..SENDS {
            match self.client.send(operation).await {
                Some(answer) if answer.is_final() => return Some(answer),
                _ => sleep(Duration::from_millis(fastrand::u64(100..1000))).await,
            }
        }
        None
    }
}

fn chance(percent: u32) -> bool {
    fastrand::u32(..100) < percent
}

fn card() -> &'static str {
    let weights: u32 = CARDS.iter().map(|(_, weight)| weight).sum();
    let mut point = fastrand::u32(..weights);
    for (card, weight) in CARDS {
        if point < weight {
            return card;
        }
        point -= weight;
    }
    CARDS[0].0
}
