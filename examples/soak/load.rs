//! The load: clients order, cancel, pay and refund. They repeat requests, compete for one order, and leave early.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::Fatal;
use crate::client::{Answer, Client, Kind, Operation};
use crate::dice::Dice;
use crate::reader;

/// Two accounts that use the same keys. Neither must ever meet the other's.
pub const API_KEYS: [&str; 2] = ["sk_demo_acme", "sk_demo_globex"];

/// Payment methods with their weights: most payments succeed, and each kind of failure happens all the time. A stored
/// error (`pm_card_sticky_error`) is left out: it has no outcome for as long as the gateway keeps its key, 24 h.
const CARDS: [(&str, u32); 6] = [
    ("pm_card_visa", 70),
    ("pm_card_visa_chargeDeclined", 7),
    ("pm_card_visa_chargeDeclinedInsufficientFunds", 4),
    ("pm_card_slow", 5),
    ("pm_card_lost_reply", 7),
    ("pm_card_gateway_error", 7),
];

/// The most keys, so that memory and the time to finish are bounded, however long the load runs.
const MAX_KEYS: usize = 500_000;

/// How often a client sends one key during the load. After the load, `finish` sends the key again.
const SENDS: u32 = 4;

/// How many keys `finish` sends at the same time.
const FINISHING_AT_ONCE: usize = 16;

/// Creates a product whose stock does not run out, as the demo's stickers do.
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
                let name = format!("{pair}-{visits}");
                let mut dice = client.seed.dice(&format!("{api_key} {name}"));
                Visit { client: &client, api_key, name }.run().await;
                visits += 1;
                sleep(Duration::from_millis(dice.number(0, 60))).await;
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
        let mut dice = self.dice("visit");
        let basket = self.basket(&mut dice);
        let order = self.begin(Kind::Order, "/v1/orders".to_owned(), "order", basket);
        let Some(order) = self.perform(&order).await.filter(|answer| answer.status == 201) else { return };
        let order = order.member("id");
        let cancels = dice.chance(15);
        let cancel = async {
            if cancels {
                let cancel = self.begin(Kind::Cancel, format!("/v1/orders/{order}/cancel"), "cancel", json!({}));
                self.perform(&cancel).await;
            }
        };
        let (charge, ()) = tokio::join!(self.pay(&order), cancel);
        if dice.chance(20) {
            reader::read_charges_of(self.client, self.api_key, &order).await;
        }
        if let Some(charge) = charge
            && dice.chance(40)
        {
            self.refund(&charge).await;
        }
    }

    /// Dice for a part of this visit.
    fn dice(&self, what: &str) -> Dice {
        self.client.seed.dice(&format!("{} {} {what}", self.api_key, self.name))
    }

    fn basket(&self, dice: &mut Dice) -> Value {
        const SKUS: [(&str, u32); 4] = [("credits-1000", 2), ("pro-monthly", 1), ("poster", 1), ("sticker", 1)];
        let first = dice.pick(&SKUS);
        let mut items = vec![json!({"sku": first, "quantity": dice.number(1, 3)})];
        if dice.chance(30) && first != "poster" {
            items.push(json!({"sku": "poster", "quantity": 1}));
        }
        json!({"customer": format!("customer-{}", self.name), "items": items})
    }

    /// Pays with one key or with several keys at once. If no payment succeeds, often pays again with another key. Returns the
    /// charge.
    async fn pay(&self, order: &str) -> Option<String> {
        let mut dice = self.dice("pay");
        let keys = if dice.chance(20) { 3 } else { 1 };
        let cards: Vec<_> = (0..keys).map(|key| (format!("charge-{key}"), dice.pick(&CARDS))).collect();
        let charges = join_all(cards.iter().map(async |(key, card)| self.charge(order, key, card).await));
        let answers = charges.await;
        let mut paid = answers.iter().flatten().find(|answer| answer.status == 201).map(|answer| answer.member("id"));
        if paid.is_none() && dice.chance(70) {
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
        let mut dice = self.dice("refund");
        let keys = if dice.chance(30) { 3 } else { 1 };
        let bodies: Vec<_> = (0..keys)
            .map(|_| if dice.chance(50) { json!({}) } else { json!({"amount": dice.number(1, 1500)}) })
            .collect();
        join_all(bodies.into_iter().enumerate().map(async |(key, body)| {
            let path = format!("/v1/charges/{charge}/refunds");
            self.perform(&self.begin(Kind::Refund, path, &format!("refund-{key}"), body)).await
        }))
        .await;
    }

    /// The key is also in the metadata, which the server only returns, so that the history knows which key created an
    /// object.
    fn begin(&self, kind: Kind, path: String, what: &str, mut body: Value) -> Arc<Operation> {
        let key = format!("{}-{what}", self.name);
        if kind != Kind::Cancel {
            body["metadata"] = json!({"key": key});
        }
        self.client.begin(kind, self.api_key, path, key, body)
    }

    /// Sends a key like a real client. Most clients are patient. Some send a key several times at once, some leave at
    /// once, some read what they created, and some use the key for another request.
    async fn perform(&self, operation: &Operation) -> Option<Answer> {
        let mut dice = self.dice(&operation.key);
        if dice.chance(8) {
            self.client.send_and_leave(operation, Duration::from_millis(dice.number(1, 40))).await;
            if dice.chance(50) {
                return None;
            }
        }
        let answer = if dice.chance(15) {
            join_all((0..3).map(|_| self.insist(operation))).await.into_iter().flatten().next()
        } else {
            self.insist(operation).await
        };
        if dice.chance(10) {
            self.client.send(operation).await;
        }
        if let Some(answer) = answer.as_ref().filter(|answer| answer.is_stored()) {
            if let Some(made) = answer.header("Location").filter(|_| dice.chance(25)) {
                reader::read_one(self.client, self.api_key, &made).await;
            }
            if dice.chance(4) && operation.kind != Kind::Cancel {
                self.client.misuse(operation).await;
            }
        }
        answer
    }

    async fn insist(&self, operation: &Operation) -> Option<Answer> {
        let mut dice = self.dice(&format!("{} pauses", operation.key));
        for _ in 0..SENDS {
            match self.client.send(operation).await {
                Some(answer) if answer.is_final() => return Some(answer),
                _ => sleep(Duration::from_millis(dice.number(100, 1000))).await,
            }
        }
        None
    }
}
