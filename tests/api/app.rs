//! A running API and the client that talks to it.

use std::net::TcpListener;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use idempotent_payments::db::Db;
use idempotent_payments::http::auth::KnownKeys;
use idempotent_payments::server::{self, State};
use idempotent_payments::shop::payments::{Payments, Resolver};
use serde_json::{Value, json};
use stripe_gateway::webhook::Secrets;
use stripe_gateway::{Gateway, Key, Stripe, install_tls};
use tokio_util::sync::CancellationToken;

pub use crate::answer::{Answer, send};
use crate::support;

pub const ACME: &str = "sk_demo_acme";
/// A page of this origin may call the API.
pub const SHOP: &str = "https://shop.example";
pub const GLOBEX: &str = "sk_demo_globex";
/// The gateway signs its events with this secret.
pub const WEBHOOK_SECRET: &str = "whsec_test";

/// A server on its own port, and a client of it.
pub struct App {
    client: Client,
    server: ServerHandle,
}

/// Talks to one server, and reads its database. Clones share their connections.
#[derive(Clone)]
pub struct Client {
    pub base: String,
    pub database: String,
    http: reqwest::Client,
    is_patient: bool,
}

impl App {
    /// Starts a server on a fresh database.
    pub async fn start() -> Self {
        Self::start_on(support::fresh_database(), 10).await
    }

    /// Starts a server on a fresh database with this many connections.
    pub async fn start_with_pool(size: u32) -> Self {
        Self::start_on(support::fresh_database(), size).await
    }

    /// Starts a server with its own pool on a given database. Two servers on one database are two replicas. The sandbox
    /// gateway uses the same database, so two replicas share the gateway's books too.
    pub async fn start_on(database: String, pool_size: u32) -> Self {
        Self::start_sandboxed(database, pool_size, false)
    }

    /// Starts a server with the demo.
    pub async fn start_with_demo() -> Self {
        Self::start_sandboxed(support::fresh_database(), 10, true)
    }

    fn start_sandboxed(database: String, pool_size: u32, demo: bool) -> Self {
        let sandbox = sandbox_gateway::start(sandbox_gateway::Config {
            database_url: database.clone(),
            bind: "127.0.0.1:0".parse().unwrap(),
            key_ttl: Duration::from_secs(24 * 60 * 60),
            pool_size: 4,
            webhook: None,
        })
        .unwrap();
        let url = format!("http://{}", sandbox.addr);
        let key = Key::of_sandbox();
        let gateway = Arc::new(Stripe::new(&url, &key).unwrap());
        Self::serve(database, pool_size, gateway, Some(sandbox.server), demo)
    }

    /// Starts a server that calls the given gateway and has no resolver in the background. The test itself runs the resolver.
    pub fn start_without_resolver(database: String, gateway: Arc<dyn Gateway>) -> Self {
        Self::start_alone(database, 10, gateway)
    }

    /// Like [`App::start_without_resolver`], with this many connections.
    pub fn start_alone(database: String, pool_size: u32, gateway: Arc<dyn Gateway>) -> Self {
        Self::serve(database, pool_size, gateway, None, false)
    }

    fn serve(database: String, pool_size: u32, gateway: Arc<dyn Gateway>, sandbox: Option<Server>, demo: bool) -> Self {
        let db = Db::start(&database, pool_size).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let resolver = Resolver::new(Payments(gateway), db.clone());
                if let Some(sandbox) = sandbox {
                    actix_web::rt::spawn(sandbox);
                    actix_web::rt::spawn(resolver.clone().run_in_background());
                }
                let state = State {
                    db,
                    known_keys: KnownKeys::default(),
                    resolver,
                    demo,
                    webhook_secrets: Secrets::parse(WEBHOOK_SECRET).unwrap(),
                    cors_origins: vec![SHOP.to_owned(), "http://localhost:*".to_owned()],
                    keep_alive: Duration::from_secs(75),
                    draining: CancellationToken::new(),
                };
                let server = server::serve(listener, state, Vec::new()).unwrap();
                sender.send(server.handle()).unwrap();
                server.await.unwrap();
            });
        });
        Self { client: Client::of(base, database), server: receiver.recv().unwrap() }
    }
}

impl Deref for App {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Client {
    /// A client of any server.
    pub fn of(base: String, database: String) -> Self {
        install_tls();
        Self { base, database, http: reqwest::Client::new(), is_patient: false }
    }

    /// Sends a POST or PUT again while the server is overloaded, like a good client. On a busy machine, any storm may
    /// meet a 503.
    pub fn patient(&self) -> Self {
        Self { is_patient: true, ..self.clone() }
    }

    async fn write(&self, request: reqwest::RequestBuilder) -> Answer {
        for _ in 0..30 {
            let answer = send(request.try_clone().unwrap()).await;
            if !self.is_patient || answer.status != 503 {
                return answer;
            }
            assert_eq!(answer.header("Retry-Advice"), Some("again"), "{answer:?}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        panic!("the server stays overloaded");
    }

    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.request_as(ACME, method, path)
    }

    pub fn request_as(&self, account: &str, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.anonymous(method, path).bearer_auth(account)
    }

    pub fn anonymous(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method.parse().unwrap(), format!("{}{path}", self.base))
    }

    /// Sends `n` requests at once and waits for all answers.
    pub fn at_once<T, F, M>(&self, n: usize, task: M) -> impl Future<Output = Vec<T>> + use<T, F, M>
    where
        M: Fn(Self, usize) -> F,
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let client = self.clone();
        support::at_once(n, move |number| task(client.clone(), number))
    }

    pub async fn get(&self, path: &str) -> Answer {
        send(self.request("GET", path)).await
    }

    /// Asks for readiness until the answer has this status. The server shares a look for a second.
    pub async fn eventually_ready(&self, status: u16) -> Answer {
        let asked = std::time::Instant::now();
        loop {
            let answer = send(self.anonymous("GET", "/health/ready")).await;
            if answer.status == status || asked.elapsed() > Duration::from_secs(10) {
                return answer.expect(status);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.write(self.request("PUT", path).json(&body)).await
    }

    pub async fn post(&self, path: &str, key: &str, body: Value) -> Answer {
        self.post_as(ACME, path, key, body).await
    }

    /// Puts a product of 500 cents with this stock.
    pub async fn product(&self, sku: &str, stock: impl Into<Option<i64>>) -> Answer {
        self.put(&format!("/v1/products/{sku}"), terms(stock)).await
    }

    pub async fn post_as(&self, account: &str, path: &str, key: &str, body: Value) -> Answer {
        self.write(self.request_as(account, "POST", path).header("Idempotency-Key", key).json(&body)).await
    }

    /// Creates an order of one SKU.
    pub async fn order(&self, key: &str, sku: &str, quantity: i64) -> Answer {
        self.post("/v1/orders", key, one_item(sku, quantity)).await
    }

    pub fn count(&self, rows: &str) -> i64 {
        support::count(&self.database, rows)
    }

    /// The counts of rows that an order may change. Bad input must not change them.
    pub fn rows(&self) -> Vec<i64> {
        let tables = ["orders", "products", "events", "idempotency_keys", "products WHERE reserved > 0"];
        tables.iter().map(|table| self.count(table)).collect()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        // Nobody waits for the stop: the server's thread carries it out.
        drop(self.server.stop(false));
    }
}

pub fn one_item(sku: &str, quantity: i64) -> Value {
    json!({"customer": "ada", "items": [{"sku": sku, "quantity": quantity}]})
}

pub fn terms(stock: impl Into<Option<i64>>) -> Value {
    json!({"name": "Mug", "unit_amount": 500, "currency": "EUR", "stock": stock.into()})
}
