// SPDX-License-Identifier: MIT OR Apache-2.0
//! A payment provider: an HTTP server with its own books. The test's script says what the provider does with each call.

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use actix_web::http::StatusCode;
use actix_web::web::{Data, Json, Query};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, rt, web};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::support::eventually;

/// What the provider does with one call.
#[derive(Clone, Copy, Debug)]
pub enum Does {
    /// Carries out the payment, if its key has no payment yet, and answers.
    Pay,
    /// Carries out the payment, and answers with another status.
    PayAndAnswer(u16),
    /// Carries out the payment, and never answers.
    PayAndLose,
    /// Waits until the test releases the call, then pays, even if the caller has hung up.
    HoldThenPay,
    /// Waits until the test releases the call, then answers.
    HoldThenAnswer(u16),
    /// Answers, and pays nothing.
    Answer(u16),
    /// Answers with a Retry-After, and pays nothing.
    AskToWait(u16, u64),
}

/// One call, as it arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct Sending {
    pub reference: String,
    pub body: Value,
}

#[derive(Default)]
struct Desk {
    /// One script for each plate, so that a test can make one fine fail. A call without a script is paid.
    scripts: HashMap<String, VecDeque<Does>>,
    books: Vec<String>,
    sendings: Vec<Sending>,
    looks: usize,
    forgets_keys: bool,
    has_lost_objects: bool,
}

/// How many providers there have been.
static PROVIDERS: AtomicU32 = AtomicU32::new(0);

/// The provider. All clones are the same provider.
#[derive(Clone)]
pub struct Provider {
    pub url: String,
    desk: Arc<Mutex<Desk>>,
    releases: Arc<Semaphore>,
}

impl Provider {
    pub fn open() -> Self {
        let (desk, releases) = (Arc::<Mutex<Desk>>::default(), Arc::new(Semaphore::new(0)));
        let shared = Self { url: String::new(), desk: Arc::clone(&desk), releases: Arc::clone(&releases) };
        let server = HttpServer::new(move || {
            let route = web::resource("/{number}/payments").get(look).post(pay);
            App::new().app_data(Data::new(shared.clone())).service(route)
        });
        let server = server.workers(1).disable_signals().bind("127.0.0.1:0").unwrap();
        // Another test may get the port later, but the number is in no other URL.
        let number = PROVIDERS.fetch_add(1, Ordering::Relaxed);
        let url = format!("http://{}/{number}/payments", server.addrs()[0]);
        tokio::spawn(server.run());
        Self { url, desk, releases }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap()
    }

    /// Sets what the provider does with the next calls for a plate.
    pub fn script(&self, plate: &str, does: impl IntoIterator<Item = Does>) {
        self.desk().scripts.entry(plate.to_owned()).or_default().extend(does);
    }

    /// Lets one held call go on.
    pub fn release(&self) {
        self.releases.add_permits(1);
    }

    /// The provider forgets its keys, as if they were too old.
    pub fn forget_keys(&self) {
        self.desk().forgets_keys = true;
    }

    /// The provider no longer has the objects that its answers named.
    pub fn lose_objects(&self) {
        self.desk().has_lost_objects = true;
    }

    /// The references of the payments that were carried out.
    pub fn books(&self) -> Vec<String> {
        self.desk().books.clone()
    }

    pub fn sendings(&self) -> Vec<Sending> {
        self.desk().sendings.clone()
    }

    pub fn looks(&self) -> usize {
        self.desk().looks
    }

    /// Waits until at least this many calls have arrived in total.
    pub async fn until_sent(&self, sendings: usize) {
        eventually("the call is at the provider", || self.desk().sendings.len() >= sendings).await;
    }

    /// Waits until the provider has carried out at least this many payments in total.
    pub async fn until_paid(&self, payments: usize) {
        eventually("the provider has paid", || self.desk().books.len() >= payments).await;
    }

    /// Writes the payment into the books. While the provider knows a key, the key makes one payment.
    pub fn carry_out(&self, reference: &str) {
        let mut desk = self.desk();
        if desk.forgets_keys || !desk.books.iter().any(|known| known == reference) {
            desk.books.push(reference.to_owned());
        }
    }
}

async fn pay(provider: Data<Provider>, request: HttpRequest, body: Json<Value>) -> HttpResponse {
    let provider = Provider::clone(&provider);
    let reference = request.headers().get("Idempotency-Key").unwrap().to_str().unwrap().to_owned();
    let does = {
        let mut desk = provider.desk();
        desk.sendings.push(Sending { reference: reference.clone(), body: body.0.clone() });
        let script = desk.scripts.get_mut(body["plate"].as_str().unwrap());
        script.and_then(VecDeque::pop_front).unwrap_or(Does::Pay)
    };
    let status = match does {
        Does::Pay => {
            provider.carry_out(&reference);
            201
        }
        Does::PayAndAnswer(status) => {
            provider.carry_out(&reference);
            status
        }
        Does::PayAndLose => {
            provider.carry_out(&reference);
            pending().await
        }
        Does::HoldThenPay => {
            // A separate task: if the caller hangs up, the server drops the handler, but not this task.
            let paid = rt::spawn(async move {
                provider.releases.acquire().await.unwrap().forget();
                provider.carry_out(&reference);
            });
            paid.await.unwrap();
            201
        }
        Does::HoldThenAnswer(status) => {
            provider.releases.acquire().await.unwrap().forget();
            status
        }
        Does::Answer(status) => status,
        Does::AskToWait(status, seconds) => {
            let status = StatusCode::from_u16(status).unwrap();
            return HttpResponse::build(status).insert_header(("Retry-After", seconds)).finish();
        }
    };
    HttpResponse::build(StatusCode::from_u16(status).unwrap()).finish()
}

async fn look(provider: Data<Provider>, query: Query<HashMap<String, String>>) -> HttpResponse {
    let mut desk = provider.desk();
    desk.looks += 1;
    let payments = desk.books.iter().filter(|reference| **reference == query["reference"]).count();
    HttpResponse::Ok().json(json!({"payments": payments, "lost": desk.has_lost_objects}))
}
