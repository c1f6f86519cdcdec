//! A gateway in Stripe's form with its own books. The test's script says what the gateway does with each payment. The API's real
//! HTTP client calls this gateway.

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard};

use actix_web::http::StatusCode;
use actix_web::web::{Data, Form};
use actix_web::{App, HttpResponse, HttpServer, rt, web};
use serde_json::{Value, json};
use stripe_gateway::{Key, Stripe};
use tokio::sync::Semaphore;

use crate::support::eventually;

type Parameters = HashMap<String, String>;

/// What the gateway does with one call.
#[derive(Clone, Debug)]
pub enum Does {
    /// Pays, and never answers.
    CaptureAndLose,
    /// Waits until the test releases the call, then pays, even if the caller has hung up.
    HoldThenCapture,
    /// Answers in Stripe's form, and pays nothing.
    Answer(u16),
    /// Answers with this Retry-After, and pays nothing.
    AskToWait(u16, String),
    /// Creates a PaymentIntent with this status, and answers with it.
    Make(&'static str),
}

#[derive(Default)]
struct Desk {
    /// One script for each payment method. A call without a script is paid, once for each reference.
    scripts: HashMap<String, VecDeque<Does>>,
    /// PaymentIntents, oldest first.
    books: Vec<Value>,
    sendings: usize,
    looks: usize,
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
            App::new()
                .app_data(Data::new(shared.clone()))
                .route("/v1/payment_intents", web::get().to(list))
                .route("/v1/payment_intents", web::post().to(pay))
                .route("/v1/payment_intents/{id}", web::get().to(one))
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
    pub fn gateway(&self) -> Arc<Stripe> {
        Arc::new(Stripe::new(&self.url, &Key::of_sandbox()).unwrap())
    }

    /// Sets what the gateway does with the next calls for a payment method.
    pub fn script(&self, payment_method: &str, does: impl IntoIterator<Item = Does>) {
        self.desk().scripts.entry(payment_method.to_owned()).or_default().extend(does);
    }

    /// Lets one held call go on.
    pub fn release(&self) {
        self.releases.add_permits(1);
    }

    /// Gives every PaymentIntent this status.
    pub fn change(&self, status: &str) {
        for intent in &mut self.desk().books {
            intent["status"] = status.into();
        }
    }

    pub fn captures(&self) -> usize {
        self.desk().books.len()
    }

    pub fn sendings(&self) -> usize {
        self.desk().sendings
    }

    pub fn looks(&self) -> usize {
        self.desk().looks
    }

    pub async fn until_sent(&self, sendings: usize) {
        eventually("the calls are at the gateway", || self.sendings() >= sendings).await;
    }

    pub async fn until_captured(&self, captures: usize) {
        eventually("the gateway has captured", || self.captures() >= captures).await;
    }

    /// Writes the PaymentIntent into the books, once for each reference.
    fn carry_out(&self, call: &Parameters, status: &str) -> Value {
        let mut desk = self.desk();
        let reference = &call["metadata[reference]"];
        if let Some(known) = desk.books.iter().find(|intent| intent["metadata"]["reference"] == *reference) {
            return known.clone();
        }
        let intent = json!({
            "id": format!("pi_{}", desk.books.len() + 1), "object": "payment_intent", "status": status,
            "amount": call["amount"].parse::<i64>().unwrap(), "currency": call["currency"],
            "metadata": {"reference": reference}, "last_payment_error": null, "created": chrono::Utc::now().timestamp(),
        });
        desk.books.push(intent.clone());
        intent
    }
}

async fn pay(gateway: Data<Scripted>, call: Form<Parameters>) -> HttpResponse {
    let (gateway, call) = (Scripted::clone(&gateway), call.0);
    let does = {
        let mut desk = gateway.desk();
        desk.sendings += 1;
        desk.scripts.get_mut(&call["payment_method"]).and_then(VecDeque::pop_front)
    };
    let status = |code| StatusCode::from_u16(code).unwrap();
    match does {
        None => HttpResponse::Ok().json(gateway.carry_out(&call, "succeeded")),
        Some(Does::Make(state)) => HttpResponse::Ok().json(gateway.carry_out(&call, state)),
        Some(Does::CaptureAndLose) => {
            gateway.carry_out(&call, "succeeded");
            pending().await
        }
        Some(Does::HoldThenCapture) => {
            // A separate task: if the caller hangs up, the server drops the handler, but not this task.
            let captured = rt::spawn(async move {
                gateway.releases.acquire().await.unwrap().forget();
                gateway.carry_out(&call, "succeeded")
            });
            HttpResponse::Ok().json(captured.await.unwrap())
        }
        Some(Does::Answer(code)) => HttpResponse::build(status(code))
            .json(json!({"error": {"type": "invalid_request_error", "code": "scripted"}})),
        Some(Does::AskToWait(code, when)) => {
            HttpResponse::build(status(code)).insert_header(("Retry-After", when)).finish()
        }
    }
}

async fn list(gateway: Data<Scripted>) -> HttpResponse {
    let mut desk = gateway.desk();
    desk.looks += 1;
    let newest_first: Vec<_> = desk.books.iter().rev().collect();
    HttpResponse::Ok().json(json!({"object": "list", "has_more": false, "data": newest_first}))
}

async fn one(gateway: Data<Scripted>, id: web::Path<String>) -> HttpResponse {
    let mut desk = gateway.desk();
    desk.looks += 1;
    match desk.books.iter().find(|intent| intent["id"] == id.as_str()) {
        Some(intent) => HttpResponse::Ok().json(intent),
        None => HttpResponse::NotFound().finish(),
    }
}
