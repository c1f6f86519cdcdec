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
use tokio::time::sleep;

use crate::aim::{Aim, Aimed};
use crate::dice::Seed;
use crate::events::{self, Events};
use crate::history::History;
use crate::world::{Counters, locked};

/// What the proxy does with a sending.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Does {
    Forwards,
    /// The gateway acts, but its answer is lost.
    LosesAnswer,
    /// The gateway acts, but its answer comes late.
    DelaysAnswer,
    /// The gateway acts later, when the caller has long hung up. A repeat that arrives earlier is refused.
    Holds,
    /// A 400, and nothing reaches the gateway.
    Refuses,
    /// A 502, while the sending goes on.
    Fails,
}

const DOES: [(Does, u32); 6] = [
    (Does::Forwards, 82),
    (Does::LosesAnswer, 4),
    (Does::DelaysAnswer, 4),
    (Does::Holds, 5),
    (Does::Refuses, 2),
    (Does::Fails, 3),
];

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
    pub aim: Aim,
    history: Arc<History>,
    counters: Counters,
}

impl GatewayProxy {
    /// Starts the proxy in front of the gateway at an address. Returns an address for each replica. The gateway sends its events
    /// to either one.
    pub fn start(
        gateway: SocketAddr,
        seed: Seed,
        (history, counters): (Arc<History>, Counters),
        events: Events,
    ) -> std::io::Result<(Arc<Self>, [SocketAddr; 2])> {
        let proxy = Arc::new(Self {
            gateway: format!("http://{gateway}"),
            http: reqwest::Client::new(),
            seed,
            calls: AtomicU64::new(0),
            held: Mutex::default(),
            breaks: AtomicBool::new(true),
            aim: Aim::new(),
            history,
            counters,
        });
        let events = Data::new(events);
        let addresses = [proxy.listen(0, &events)?, proxy.listen(1, &events)?];
        Ok((proxy, addresses))
    }

    fn listen(self: &Arc<Self>, replica: usize, events: &Data<Events>) -> std::io::Result<SocketAddr> {
        let (shared, replica, events) = (Data::from(Arc::clone(self)), Data::new(Replica(replica)), events.clone());
        let server = HttpServer::new(move || {
            let app = App::new().app_data(shared.clone()).app_data(replica.clone()).app_data(events.clone());
            app.route(events::PATH, web::post().to(events::take)).default_service(web::to(pass))
        });
        let server = server.workers(1).disable_signals().bind("127.0.0.1:0")?;
        let address = server.addrs()[0];
        tokio::spawn(server.run());
        Ok(address)
    }

    /// From now on, forwards everything.
    pub fn be_sound(&self) {
        self.breaks.store(false, Ordering::Relaxed);
    }

    fn decide(&self, method: &Method, replica: usize, reference: &str) -> (Does, Duration) {
        if *method != Method::POST || !self.breaks.load(Ordering::Relaxed) {
            return (Does::Forwards, Duration::ZERO);
        }
        match self.aim.decides(replica, reference) {
            Some(Aimed::Refuses) => return (Does::Refuses, Duration::ZERO),
            Some(Aimed::LosesAnswer) => return (Does::LosesAnswer, Duration::ZERO),
            None => {}
        }
        if locked(&self.held).contains(reference) {
            return (Does::Refuses, Duration::ZERO);
        }
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let mut dice = self.seed.dice(&format!("gateway {call}"));
        (dice.pick(&DOES), Duration::from_secs(dice.number(HELD_SECONDS.0, HELD_SECONDS.1)))
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
    let (does, holds) = proxy.decide(&method, replica.0, &reference);
    match does {
        Does::Forwards => {
            let is_look = method == Method::GET;
            let answer = proxy.forward(method, &request, body).await;
            if is_look {
                proxy.aim.look_may_go_on(replica.0).await;
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
        Does::Refuses => {
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
