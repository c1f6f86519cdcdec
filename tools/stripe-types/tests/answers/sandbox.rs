//! A sandbox for one test, and how its answers are read.

use std::any::type_name;
use std::fmt::Debug;
use std::time::Duration;

use reqwest::Client;
use sandbox_gateway::{Config, Webhook};
use serde::de::DeserializeOwned;
use stripe_shared::PaymentIntent;

/// How long Stripe keeps a key. No test waits for its end.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub struct Sandbox {
    pub database: String,
    url: String,
    client: Client,
}

impl Sandbox {
    pub fn start() -> Self {
        Self::start_with(None)
    }

    pub fn start_with(webhook: Option<Webhook>) -> Self {
        // The sandbox creates its tables itself.
        let database = test_database::fresh_database(|_| {});
        let (database_url, bind) = (database.clone(), "127.0.0.1:0".parse().unwrap());
        let config = Config { database_url, bind, key_ttl: DAY, pool_size: 2, webhook };
        let running = sandbox_gateway::start(config).unwrap();
        tokio::spawn(running.server);
        Self { database, url: format!("http://{}", running.addr), client: Client::new() }
    }

    /// The answer's status and body.
    async fn answer(&self, request: reqwest::RequestBuilder) -> (u16, String) {
        let response = request.bearer_auth("sk_test_any").send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    pub async fn get<T: DeserializeOwned + Debug>(&self, path: &str, status: u16) -> T {
        let (answered, body) = self.answer(self.client.get(format!("{}{path}", self.url))).await;
        assert_eq!(answered, status, "{path}: {body}");
        read(&body)
    }

    pub async fn post<T: DeserializeOwned + Debug>(&self, path: &str, form: &[(&str, &str)], status: u16) -> T {
        let request = self.client.post(format!("{}{path}", self.url)).form(form);
        let (answered, body) = self.answer(request).await;
        assert_eq!(answered, status, "{path} {form:?}: {body}");
        read(&body)
    }

    /// Pays 500 cents with a card.
    pub async fn pay<T: DeserializeOwned + Debug>(&self, card: &str, status: u16) -> T {
        self.post("/v1/payment_intents", &payment(card), status).await
    }

    /// The id of a PaymentIntent that has succeeded.
    pub async fn paid(&self, card: &str) -> String {
        self.pay::<PaymentIntent>(card, 200).await.id.to_string()
    }
}

/// The parameters of a payment, as the payments API sends them.
pub fn payment(card: &str) -> [(&str, &str); 8] {
    [
        ("amount", "500"),
        ("currency", "eur"),
        ("payment_method", card),
        ("confirm", "true"),
        ("error_on_requires_action", "true"),
        ("payment_method_types[]", "card"),
        ("metadata[reference]", "ours"),
        ("metadata[account]", "a"),
    ]
}

/// Reads an answer by a generated type. An `Unknown` is a value that Stripe's document doesn't have.
pub fn read<T: DeserializeOwned + Debug>(body: &str) -> T {
    let object: T = serde_json::from_str(body)
        .unwrap_or_else(|error| panic!("{} is not in this answer: {error}\n{body}", type_name::<T>()));
    let text = format!("{object:?}");
    assert!(!text.contains("Unknown("), "Stripe's document doesn't have a value of this: {text}");
    object
}
