//! A running API and the client that talks to it.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use idempotent_payments::auth::KnownKeys;
use idempotent_payments::charges::settle::Settler;
use idempotent_payments::db::Db;
use idempotent_payments::gateway::{Gateway, HttpGateway};
use idempotent_payments::http::{self, State};
use idempotent_payments::sandbox;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::support;

pub const ACME: &str = "sk_demo_acme";
pub const GLOBEX: &str = "sk_demo_globex";

/// A server of its own, on a port of its own.
pub struct App {
    pub base: String,
    pub database: String,
    client: reqwest::Client,
    /// None where somebody else runs it.
    server: Option<ServerHandle>,
}

/// An answer, read whole.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl App {
    /// On a fresh database.
    pub async fn start() -> Self {
        Self::start_on(support::fresh_database(), 10).await
    }

    /// With so many connections.
    pub async fn start_with_pool(size: u32) -> Self {
        Self::start_on(support::fresh_database(), size).await
    }

    /// A server with a pool of its own on a given database: with another one it stands for two replicas. Its sandbox
    /// gateway is on the same database, so two replicas share the gateway's books, too.
    pub async fn start_on(database: String, pool_size: u32) -> Self {
        let sandbox = sandbox::start(sandbox::Config {
            database_url: database.clone(),
            bind: "127.0.0.1:0".parse().unwrap(),
            key_ttl: Duration::from_secs(24 * 60 * 60),
            pool_size: 4,
        })
        .unwrap();
        let gateway = Arc::new(HttpGateway::new(&format!("http://{}", sandbox.addr)).unwrap());
        Self::serve(database, pool_size, gateway, Some(sandbox.server))
    }

    /// A server that calls the given gateway and has no settler in the background: what is to be settled, the test does.
    pub fn start_without_settler(database: String, gateway: Arc<dyn Gateway>) -> Self {
        Self::serve(database, 10, gateway, None)
    }

    fn serve(database: String, pool_size: u32, gateway: Arc<dyn Gateway>, sandbox: Option<Server>) -> Self {
        let db = Db::start(&database, pool_size).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let settler = Settler::new(db.clone(), Arc::clone(&gateway));
                if let Some(sandbox) = sandbox {
                    actix_web::rt::spawn(sandbox);
                    actix_web::rt::spawn(settler.clone().run());
                }
                let state = State { db, known_keys: KnownKeys::default(), gateway, settler };
                let server = http::serve(listener, state).unwrap();
                sender.send(server.handle()).unwrap();
                server.await.unwrap();
            });
        });
        Self { base, database, client: reqwest::Client::new(), server: Some(receiver.recv().unwrap()) }
    }

    /// An API that somebody else runs: a process of the real binary.
    pub fn at(base: String, database: String) -> Self {
        Self { base, database, client: reqwest::Client::new(), server: None }
    }

    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.request_as(ACME, method, path)
    }

    pub fn request_as(&self, account: &str, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = method.parse().unwrap();
        self.client.request(method, format!("{}{path}", self.base)).bearer_auth(account)
    }

    pub async fn get(&self, path: &str) -> Answer {
        send(self.request("GET", path)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        send(self.request("PUT", path).json(&body)).await
    }

    pub async fn post(&self, path: &str, key: &str, body: Value) -> Answer {
        self.post_as(ACME, path, key, body).await
    }

    pub async fn post_as(&self, account: &str, path: &str, key: &str, body: Value) -> Answer {
        let url = format!("{}{path}", self.base);
        send(self.client.post(url).bearer_auth(account).header("Idempotency-Key", key).json(&body)).await
    }

    /// An order of one SKU.
    pub async fn order(&self, key: &str, sku: &str, quantity: i64) -> Answer {
        self.post("/v1/orders", key, one_item(sku, quantity)).await
    }

    pub fn count(&self, sql: &str) -> i64 {
        support::count(&self.database, sql)
    }
}

impl Drop for App {
    fn drop(&mut self) {
        // Fire and forget: the server's own thread ends it.
        drop(self.server.as_ref().map(|server| server.stop(false)));
    }
}

pub fn one_item(sku: &str, quantity: i64) -> Value {
    json!({"customer": "ada", "items": [{"sku": sku, "quantity": quantity}]})
}

pub async fn send(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, body: response.text().await.unwrap() }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e} in {self:?}"))
    }

    pub fn is_replay(&self) -> bool {
        self.header("Idempotency-Replayed") == Some("true")
    }

    /// The problem's slug; fails where the answer is not a whole problem document.
    pub fn problem(&self) -> String {
        assert_eq!(self.header("Content-Type"), Some("application/problem+json"), "{self:?}");
        let json = self.json();
        assert_eq!(json["status"], self.status, "{self:?}");
        for member in ["type", "title", "detail", "instance"] {
            assert!(json[member].as_str().is_some_and(|text| !text.is_empty()), "{member} is missing in {self:?}");
        }
        json["type"].as_str().unwrap().strip_prefix("/problems/").unwrap().to_owned()
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    #[track_caller]
    pub fn expect_problem(self, status: u16, slug: &str) -> Self {
        assert_eq!((self.status, self.problem().as_str()), (status, slug), "{self:?}");
        self
    }
}
