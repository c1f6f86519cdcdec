//! A proxy between the API and the gateway. It loses answers, delays sendings and answers, and refuses, as networks and firewalls
//! do.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix_web::web::{self, Bytes, Data};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, rt};
use reqwest::Method;
use test_database::Proxy;
use tokio::time::sleep;

use crate::dice::Seed;
use crate::history::History;
use crate::world::{Counters, locked};

/// What the proxy does with a sending.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Does {
    Forwards,
    /// The gateway acts, and nobody hears of it.
    LosesAnswer,
    /// The gateway acts, and the answer comes late.
    DelaysAnswer,
    /// The gateway acts later, when the caller has long hung up. A repeat that comes before is refused.
    Holds,
    /// 400, and nothing reaches the gateway.
    Refuses,
    /// 502, while the sending goes on.
    Fails,
    /// Refuses with 400. When the replica has read the books, and is about to record, its database is silent for a lease and some
    /// seconds. Then all that it sent arrives. The answer to the next holder's sending is lost: by then it does not know that
    /// the money moved.
    RefusesAndHolds,
}

const DOES: [(Does, u32); 7] = [
    (Does::Forwards, 79),
    (Does::LosesAnswer, 4),
    (Does::DelaysAnswer, 4),
    (Does::Holds, 5),
    (Does::Refuses, 2),
    (Does::Fails, 3),
    (Does::RefusesAndHolds, 3),
];

/// The time between two such holds, so that the replicas mostly reach their database.
const HOLDS_EVERY: Duration = Duration::from_secs(24);

/// A lease (15 s), a look (1 s), and a part of the 4 s in which the next holder waits for its answer.
const ABOUT_TO_RECORD: Duration = Duration::from_millis(17_500);

/// How long a sending is held: past the end of a call (4 s) and often of a lease (15 s). The crate expects up to 60 s.
const HELD_SECONDS: (u64, u64) = (6, 30);

/// The longest time that the proxy keeps a caller: the API hangs up after 4 s.
const LOST_AFTER: Duration = Duration::from_secs(10);

pub struct GatewayProxy {
    gateway: String,
    http: reqwest::Client,
    seed: Seed,
    calls: AtomicU64,
    /// The references of the sendings that are held.
    held: Mutex<HashSet<String>>,
    breaks: AtomicBool,
    /// The references whose next answer is lost.
    lost_next: Mutex<HashSet<String>>,
    /// The replicas whose database is held when they have read the books.
    about_to_record: [AtomicBool; 2],
    held_at: Mutex<Option<Instant>>,
    /// The proxy between each replica and its database.
    databases: Vec<Arc<Proxy>>,
    history: Arc<History>,
    counters: Counters,
}

impl GatewayProxy {
    /// Starts the proxy in front of the gateway at an address. Returns an address for each replica.
    pub fn start(
        gateway: SocketAddr,
        seed: Seed,
        (history, counters): (Arc<History>, Counters),
        databases: Vec<Arc<Proxy>>,
    ) -> std::io::Result<(Arc<Self>, [SocketAddr; 2])> {
        let proxy = Arc::new(Self {
            gateway: format!("http://{gateway}"),
            http: reqwest::Client::new(),
            seed,
            calls: AtomicU64::new(0),
            held: Mutex::default(),
            breaks: AtomicBool::new(true),
            lost_next: Mutex::default(),
            about_to_record: [AtomicBool::new(false), AtomicBool::new(false)],
            held_at: Mutex::default(),
            databases,
            history,
            counters,
        });
        let addresses = [proxy.listen(0)?, proxy.listen(1)?];
        Ok((proxy, addresses))
    }

    fn listen(self: &Arc<Self>, replica: usize) -> std::io::Result<SocketAddr> {
        let (shared, replica) = (Data::from(Arc::clone(self)), Data::new(Replica(replica)));
        let server = HttpServer::new(move || {
            App::new().app_data(shared.clone()).app_data(replica.clone()).default_service(web::to(pass))
        });
        let server = server.workers(1).disable_signals().bind("127.0.0.1:0")?;
        let address = server.addrs()[0];
        tokio::spawn(server.run());
        Ok(address)
    }

    /// From now on forwards everything.
    pub fn be_sound(&self) {
        self.breaks.store(false, Ordering::Relaxed);
    }

    pub fn breaks(&self) -> bool {
        self.breaks.load(Ordering::Relaxed)
    }

    fn decide(&self, method: &Method, reference: &str) -> (Does, Duration) {
        if *method != Method::POST || !self.breaks() {
            return (Does::Forwards, Duration::ZERO);
        }
        if locked(&self.held).contains(reference) {
            return (Does::Refuses, Duration::ZERO);
        }
        if locked(&self.lost_next).remove(reference) {
            return (Does::LosesAnswer, Duration::ZERO);
        }
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let mut dice = self.seed.dice(&format!("gateway {call}"));
        let does = match dice.pick(&DOES) {
            Does::RefusesAndHolds if !self.may_hold() => Does::Forwards,
            does => does,
        };
        (does, Duration::from_secs(dice.number(HELD_SECONDS.0, HELD_SECONDS.1)))
    }

    fn may_hold(&self) -> bool {
        let mut held_at = locked(&self.held_at);
        let may = !self.databases.is_empty() && held_at.is_none_or(|at| at.elapsed() > HOLDS_EVERY);
        if may {
            *held_at = Some(Instant::now());
        }
        may
    }

    fn note(&self, began: Instant, what: &'static str, reference: &str) {
        self.counters.count(what);
        self.history.fault(began, what, Some(reference).filter(|reference| !reference.is_empty()));
    }

    async fn forward(&self, method: Method, request: &HttpRequest, body: Bytes) -> HttpResponse {
        let url = format!("{}{}", self.gateway, request.uri());
        let mut forwarded = self.http.request(method, url).body(body);
        for (name, value) in request.headers() {
            if !["host", "content-length", "connection", "accept-encoding"].contains(&name.as_str()) {
                forwarded = forwarded.header(name.as_str(), value.as_bytes());
            }
        }
        let Ok(answer) = forwarded.send().await else { return HttpResponse::BadGateway().finish() };
        let status = actix_web::http::StatusCode::from_u16(answer.status().as_u16());
        let mut response = HttpResponse::build(status.unwrap_or(actix_web::http::StatusCode::BAD_GATEWAY));
        for (name, value) in answer.headers() {
            if !["content-length", "transfer-encoding", "connection"].contains(&name.as_str()) {
                response.append_header((name.as_str(), value.as_bytes()));
            }
        }
        match answer.bytes().await {
            Ok(body) => response.body(body),
            Err(_) => HttpResponse::BadGateway().finish(),
        }
    }
}

/// The replica whose proxy was called.
struct Replica(usize);

async fn pass(proxy: Data<GatewayProxy>, replica: Data<Replica>, request: HttpRequest, body: Bytes) -> HttpResponse {
    let began = Instant::now();
    let method = Method::from_bytes(request.method().as_str().as_bytes()).unwrap_or(Method::GET);
    let reference = request.headers().get("Idempotency-Key").and_then(|key| key.to_str().ok()).unwrap_or_default();
    let reference = reference.to_owned();
    let (does, holds) = proxy.decide(&method, &reference);
    match does {
        Does::Forwards => {
            let is_look = method == Method::GET;
            let answer = proxy.forward(method, &request, body).await;
            if is_look && proxy.about_to_record[replica.0].swap(false, Ordering::Relaxed) {
                proxy.databases[replica.0].pause();
                rt::spawn(async move {
                    sleep(ABOUT_TO_RECORD).await;
                    proxy.databases[replica.0].resume();
                    proxy.note(began, "database held as a refusal was about to be recorded", "");
                });
            }
            answer
        }
        Does::LosesAnswer => {
            proxy.forward(method, &request, body).await;
            proxy.note(began, "gateway answers lost by the proxy", &reference);
            sleep(LOST_AFTER).await;
            HttpResponse::GatewayTimeout().finish()
        }
        Does::DelaysAnswer => {
            let answer = proxy.forward(method, &request, body).await;
            sleep(Duration::from_secs(3)).await;
            proxy.note(began, "gateway answers delayed by the proxy", &reference);
            answer
        }
        Does::Refuses | Does::RefusesAndHolds => {
            if does == Does::RefusesAndHolds {
                locked(&proxy.lost_next).insert(reference.clone());
                proxy.about_to_record[replica.0].store(true, Ordering::Relaxed);
            }
            proxy.note(began, "gateway calls refused by the proxy", &reference);
            let error =
                serde_json::json!({"error": {"type": "invalid_request_error", "message": "refused by the proxy"}});
            HttpResponse::BadRequest().json(error)
        }
        // A separate task: the server drops the handler when the caller hangs up, and the sending must go on.
        Does::Holds | Does::Fails => {
            locked(&proxy.held).insert(reference.clone());
            let fails = does == Does::Fails;
            rt::spawn(async move {
                sleep(holds).await;
                proxy.forward(method, &request, body).await;
                locked(&proxy.held).remove(&reference);
                let what =
                    if fails { "gateway calls answered 502, and held" } else { "gateway calls held by the proxy" };
                proxy.note(began, what, &reference);
            });
            if fails {
                return HttpResponse::BadGateway().finish();
            }
            sleep(LOST_AFTER).await;
            HttpResponse::GatewayTimeout().finish()
        }
    }
}
