//! A gateway over HTTP with its own books. The test's script says what the gateway does with each capture. The API's real HTTP
//! client calls this gateway.

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard};

use actix_web::http::StatusCode;
use actix_web::web::{Data, Json, Query};
use actix_web::{App, HttpResponse, HttpServer, rt, web};
use idempotent_payments::gateway::HttpGateway;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::support::eventually;

/// What the gateway does with one call.
#[derive(Clone, Debug)]
pub enum Does {
    /// Captures, and never answers.
    CaptureAndLose,
    /// Waits until the test releases the call, then captures, also if the caller has hung up.
    HoldThenCapture,
    /// Answers, and captures nothing.
    Answer(u16),
    /// Answers with this Retry-After, and captures nothing.
    AskToWait(u16, String),
}

#[derive(Default)]
struct Desk {
    /// One script for each payment method. A call without a script is captured, once for each reference.
    scripts: HashMap<String, VecDeque<Does>>,
    books: Vec<Value>,
    sendings: usize,
}

/// The gateway. All clones are the same gateway.
#[derive(Clone)]
pub struct Scripted {
    url: String,
    desk: Arc<Mutex<Desk>>,
    releases: Arc<Semaphore>,
}

impl Scripted {
    pub fn open() -> Self {
        let (desk, releases) = (Arc::<Mutex<Desk>>::default(), Arc::new(Semaphore::new(0)));
        let shared = Self { url: String::new(), desk: Arc::clone(&desk), releases: Arc::clone(&releases) };
        let server = HttpServer::new(move || {
            let captures = web::resource("/captures").get(look).post(capture);
            App::new().app_data(Data::new(shared.clone())).service(captures)
        });
        let server = server.workers(1).disable_signals().bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", server.addrs()[0]);
        tokio::spawn(server.run());
        Self { url, desk, releases }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap()
    }

    /// The API's client for this gateway.
    pub fn gateway(&self) -> Arc<HttpGateway> {
        Arc::new(HttpGateway::new(&self.url).unwrap())
    }

    /// Says what the gateway does with the next calls for a payment method.
    pub fn script(&self, payment_method: &str, does: impl IntoIterator<Item = Does>) {
        self.desk().scripts.entry(payment_method.to_owned()).or_default().extend(does);
    }

    /// Lets one held call go on.
    pub fn release(&self) {
        self.releases.add_permits(1);
    }

    pub fn captures(&self) -> usize {
        self.desk().books.len()
    }

    pub fn sendings(&self) -> usize {
        self.desk().sendings
    }

    pub async fn until_sent(&self, sendings: usize) {
        eventually("the calls are at the gateway", || self.sendings() >= sendings).await;
    }

    pub async fn until_captured(&self, captures: usize) {
        eventually("the gateway has captured", || self.captures() >= captures).await;
    }

    /// Writes the capture into the books, once for each reference.
    fn carry_out(&self, call: &Value) -> Value {
        let mut desk = self.desk();
        if let Some(known) = desk.books.iter().find(|entry| entry["reference"] == call["reference"]) {
            return known.clone();
        }
        let (reference, amount, currency) = (&call["reference"], &call["amount"], &call["currency"]);
        let entry = json!({"reference": reference, "amount": amount, "currency": currency, "outcome": "succeeded"});
        desk.books.push(entry.clone());
        entry
    }
}

async fn capture(gateway: Data<Scripted>, call: Json<Value>) -> HttpResponse {
    let (gateway, call) = (Scripted::clone(&gateway), call.0);
    let does = {
        let mut desk = gateway.desk();
        desk.sendings += 1;
        let script = desk.scripts.get_mut(call["payment_method"].as_str().unwrap());
        script.and_then(VecDeque::pop_front)
    };
    let status = |code| StatusCode::from_u16(code).unwrap();
    match does {
        None => HttpResponse::Created().json(gateway.carry_out(&call)),
        Some(Does::CaptureAndLose) => {
            gateway.carry_out(&call);
            pending().await
        }
        Some(Does::HoldThenCapture) => {
            // A separate task: if the caller hangs up, the server drops the handler, but not this task.
            let captured = rt::spawn(async move {
                gateway.releases.acquire().await.unwrap().forget();
                gateway.carry_out(&call)
            });
            HttpResponse::Created().json(captured.await.unwrap())
        }
        Some(Does::Answer(code)) => HttpResponse::build(status(code)).finish(),
        Some(Does::AskToWait(code, when)) => {
            HttpResponse::build(status(code)).insert_header(("Retry-After", when)).finish()
        }
    }
}

async fn look(gateway: Data<Scripted>, query: Query<HashMap<String, String>>) -> HttpResponse {
    let desk = gateway.desk();
    let entries = desk.books.iter().filter(|entry| entry["reference"] == query["reference"].as_str());
    HttpResponse::Ok().json(entries.collect::<Vec<_>>())
}
