//! The gateway's events on their way to the API: each arrives once, twice, late, or never, at either replica.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse, rt};
use serde_json::Value;
use tokio::time::sleep;

use crate::dice::Seed;
use crate::history::History;
use crate::world::Counters;

pub const PATH: &str = "/webhooks/stripe";

/// A count that must stay at zero, since the events are signed.
pub const REFUSED: &str = "events that a replica refused";

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

/// How long a replica may take. Stripe too waits for some ten seconds.
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

    fn note(&self, began: Instant, what: &'static str, of: Option<&str>) {
        self.counters.count(what);
        self.history.fault(began, what, of);
    }
}

/// The sandbox gets its answer at once: the rest is up to this program.
pub async fn take(events: Data<Events>, request: HttpRequest, body: Bytes) -> HttpResponse {
    let mut dice = events.seed.dice(&format!("event {}", events.came.fetch_add(1, Ordering::Relaxed)));
    let signature = request.headers().get(SIGNATURE).and_then(|one| one.to_str().ok()).unwrap_or_default();
    let event: Value = serde_json::from_slice(&body).unwrap_or_default();
    let reference = event["data"]["object"]["metadata"]["reference"].as_str().map(str::to_owned);
    let deliveries = if dice.chance(20) { 2 } else { 1 };
    for _ in 0..deliveries {
        let (delivery, late) = (dice.pick(&DELIVERIES), Duration::from_secs(dice.number(LATE.0, LATE.1)));
        let url = format!("http://{}{PATH}", events.apis[usize::from(dice.chance(50))]);
        let event = events.http.post(url).header(SIGNATURE, signature).header("Content-Type", "application/json");
        let event = event.body(body.clone()).timeout(ANSWER_WITHIN);
        let (events, reference, began) = (events.clone(), reference.clone(), Instant::now());
        rt::spawn(async move {
            match delivery {
                Delivery::Lost => return events.note(began, "events lost by the proxy", reference.as_deref()),
                Delivery::Late => sleep(late).await,
                Delivery::Arrives => {}
            }
            match event.send().await.map(|answer| answer.status().as_u16()) {
                Ok(200) => events.counters.count("events delivered"),
                // The replica or its database is down by a fault. A suspended replica answers 408 when it wakes.
                Ok(408 | 500..) | Err(_) => {}
                Ok(_) => events.counters.count(REFUSED),
            }
            if delivery == Delivery::Late {
                events.note(began, "events delivered late by the proxy", reference.as_deref());
            }
        });
    }
    HttpResponse::Ok().finish()
}
