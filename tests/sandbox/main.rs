//! Tests of the sandbox gateway over HTTP, and of `external_calls::find_outcome` with the sandbox gateway, on a real database.
//!
//! Every test starts its own sandbox. All sandboxes share one database. Each test uses fresh references, so that tests don't
//! disturb each other.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod support {
    pub fn fresh_database() -> String {
        test_database::fresh_database(crate::prepare_template)
    }
}

mod answers;
mod keys;
mod outcomes;
mod payment_methods;
mod refunds;

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use external_calls::{self, Sending, StillUnknown};
use idempotent_payments::gateway::{self, HttpGateway, Outcome};
use idempotent_payments::shop::payments::{self, Payments};
use idempotent_payments::shop::{charges, refunds as refunds_of};
use reqwest::{Client, StatusCode};
use sandbox_gateway::{self, Config};
use serde_json::{Value, json};

/// The database of these tests.
fn database_url() -> String {
    static URL: LazyLock<String> = LazyLock::new(support::fresh_database);
    URL.clone()
}

/// Nothing to prepare: the sandbox makes its tables itself.
fn prepare_template(_: &str) {}

/// The time to live of keys at real gateways. If a test does not set another time, the sandbox forgets no key during the test.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A sandbox on its own port. It ends with the test's runtime.
struct Sandbox {
    addr: SocketAddr,
    handle: ServerHandle,
    client: Client,
}

/// An answer: its status and its whole body.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    status: StatusCode,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{self:?} is not JSON: {error}"))
    }
}

impl Sandbox {
    fn start() -> Self {
        Self::start_with(DAY, "127.0.0.1:0".parse().unwrap())
    }

    fn start_with(key_ttl: Duration, bind: SocketAddr) -> Self {
        let running =
            sandbox_gateway::start(Config { database_url: database_url(), bind, key_ttl, pool_size: 4 }).unwrap();
        tokio::spawn(running.server);
        Self { addr: running.addr, handle: running.handle, client: Client::new() }
    }

    /// Stops at once, like a crash: calls under way are cut off.
    async fn kill(self) {
        self.handle.stop(false).await;
    }

    fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    async fn try_post(&self, path: &str, key: &str, body: &Value) -> reqwest::Result<Answer> {
        let request = self.client.post(format!("{}{path}", self.url())).header("Idempotency-Key", key).json(body);
        let response = request.send().await?;
        Ok(Answer { status: response.status(), body: response.text().await? })
    }

    async fn post(&self, path: &str, key: &str, body: &Value) -> Answer {
        self.try_post(path, key, body).await.unwrap()
    }

    /// Sends a capture under its reference as the key.
    async fn capture(&self, reference: &str, amount: i64, payment_method: &str) -> Answer {
        self.post("/captures", reference, &capture_body(reference, amount, payment_method)).await
    }

    /// Sends a refund under its reference as the key.
    async fn refund(&self, reference: &str, capture: &str, amount: i64) -> Answer {
        let body = json!({ "reference": reference, "capture": capture, "amount": amount });
        self.post("/refunds", reference, &body).await
    }

    /// The lines of a book with this reference.
    async fn book(&self, book: &str, reference: &str) -> Vec<Value> {
        let url = format!("{}{book}?reference={reference}", self.url());
        self.client.get(url).send().await.unwrap().json().await.unwrap()
    }

    async fn captured_outcomes(&self, reference: &str) -> Vec<String> {
        let book = self.book("/captures", reference).await;
        book.iter().map(|entry| entry["outcome"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until the book has a line with this reference.
    async fn until_captured(&self, reference: &str) {
        until("the capture is in the book", async || !self.captured_outcomes(reference).await.is_empty()).await;
    }
}

fn capture_body(reference: &str, amount: i64, payment_method: &str) -> Value {
    json!({ "reference": reference, "amount": amount, "currency": "EUR", "payment_method": payment_method })
}

/// Learns an outcome, like the resolver. The resolver's calls also contain the ids of the charge and the order.
async fn find_outcome(gateway: &HttpGateway, call: &gateway::Call, look_first: bool) -> Result<Outcome, StillUnknown> {
    let id = uuid::Uuid::nil();
    let (reference, call) = match call.clone() {
        gateway::Call::Capture(gateway::Capture { reference, amount, currency, payment_method }) => {
            let capture = charges::Capture { charge_id: id, order_id: id, amount, currency, payment_method };
            (reference, payments::Call::Capture(capture))
        }
        gateway::Call::Refund(gateway::Refund { reference, capture, amount, currency }) => {
            let refund = refunds_of::GiveBack { refund_id: id, charge_id: id, order_id: id, capture, amount, currency };
            (reference, payments::Call::GiveBack(refund))
        }
    };
    let sending = Sending { look_first, earlier_unanswered: false };
    external_calls::find_outcome(&Payments(Arc::new(gateway.clone())), &reference, &call, sending).await
}

fn fresh_reference() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// Polls until the condition is true. Fails after ten seconds.
async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition().await {
        assert!(Instant::now() < deadline, "ten seconds passed before {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
