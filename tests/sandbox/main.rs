//! Tests of the sandbox gateway over HTTP, and of `external_calls::find_outcome` with the sandbox gateway, on a real database.
//!
//! Every test starts its own sandbox, and all share one database. Each test uses fresh references, so that they don't
//! disturb each other.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod support {
    pub fn fresh_database() -> String {
        test_database::fresh_database(crate::prepare_template)
    }
}

mod events;
mod keys;
mod lists;
mod outcomes;
mod payment_methods;
mod refunds;

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use chrono::Utc;
use external_calls::{self, CallError, Sending, Sent, StillUnknown};
use idempotent_payments::shop::charges::ChargeCall;
use idempotent_payments::shop::payments::{Call, Payments};
use idempotent_payments::shop::refunds::RefundCall;
use reqwest::Client;
use reqwest::header::HeaderMap;
use sandbox_gateway::{self, Config};
use serde_json::Value;
use stripe_gateway::{End, Gateway, Key, Outcome, Payment, Stripe, install_tls};
use uuid::Uuid;

/// The database of these tests.
fn database_url() -> String {
    static URL: LazyLock<String> = LazyLock::new(support::fresh_database);
    URL.clone()
}

/// Nothing to prepare: the sandbox creates its tables itself.
fn prepare_template(_: &str) {}

/// How long Stripe keeps keys. Unless a test sets another time, the sandbox forgets no key during the test.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

const KEY: &str = "sk_test_any";

/// The parameters of a request.
type Form = Vec<(&'static str, String)>;

/// A sandbox on its own port. It ends with the test's runtime.
struct Sandbox {
    addr: SocketAddr,
    handle: ServerHandle,
    client: Client,
}

/// An answer: its status and its whole body. The headers don't count when answers are compared.
#[derive(Clone, Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl PartialEq for Answer {
    fn eq(&self, other: &Self) -> bool {
        (self.status, &self.body) == (other.status, &other.body)
    }
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{self:?} is not JSON: {error}"))
    }

    fn id(&self) -> String {
        self.json()["id"].as_str().unwrap_or_else(|| panic!("no id in {self:?}")).to_owned()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The type and the code of the error.
    fn error(&self) -> (String, Option<String>) {
        let error = &self.json()["error"];
        assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{self:?}");
        (error["type"].as_str().unwrap().to_owned(), error["code"].as_str().map(str::to_owned))
    }
}

impl Sandbox {
    fn start() -> Self {
        Self::start_with(DAY, "127.0.0.1:0".parse().unwrap())
    }

    fn start_with(key_ttl: Duration, bind: SocketAddr) -> Self {
        let config = Config { database_url: database_url(), bind, key_ttl, pool_size: 4, webhook: None };
        Self::run(config)
    }

    fn run(config: Config) -> Self {
        install_tls();
        let running = sandbox_gateway::start(config).unwrap();
        tokio::spawn(running.server);
        Self { addr: running.addr, handle: running.handle, client: Client::new() }
    }

    /// Stops at once, like a crash: open calls are cut off.
    async fn kill(self) {
        self.handle.stop(false).await;
    }

    fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The API's client for this sandbox.
    fn gateway(&self) -> Stripe {
        Stripe::new(&self.url(), &Key::parse(KEY).unwrap()).unwrap()
    }

    async fn try_post(&self, path: &str, key: &str, form: &Form) -> reqwest::Result<Answer> {
        let request = self.client.post(format!("{}{path}", self.url())).bearer_auth(KEY);
        answer(request.header("Idempotency-Key", key).form(form)).await
    }

    async fn post(&self, path: &str, key: &str, form: &Form) -> Answer {
        self.try_post(path, key, form).await.unwrap()
    }

    async fn get(&self, path: &str) -> Answer {
        answer(self.client.get(format!("{}{path}", self.url())).bearer_auth(KEY)).await.unwrap()
    }

    /// Sends a payment under its reference as the key.
    async fn pay(&self, reference: &str, amount: i64, payment_method: &str) -> Answer {
        self.post("/v1/payment_intents", reference, &payment_form(reference, amount, payment_method)).await
    }

    /// Pays, and returns the PaymentIntent's id.
    async fn paid(&self, amount: i64) -> String {
        let paid = self.pay(&fresh_reference(), amount, "pm_card_visa").await;
        assert_eq!(paid.status, 200);
        paid.id()
    }

    /// Sends a refund under its reference as the key.
    async fn refund(&self, reference: &str, payment_intent: &str, amount: i64) -> Answer {
        self.post("/v1/refunds", reference, &refund_form(reference, payment_intent, amount)).await
    }

    /// The objects of a list with this reference.
    async fn book(&self, list: &str, reference: &str) -> Vec<Value> {
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let page = self.get(&format!("{list}?limit=100{after}")).await.json();
            let objects = page["data"].as_array().unwrap();
            found.extend(objects.iter().filter(|object| object["metadata"]["reference"] == reference).cloned());
            match objects.last() {
                Some(oldest) if page["has_more"] == true => {
                    after = format!("&starting_after={}", oldest["id"].as_str().unwrap());
                }
                _ => return found,
            }
        }
    }

    /// The statuses of the PaymentIntents with this reference.
    async fn statuses(&self, reference: &str) -> Vec<String> {
        let book = self.book("/v1/payment_intents", reference).await;
        book.iter().map(|intent| intent["status"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until the books have a PaymentIntent with this reference.
    async fn until_paid(&self, reference: &str) {
        until("the payment is in the books", async || !self.statuses(reference).await.is_empty()).await;
    }
}

async fn answer(request: reqwest::RequestBuilder) -> reqwest::Result<Answer> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    assert!(headers.get("Request-Id").is_some_and(|id| id.to_str().unwrap().starts_with("req_")), "{headers:?}");
    Ok(Answer { status, headers, body: response.text().await? })
}

fn payment_form(reference: &str, amount: i64, payment_method: &str) -> Form {
    let of = |name, value: &str| (name, value.to_owned());
    vec![
        ("amount", amount.to_string()),
        of("currency", "eur"),
        of("payment_method", payment_method),
        of("confirm", "true"),
        of("error_on_requires_action", "true"),
        of("payment_method_types[]", "card"),
        of("metadata[reference]", reference),
    ]
}

fn refund_form(reference: &str, payment_intent: &str, amount: i64) -> Form {
    vec![
        ("amount", amount.to_string()),
        ("payment_intent", payment_intent.to_owned()),
        ("metadata[reference]", reference.to_owned()),
    ]
}

/// The parameters with one changed or added.
fn with(form: &Form, name: &'static str, value: &str) -> Form {
    let rest = form.iter().filter(|(known, _)| *known != name).cloned();
    rest.chain([(name, value.to_owned())]).collect()
}

fn payment(amount: i64, payment_method: &str) -> Payment {
    Payment { account_id: Uuid::nil(), amount, currency: "EUR".to_owned(), payment_method: payment_method.to_owned() }
}

/// What a look gets about a call that was sent a moment ago.
fn sent(reference: &str) -> Sent {
    Sent { reference: reference.to_owned(), outside_id: None, since: Utc::now(), until: Utc::now() }
}

/// Finds an outcome, like the resolver, whose calls also contain the ids of the charge and the order.
async fn find_outcome(
    gateway: &Stripe,
    reference: &str,
    call: stripe_gateway::Call<'_>,
    look_first: bool,
) -> Result<Outcome, StillUnknown> {
    let id = Uuid::nil();
    let call = match call {
        stripe_gateway::Call::Payment(payment) => {
            Call::Charge(ChargeCall { charge_id: id, order_id: id, payment: payment.clone() })
        }
        stripe_gateway::Call::Refund(refund) => {
            Call::Refund(RefundCall { refund_id: id, charge_id: id, order_id: id, refund: refund.clone() })
        }
    };
    let sending =
        Sending { look_first, earlier_unanswered: false, only_look: false, sent_twice: false, send_until: None };
    external_calls::find_outcome(&Payments(Arc::new(gateway.clone())), &sent(reference), &call, sending).await
}

/// What became of a payment, as the resolver would find out.
async fn end_of(gateway: &Stripe, reference: &str, payment: &Payment, look_first: bool) -> Result<End, StillUnknown> {
    Ok(find_outcome(gateway, reference, stripe_gateway::Call::Payment(payment), look_first).await?.end)
}

async fn look_up(gateway: &Stripe, reference: &str, payment: &Payment) -> Result<Option<End>, CallError> {
    let found = gateway.look_up(&sent(reference), stripe_gateway::Call::Payment(payment)).await?;
    Ok(found.map(|outcome| outcome.end))
}

fn fresh_reference() -> String {
    Uuid::new_v4().simple().to_string()
}

/// Polls until the condition is true. Fails after ten seconds.
async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition().await {
        assert!(Instant::now() < deadline, "ten seconds passed before {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
