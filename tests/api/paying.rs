//! What the tests of charges and refunds share: a client that pays, a sandbox gateway with its own database, and reads
//! of the tables.

use std::time::Duration;

use actix_web::dev::ServerHandle;
use diesel::connection::SimpleConnection;
use serde_json::json;
use stripe_gateway::{Key, Stripe};

use crate::app::{Answer, Client};
use crate::support;

/// The amount and the units of [`Client::pending_order`], an order of two packs of credits.
pub const AMOUNT: i64 = 4000;
pub const UNITS: i64 = 2000;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Client {
    /// Creates an order of two packs of credits, and returns its id.
    pub async fn pending_order(&self) -> String {
        let key = format!("order-{}", uuid::Uuid::new_v4());
        self.patient().order(&key, "credits-1000", 2).await.expect(201).id()
    }

    pub async fn pay(&self, key: &str, order: &str, payment_method: &str) -> Answer {
        self.post("/v1/charges", key, json!({"order_id": order, "payment_method": payment_method})).await
    }

    /// Creates and pays an order, and returns the charge's id.
    pub async fn paid_charge(&self) -> String {
        let order = self.pending_order().await;
        self.pay(&format!("pay-{order}"), &order, "pm_card_visa").await.expect(201).id()
    }

    /// Refunds an amount, or the rest if none is given.
    pub async fn refund(&self, key: &str, charge: &str, amount: Option<i64>) -> Answer {
        let body = amount.map_or(json!({}), |amount| json!({"amount": amount}));
        self.post(&format!("/v1/charges/{charge}/refunds"), key, body).await
    }

    pub async fn cancel(&self, key: &str, order: &str) -> Answer {
        self.post(&format!("/v1/orders/{order}/cancel"), key, json!({})).await
    }

    /// A member of the answer at a path.
    pub async fn member(&self, path: &str, member: &str) -> serde_json::Value {
        self.get(path).await.expect(200).json()[member].clone()
    }

    /// Changes the tables, bypassing the API.
    pub fn execute(&self, sql: &str) {
        support::connect(&self.database).batch_execute(sql).unwrap();
    }

    /// Makes all open external calls due, as if their leases and pauses were over.
    pub fn let_leases_end(&self) {
        self.set_next_attempts("now()");
    }

    /// Keeps every resolver away for the rest of the test.
    pub fn put_off_leases(&self) {
        self.set_next_attempts("now() + interval '1 hour'");
    }

    fn set_next_attempts(&self, time: &str) {
        self.execute(&format!("UPDATE external_calls SET next_attempt_at = {time} WHERE resolved_at IS NULL"));
    }

    /// The number of events of this type.
    pub fn events(&self, kind: &str) -> i64 {
        self.count(&format!("events WHERE type = '{kind}'"))
    }

    /// The succeeded captures in the books of the sandbox that `App::start` runs.
    pub fn captures(&self) -> i64 {
        self.count("sandbox.payment_intents WHERE status = 'succeeded'")
    }
}

impl Answer {
    /// The id in the body.
    pub fn id(&self) -> String {
        self.json()["id"].as_str().unwrap().to_owned()
    }

    /// Whether the answer is final. An answer that is not final has Retry-After.
    pub fn is_final(&self) -> bool {
        self.header("Retry-After").is_none()
    }
}

/// Sends a request until its answer is final, like a good client.
pub async fn until_final(mut send: impl AsyncFnMut() -> Answer) -> Answer {
    for _ in 0..10 {
        let answer = send().await;
        if answer.is_final() {
            return answer;
        }
        assert!(matches!(answer.status, 202 | 409), "{answer:?}");
    }
    panic!("no final answer to ten retries");
}

/// A sandbox gateway with its own database, so that a fault of the API's database does not touch the gateway's books.
pub struct Sandbox {
    pub url: String,
    pub database: String,
    server: ServerHandle,
}

impl Sandbox {
    pub fn start() -> Self {
        Self::start_that_keeps_keys_for(DAY)
    }

    pub fn start_that_keeps_keys_for(key_ttl: Duration) -> Self {
        let database = support::fresh_database();
        let config = sandbox_gateway::Config {
            database_url: database.clone(),
            bind: "127.0.0.1:0".parse().unwrap(),
            key_ttl,
            pool_size: 4,
            webhook: None,
        };
        let sandbox = sandbox_gateway::start(config).unwrap();
        std::thread::spawn(move || actix_web::rt::System::new().block_on(sandbox.server));
        Self { url: format!("http://{}", sandbox.addr), database, server: sandbox.handle }
    }

    pub fn gateway(&self) -> Stripe {
        Stripe::new(&self.url, &Key::of_sandbox()).unwrap()
    }

    /// The succeeded captures in the gateway's books.
    pub fn captures(&self) -> i64 {
        support::count(&self.database, "sandbox.payment_intents WHERE status = 'succeeded'")
    }

    /// The succeeded refunds in the gateway's books.
    pub fn refunds(&self) -> i64 {
        support::count(&self.database, "sandbox.refunds WHERE status = 'succeeded'")
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Nobody waits for the stop: the gateway's thread carries it out.
        drop(self.server.stop(false));
    }
}
