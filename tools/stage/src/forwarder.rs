//! The wire between the replicas of a run and the gateway: it passes each call on, drops the one that the visitor crossed out, and
//! asks the gateway's own books what a call has done.
//!
//! It listens on 127.0.0.1 and accepts only the run's key. Only the forwarder knows the gateway's key.

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
use reqwest::Url;
use serde_json::json;

use crate::books::{Books, Line, whole};
use crate::settings::Drop as Cross;
use crate::statement::shown_reference;
use crate::truth::Purchases;

/// How often the books are read while a call has no answer yet: the money may already have moved.
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
        // The command is sent at once. Nobody waits until it has ended.
        drop(self.server.stop(false));
    }
}

/// What the handlers of a run share.
struct Wire {
    purchases: Arc<Purchases>,
    /// The key that the replicas send.
    key: String,
    cross: Option<Cross>,
    calls: AtomicU32,
    crossed: AtomicBool,
    seen: Mutex<HashSet<String>>,
}

/// Opens the wire.
pub fn open(purchases: Arc<Purchases>, key: String, cross: Option<Cross>) -> std::io::Result<Forwarder> {
    let (calls, crossed, seen) = (AtomicU32::new(1), AtomicBool::new(false), Mutex::default());
    let wire = Data::new(Wire { purchases, key, cross, calls, crossed, seen });
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let server =
        HttpServer::new(move || App::new().app_data(wire.clone()).route("/{replica}/{path:.*}", web::to(forward)))
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

impl Wire {
    /// Whether this is the call or the answer that the visitor crossed out: the first of its kind.
    fn crosses(&self, cross: Cross) -> bool {
        self.cross == Some(cross) && !self.crossed.swap(true, Ordering::Relaxed)
    }

    /// Reports what the books have about a call. Returns whether there is a new line.
    async fn look(&self, call: u32, reference: &str, is_over: bool) -> bool {
        let lines = match self.purchases.lines().await {
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
            self.purchases.timeline.tell(
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

/// Reports a call without an answer as lost when its handler is dropped.
struct Unanswered {
    wire: Data<Wire>,
    call: u32,
    answered: bool,
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if !self.answered {
            self.wire.purchases.timeline.tell("gateway", json!({"call": self.call, "kind": "lost"}));
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
    wire.purchases.timeline.tell("call", json!({"replica": replica, "call": call, "kind": kind, "reference": shown}));
    if is_charge && wire.crosses(Cross::Call) {
        wire.purchases.timeline.tell("dropped", json!({"of": "call", "call": call}));
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
        wire.purchases.timeline.tell("gateway", json!({"call": call, "kind": "look"}));
        answer
    };
    let Ok(answer) = answer else { return hang_up() };
    unanswered.answered = true;
    if is_charge && wire.crosses(Cross::Answer) {
        wire.purchases.timeline.tell("dropped", json!({"of": "answer", "call": call}));
        return hang_up();
    }
    let status = answer.status().as_u16();
    wire.purchases.timeline.tell("reply_of_call", json!({"replica": replica, "call": call, "status": status}));
    answer
}

/// Passes a call on, and reads the books until they have its line, even before the answer comes.
async fn with_looks(
    wire: &Wire,
    call: u32,
    reference: &str,
    outgoing: reqwest::RequestBuilder,
) -> Result<HttpResponse, ()> {
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

async fn answer_of(outgoing: reqwest::RequestBuilder) -> Result<HttpResponse, ()> {
    let response = outgoing.timeout(ANSWER_WITHIN).send().await.map_err(drop)?;
    let mut answer = HttpResponse::build(StatusCode::from_u16(response.status().as_u16()).map_err(drop)?);
    for name in PASSED {
        if let Some(value) = response.headers().get(name) {
            answer.insert_header((name, value.as_bytes()));
        }
    }
    Ok(answer.body(whole(response).await.map_err(drop)?))
}

/// The same call with the gateway's key.
fn outgoing(request: &HttpRequest, body: Bytes, path: &str, wire: &Wire) -> Option<reqwest::RequestBuilder> {
    let Books { client, gateway, key, .. } = &wire.purchases.books;
    // Not `join`, for which a path may name another host.
    let mut url = Url::parse(&format!("{gateway}{path}")).ok()?;
    url.set_query(Some(request.query_string()).filter(|query| !query.is_empty()));
    let method = reqwest::Method::from_bytes(request.method().as_str().as_bytes()).ok()?;
    let mut outgoing = client.request(method, url).header("Authorization", key.clone()).body(body);
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
