//! The wire between the replicas of a run and the gateway: it passes each call on, drops the one that the visitor crossed out, and
//! asks the gateway's own books what a call has done.
//!
//! It listens on 127.0.0.1 and takes only the run's key. The gateway's key is known here alone.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::body::BodyStream;
use actix_web::dev::ServerHandle;
use actix_web::http::{Method, StatusCode};
use actix_web::web::{self, Bytes, Data};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, rt};
use futures_util::stream;
use serde_json::json;

use super::books::{Books, Line};
use super::settings::Drop as Cross;
use super::statement::shown_reference;
use super::timeline::Timeline;
use super::truth::Purchases;

/// How often the books are asked while a call has no answer yet: the money may have moved already.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long the gateway may take. A replica gives up earlier, and a sandbox that loses its answer hangs up after 30 s.
const ANSWER_WITHIN: Duration = Duration::from_secs(35);

/// The headers of a call that the gateway needs, and those of its answer that the client reads.
const PASSED: [&str; 9] = [
    "content-type",
    "idempotency-key",
    "stripe-version",
    "request-id",
    "retry-after",
    "stripe-should-retry",
    "idempotent-replayed",
    "accept",
    "user-agent",
];

/// A wire that is open until it is dropped.
pub struct Forwarder {
    pub address: SocketAddr,
    server: ServerHandle,
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        // The command is sent at once. Nobody waits for its end.
        drop(self.server.stop(false));
    }
}

/// What the handlers of a run share.
pub struct Wire {
    pub books: Books,
    pub purchases: Purchases,
    pub timeline: Timeline,
    /// The key that the replicas send.
    pub key: String,
    pub cross: Option<Cross>,
    calls: AtomicU32,
    crossed: AtomicBool,
    seen: Mutex<HashSet<String>>,
}

impl Wire {
    pub fn new(books: Books, purchases: Purchases, timeline: Timeline, key: String, cross: Option<Cross>) -> Self {
        let (calls, crossed, seen) = (AtomicU32::new(1), AtomicBool::new(false), Mutex::default());
        Self { books, purchases, timeline, key, cross, calls, crossed, seen }
    }

    /// Opens the wire.
    pub fn open(self) -> std::io::Result<Forwarder> {
        let wire = Arc::new(self);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let server = HttpServer::new(move || {
            App::new().app_data(Data::from(Arc::clone(&wire))).route("/{replica}/{path:.*}", web::to(forward))
        })
        .workers(1)
        // If a replica dies, its call ends here too, as it does at the gateway.
        .h1_allow_half_closed(false)
        .shutdown_timeout(0)
        .disable_signals()
        .listen(listener)?
        .run();
        let handle = server.handle();
        rt::spawn(server);
        Ok(Forwarder { address, server: handle })
    }

    /// Whether this is the call or the answer that the visitor crossed out: the first one.
    fn crosses(&self, cross: Cross) -> bool {
        self.cross == Some(cross) && !self.crossed.swap(true, Ordering::Relaxed)
    }

    /// Tells what the books have about a call. True: there is a new line.
    async fn look(&self, call: u32, reference: &str, is_over: bool) -> bool {
        let lines = match self.purchases.lines(&self.books, self.timeline.began).await {
            Ok(lines) => lines,
            Err(cause) => {
                log::warn!("the stage can't read the gateway's books: {cause}");
                return false;
            }
        };
        let of_call: Vec<_> = lines.iter().filter(|line| line.reference == reference).collect();
        let is_new = |line: &&&Line| self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(line.id.clone());
        let new: Vec<_> = of_call.iter().filter(is_new).collect();
        let tell = |kind: &str, line: Option<&Line>| {
            let (amount, currency, id) = (line.map(|l| l.amount), line.map(|l| &l.currency), line.map(|l| &l.id));
            self.timeline.tell(
                "gateway",
                json!({"call": call, "kind": kind, "amount": amount, "currency": currency, "payment_intent": id}),
            );
            self.purchases.changed.notify_one();
        };
        for line in &new {
            tell(if line.is_capture { "capture" } else { "decline" }, Some(line));
        }
        if is_over && new.is_empty() {
            tell("repeat", of_call.first().copied());
        }
        !new.is_empty()
    }
}

/// A call without an answer is told as lost when its handler is dropped.
struct Unanswered {
    wire: Data<Wire>,
    call: u32,
    answered: bool,
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if !self.answered {
            self.wire.timeline.tell("gateway", json!({"call": self.call, "kind": "lost"}));
            self.wire.purchases.changed.notify_one();
        }
    }
}

async fn forward(
    request: HttpRequest,
    body: Bytes,
    parts: web::Path<(String, String)>,
    wire: Data<Wire>,
) -> HttpResponse {
    let (replica, path) = parts.into_inner();
    let sent = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    if sent != Some(&format!("Bearer {}", wire.key)) {
        return HttpResponse::Unauthorized().finish();
    }
    let is_charge = request.method() == Method::POST;
    let reference = if is_charge { reference_of(&body) } else { None };
    let call = wire.calls.fetch_add(1, Ordering::Relaxed);
    let shown = reference.as_deref().map(shown_reference);
    let kind = if is_charge { "charge" } else { "look_up" };
    wire.timeline.tell("call", json!({"replica": replica, "call": call, "kind": kind, "reference": shown}));
    if is_charge && wire.crosses(Cross::Call) {
        wire.timeline.tell("dropped", json!({"of": "call", "call": call}));
        return hang_up();
    }
    let mut unanswered = Unanswered { wire: wire.clone(), call, answered: false };
    if let Some(reference) = &reference {
        wire.purchases.saw(reference);
    }
    let Some(outgoing) = outgoing(&request, body, &path, &wire) else { return HttpResponse::BadGateway().finish() };
    let answer = if let Some(reference) = &reference {
        with_looks(&wire, call, reference, outgoing).await
    } else {
        let answer = answer_of(outgoing).await;
        wire.timeline.tell("gateway", json!({"call": call, "kind": "look"}));
        answer
    };
    let Ok((status, headers, body)) = answer else { return hang_up() };
    unanswered.answered = true;
    if is_charge && wire.crosses(Cross::Answer) {
        wire.timeline.tell("dropped", json!({"of": "answer", "call": call}));
        return hang_up();
    }
    wire.timeline.tell("reply_of_call", json!({"replica": replica, "call": call, "status": status.as_u16()}));
    let mut response = HttpResponse::build(status);
    for (name, value) in headers {
        response.insert_header((name, value));
    }
    response.body(body)
}

type Answer = (StatusCode, Vec<(&'static str, Vec<u8>)>, Bytes);

/// Passes a call on, and looks into the books until they have its line, also before the answer comes.
async fn with_looks(wire: &Wire, call: u32, reference: &str, outgoing: reqwest::RequestBuilder) -> Result<Answer, ()> {
    let mut answer = std::pin::pin!(answer_of(outgoing));
    let mut found = false;
    loop {
        tokio::select! {
            answer = &mut answer => {
                if !found {
                    wire.look(call, reference, answer.is_ok()).await;
                }
                return answer;
            }
            () = tokio::time::sleep(LOOK_EVERY), if !found => found = wire.look(call, reference, false).await,
        }
    }
}

async fn answer_of(outgoing: reqwest::RequestBuilder) -> Result<Answer, ()> {
    let response = outgoing.timeout(ANSWER_WITHIN).send().await.map_err(drop)?;
    let status = StatusCode::from_u16(response.status().as_u16()).map_err(drop)?;
    let header = |name: &'static str| Some((name, response.headers().get(name)?.as_bytes().to_vec()));
    let headers = PASSED.into_iter().filter_map(header).collect();
    Ok((status, headers, response.bytes().await.map_err(drop)?))
}

/// The same call with the gateway's key.
fn outgoing(request: &HttpRequest, body: Bytes, path: &str, wire: &Wire) -> Option<reqwest::RequestBuilder> {
    let mut url = wire.books.gateway.join(path).ok()?;
    url.set_query(Some(request.query_string()).filter(|query| !query.is_empty()));
    let method = reqwest::Method::from_bytes(request.method().as_str().as_bytes()).ok()?;
    let mut outgoing =
        wire.books.client.request(method, url).header("Authorization", wire.books.key.bearer()).body(body);
    for name in PASSED {
        if let Some(value) = request.headers().get(name) {
            outgoing = outgoing.header(name, value.as_bytes());
        }
    }
    Some(outgoing)
}

fn reference_of(form: &[u8]) -> Option<String> {
    let fields: Vec<(String, String)> = serde_urlencoded::from_bytes(form).ok()?;
    fields.into_iter().find_map(|(name, value)| (name == "metadata[reference]").then_some(value))
}

/// Closes the connection without a byte: the body fails before its head is sent.
fn hang_up() -> HttpResponse {
    let gone = stream::iter([Err::<Bytes, _>(std::io::Error::other("the visitor crossed this out"))]);
    HttpResponse::Ok().body(BodyStream::new(gone))
}
