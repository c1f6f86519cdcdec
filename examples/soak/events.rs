//! The gateway's events on their way to the API: each arrives once, twice, late, or never, at either replica.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse, rt};
use tokio::time::sleep;

use crate::dice::Seed;
use crate::history::History;
use crate::world::Counters;

pub const PATH: &str = "/webhooks/stripe";

/// Signs the events.
pub const SECRET: &str = "whsec_soak";

const SIGNATURE: &str = "Stripe-Signature";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Delivery {
    Arrives,
    Late,
    Lost,
}

const DELIVERIES: [(Delivery, u32); 3] = [(Delivery::Arrives, 65), (Delivery::Late, 20), (Delivery::Lost, 15)];

/// How late an event comes, in seconds: past the end of a lease (15 s) in half of the cases.
const LATE: (u64, u64) = (1, 30);

/// How long a replica may take. Stripe waits for some ten seconds, too.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

pub struct Events {
    apis: [SocketAddr; 2],
    http: reqwest::Client,
    seed: Seed,
    came: AtomicU64,
    history: Arc<History>,
    counters: Counters,
}

impl Events {
    pub fn new(apis: [SocketAddr; 2], seed: Seed, (history, counters): (Arc<History>, Counters)) -> Self {
        Self { apis, http: reqwest::Client::new(), seed, came: AtomicU64::new(0), history, counters }
    }

    fn note(&self, began: Instant, what: &'static str) {
        self.counters.count(what);
        self.history.fault(began, what, None);
    }
}

/// The sandbox hears at once that the event has come: the rest is this program's.
pub async fn take(events: Data<Events>, request: HttpRequest, body: Bytes) -> HttpResponse {
    let mut dice = events.seed.dice(&format!("event {}", events.came.fetch_add(1, Ordering::Relaxed)));
    let signature = request.headers().get(SIGNATURE).and_then(|one| one.to_str().ok()).unwrap_or_default();
    let deliveries = if dice.chance(20) { 2 } else { 1 };
    for _ in 0..deliveries {
        let (delivery, late) = (dice.pick(&DELIVERIES), Duration::from_secs(dice.number(LATE.0, LATE.1)));
        let url = format!("http://{}{PATH}", events.apis[usize::from(dice.chance(50))]);
        let event = events.http.post(url).header(SIGNATURE, signature).body(body.clone()).timeout(ANSWER_WITHIN);
        let (events, began) = (events.clone(), Instant::now());
        rt::spawn(async move {
            match delivery {
                Delivery::Lost => return events.note(began, "events lost by the proxy"),
                Delivery::Late => sleep(late).await,
                Delivery::Arrives => {}
            }
            // If no answer comes, the replica is down, as a fault wants it.
            if event.send().await.is_ok_and(|answer| answer.status().is_success()) {
                events.counters.count("events delivered");
            }
            if delivery == Delivery::Late {
                events.note(began, "events delivered late by the proxy");
            }
        });
    }
    HttpResponse::Ok().finish()
}
