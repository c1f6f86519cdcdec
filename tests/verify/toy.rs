//! A small keyed service in memory: right in all that `payments verify` checks, or wrong in one point.

use std::any::Any;
use std::collections::HashMap;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::dev::{Extensions, ServerHandle};
use actix_web::http::StatusCode;
use actix_web::web::{Bytes, Data, Query};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde_json::{Value, json};
use uuid::Uuid;

/// One defect, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    None,
    KeyNotRequired,
    EmptyKeyTaken,
    ShortKeysOnly,
    LongKeysTaken,
    FirstOfTwoKeysTaken,
    AnyBytesTaken,
    QuotedRefused,
    BareRefused,
    QuotedIsAnotherKey,
    ReplayIs200,
    ReplyRebuilt,
    LocationLost,
    KeyIgnored,
    MarkerMissing,
    MarkerAlways,
    ExpiryMissing,
    ReplyCacheable,
    MemberOrderCompared,
    WhiteSpaceCompared,
    BodyNotCompared,
    ReuseForgetsTheFirst,
    PathNotCompared,
    MethodNotCompared,
    NoLock,
    DuplicatesAnswerThemselves,
    LosersFail,
    ConflictWithoutRetryAfter,
    LockPerProcess,
    WorkCanceledHalfway,
    KeyStuckWithoutClient,
    FailureReplayedAs422,
    FailureMarkedButFree,
    FailureMadeAgainButKept,
    FailureStored,
    FailureLeavesEffect,
    ServerErrorStored,
    ServerErrorLeavesEffect,
    KeySharedBetweenAccounts,
    ProblemWithoutPage,
    ProblemIsPlainJson,
    ProblemWithoutAdvice,
}

/// How long the work takes: long enough that duplicates meet, and that a client that leaves after 5 ms leaves in its middle.
const WORK: Duration = Duration::from_millis(12);

#[derive(Clone)]
struct Reply {
    status: u16,
    location: Option<String>,
    body: String,
    expires: bool,
}

#[derive(Clone)]
struct Record {
    fingerprint: String,
    reply: Reply,
}

/// One key's record. The lock is held while its request is worked on.
type Slot = Arc<tokio::sync::Mutex<Option<Record>>>;

/// The books, which two replicas share.
#[derive(Default)]
pub struct Books {
    effects: Mutex<Vec<(String, String)>>,
    slots: Mutex<HashMap<(String, String), Slot>>,
}

struct State {
    defect: Defect,
    stores_failures: bool,
    books: Arc<Books>,
    /// The slots of this process alone, where the defect is that.
    own: Books,
}

/// A running toy.
pub struct Toy {
    pub base: String,
    server: ServerHandle,
}

impl Toy {
    pub fn start(defect: Defect) -> Self {
        Self::replica(defect, false, Arc::default())
    }

    pub fn replica(defect: Defect, stores_failures: bool, books: Arc<Books>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let state = Data::new(State { defect, stores_failures, books, own: Books::default() });
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let app = move || {
                    App::new()
                        .app_data(state.clone())
                        .route("/things", web::get().to(list))
                        .route("/things", web::post().to(make))
                        .route("/things", web::patch().to(make))
                        .route("/others", web::post().to(make))
                };
                let server = HttpServer::new(app).workers(1).on_connect(keep_socket).listen(listener).unwrap().run();
                sender.send(server.handle()).unwrap();
                server.await.unwrap();
            });
        });
        Self { base, server: receiver.recv().unwrap() }
    }
}

impl Drop for Toy {
    fn drop(&mut self) {
        drop(self.server.stop(false));
    }
}

fn problem(state: &State, status: u16, retry: &str, detail: &str) -> Reply {
    let mut body =
        json!({"type": "/problems/toy", "title": "Refused", "status": status, "detail": detail, "retry": retry});
    match state.defect {
        Defect::ProblemWithoutPage => body["type"] = json!("about:blank"),
        Defect::ProblemWithoutAdvice => body["retry"] = Value::Null,
        _ => {}
    }
    Reply { status, location: None, body: body.to_string(), expires: false }
}

async fn list(state: Data<State>, request: HttpRequest, query: Query<HashMap<String, String>>) -> HttpResponse {
    let effects = state.books.effects.lock().unwrap_or_else(PoisonError::into_inner);
    let mine = |(account, customer): &&(String, String)| {
        *account == account_of(&request) && query.get("customer").is_none_or(|wanted| wanted == customer)
    };
    let data: Vec<_> = effects.iter().filter(mine).map(|(_, customer)| json!({"customer": customer})).collect();
    HttpResponse::Ok().json(json!({"data": data, "has_more": false}))
}

fn account_of(request: &HttpRequest) -> String {
    request.headers().get("Authorization").map_or("nobody", |value| value.to_str().unwrap()).to_owned()
}

async fn make(state: Data<State>, request: HttpRequest, body: Bytes) -> HttpResponse {
    let work = Work {
        account: account_of(&request),
        place: format!("{} {}", request.method(), request.path()),
        key: key_of(&state, &request),
        fails: request.headers().contains_key("X-Fail"),
        body: String::from_utf8(body.to_vec()).unwrap(),
        state,
    };
    let state = work.state.clone();
    let (reply, replayed) = match state.defect {
        Defect::WorkCanceledHalfway | Defect::KeyStuckWithoutClient => tokio::select! {
            done = work.run() => done,
            () = gone(&request) => return HttpResponse::InternalServerError().finish(),
        },
        _ => actix_web::rt::spawn(work.run()).await.unwrap(),
    };
    answer(&state, &reply, replayed)
}

fn keep_socket(connection: &dyn Any, data: &mut Extensions) {
    let stream = connection.downcast_ref::<actix_web::rt::net::TcpStream>().unwrap();
    let socket = std::os::fd::AsFd::as_fd(stream).try_clone_to_owned().unwrap();
    data.insert(Arc::new(TcpStream::from(socket)));
}

/// Waits until the client has closed or reset its connection. Many servers cancel a request's work then.
async fn gone(request: &HttpRequest) {
    let socket = Arc::clone(request.conn_data::<Arc<TcpStream>>().unwrap());
    loop {
        match socket.peek(&mut [0]) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn answer(state: &State, reply: &Reply, replayed: bool) -> HttpResponse {
    let mut response = HttpResponse::build(StatusCode::from_u16(reply.status).unwrap());
    let is_problem = reply.status >= 400 && state.defect != Defect::ProblemIsPlainJson;
    response.content_type(if is_problem { "application/problem+json" } else { "application/json" });
    if let Some(location) = &reply.location {
        response.insert_header(("Location", location.as_str()));
    }
    if (replayed && state.defect != Defect::MarkerMissing) || state.defect == Defect::MarkerAlways {
        response.insert_header(("Idempotency-Replayed", "true"));
    }
    if reply.expires && state.defect != Defect::ExpiryMissing {
        response.insert_header(("Idempotency-Expires", "Thu, 01 Jan 2099 00:00:00 GMT"));
    }
    if reply.status == 409 && state.defect != Defect::ConflictWithoutRetryAfter {
        response.insert_header(("Retry-After", "0"));
    }
    if state.defect == Defect::ReplyCacheable {
        response.insert_header(("Cache-Control", "public, max-age=60"));
    }
    response.body(reply.body.clone())
}

/// The key, none where the request goes without, or why it is refused.
fn key_of(state: &State, request: &HttpRequest) -> Result<Option<String>, &'static str> {
    let values: Vec<_> = request.headers().get_all("Idempotency-Key").collect();
    let value = match values.as_slice() {
        [] if state.defect == Defect::KeyNotRequired => return Ok(None),
        [] => return Err("the key is missing"),
        [_, _, ..] if state.defect != Defect::FirstOfTwoKeysTaken => return Err("two keys"),
        [value, ..] => value,
    };
    let text = match value.to_str() {
        Ok(text) => text.to_owned(),
        Err(_) if state.defect == Defect::AnyBytesTaken => String::from_utf8_lossy(value.as_bytes()).into_owned(),
        Err(_) => return Err("not ASCII"),
    };
    let quoted = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match (quoted, state.defect) {
        (Some(_), Defect::QuotedRefused) => return Err("no quotes, please"),
        (None, Defect::BareRefused) => return Err("quotes, please"),
        _ => {}
    }
    let key = match quoted {
        Some(key) if state.defect != Defect::QuotedIsAnotherKey => key.to_owned(),
        _ => text,
    };
    match key.len() {
        0 if state.defect != Defect::EmptyKeyTaken => Err("empty"),
        200.. if state.defect == Defect::ShortKeysOnly => Err("too long"),
        256.. if state.defect != Defect::LongKeysTaken => Err("too long"),
        _ => Ok(Some(key)),
    }
}

struct Work {
    state: Data<State>,
    account: String,
    place: String,
    key: Result<Option<String>, &'static str>,
    fails: bool,
    body: String,
}

impl Work {
    fn fingerprint(&self, json: &Value) -> String {
        let compact: String = self.body.split_whitespace().collect();
        let spaces = self.body.len() - compact.len();
        match self.state.defect {
            Defect::BodyNotCompared => self.place.clone(),
            Defect::PathNotCompared => format!("{} {json}", self.place.split_once(' ').unwrap().0),
            Defect::MethodNotCompared => format!("{} {json}", self.place.split_once(' ').unwrap().1),
            Defect::MemberOrderCompared => format!("{} {compact}", self.place),
            Defect::WhiteSpaceCompared => format!("{} {json} {spaces}", self.place),
            _ => format!("{} {json}", self.place),
        }
    }

    fn slot(&self, key: String) -> Slot {
        let account = if self.state.defect == Defect::KeySharedBetweenAccounts { "all" } else { &self.account };
        let books = if self.state.defect == Defect::LockPerProcess { &self.state.own } else { &self.state.books };
        let mut slots = books.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.entry((account.to_owned(), key)).or_default().clone()
    }

    async fn run(self) -> (Reply, bool) {
        let key = match &self.key {
            Ok(Some(key)) if self.state.defect != Defect::KeyIgnored => key.clone(),
            Ok(_) => return (self.work(&serde_json::from_str(&self.body).unwrap()).await, false),
            Err(why) => return (problem(&self.state, 400, "fix", why), false),
        };
        let json: Value = serde_json::from_str(&self.body).unwrap();
        let fingerprint = self.fingerprint(&json);
        let slot = self.slot(key);
        match self.state.defect {
            Defect::NoLock => return self.run_without_lock(&slot, &json, fingerprint).await,
            Defect::DuplicatesAnswerThemselves => return self.run_and_keep_the_first(&slot, &json, fingerprint).await,
            Defect::KeyStuckWithoutClient => return self.run_with_a_flag(&slot, &json, fingerprint).await,
            Defect::LosersFail if slot.try_lock().is_err() => {
                return (problem(&self.state, 500, "again", "lost"), false);
            }
            Defect::ConflictWithoutRetryAfter if slot.try_lock().is_err() => {
                return (problem(&self.state, 409, "again", "in flight"), false);
            }
            _ => {}
        }
        let mut slot = slot.lock().await;
        if let Some(record) = slot.clone() {
            let answer = self.replay(&record, &fingerprint);
            if answer.0.status == 422 && self.state.defect == Defect::ReuseForgetsTheFirst {
                *slot = None;
            }
            return answer;
        }
        let reply = self.work(&json).await;
        if self.keeps(&reply) {
            *slot = Some(Record { fingerprint, reply: reply.clone() });
        }
        let marked = self.state.defect == Defect::FailureMarkedButFree && reply.status == 409;
        (reply, marked)
    }

    fn keeps(&self, reply: &Reply) -> bool {
        match reply.status {
            409 => self.state.stores_failures || self.state.defect == Defect::FailureStored,
            500.. => self.state.defect == Defect::ServerErrorStored,
            _ => true,
        }
    }

    async fn run_without_lock(&self, slot: &Slot, json: &Value, fingerprint: String) -> (Reply, bool) {
        if let Some(record) = slot.lock().await.clone() {
            return self.replay(&record, &fingerprint);
        }
        let reply = self.work(json).await;
        *slot.lock().await = Some(Record { fingerprint, reply: reply.clone() });
        (reply, false)
    }

    /// One effect, but every duplicate that meets the first one makes a reply of its own.
    async fn run_and_keep_the_first(&self, slot: &Slot, json: &Value, fingerprint: String) -> (Reply, bool) {
        if let Some(record) = slot.lock().await.clone() {
            return self.replay(&record, &fingerprint);
        }
        tokio::time::sleep(WORK).await;
        let reply = self.reply(json);
        let mut slot = slot.lock().await;
        if slot.is_none() {
            self.effect(json);
            *slot = Some(Record { fingerprint, reply: reply.clone() });
        }
        (reply, false)
    }

    /// A flag says that the request is in flight; nobody takes it down when the work is canceled.
    async fn run_with_a_flag(&self, slot: &Slot, json: &Value, fingerprint: String) -> (Reply, bool) {
        const IN_FLIGHT: &str = "in flight";
        let record = slot.lock().await.clone();
        match record {
            Some(record) if record.fingerprint == IN_FLIGHT => (problem(&self.state, 409, "again", IN_FLIGHT), false),
            Some(record) => self.replay(&record, &fingerprint),
            None => {
                let reply = problem(&self.state, 409, "again", IN_FLIGHT);
                *slot.lock().await = Some(Record { fingerprint: IN_FLIGHT.to_owned(), reply });
                let reply = self.work(json).await;
                *slot.lock().await = Some(Record { fingerprint, reply: reply.clone() });
                (reply, false)
            }
        }
    }

    fn replay(&self, record: &Record, fingerprint: &str) -> (Reply, bool) {
        if record.fingerprint != fingerprint {
            return (problem(&self.state, 422, "new-key", "the key is used"), false);
        }
        let mut reply = record.reply.clone();
        match self.state.defect {
            Defect::ReplayIs200 => reply.status = 200,
            Defect::LocationLost => reply.location = None,
            Defect::ReplyRebuilt => reply.body = reply.body.replace("\"new\"", "\"seen\""),
            Defect::FailureReplayedAs422 if reply.status == 409 => reply.status = 422,
            Defect::FailureMadeAgainButKept if reply.status == 409 => {
                reply = problem(&self.state, 409, "new-key", &Uuid::new_v4().to_string());
            }
            _ => {}
        }
        (reply, true)
    }

    fn reply(&self, json: &Value) -> Reply {
        let id = Uuid::new_v4();
        let body = json!({"id": id, "customer": json["customer"], "state": "new"}).to_string();
        Reply { status: 201, location: Some(format!("/things/{id}")), body, expires: true }
    }

    fn effect(&self, json: &Value) {
        let customer = json["customer"].as_str().unwrap().to_owned();
        self.state.books.effects.lock().unwrap_or_else(PoisonError::into_inner).push((self.account.clone(), customer));
    }

    async fn work(&self, json: &Value) -> Reply {
        let defect = self.state.defect;
        if defect == Defect::WorkCanceledHalfway {
            self.effect(json);
        }
        tokio::time::sleep(WORK).await;
        if self.fails {
            if defect == Defect::ServerErrorLeavesEffect {
                self.effect(json);
            }
            return problem(&self.state, 500, "again", "on request");
        }
        if json["quantity"].as_i64().is_some_and(|quantity| quantity > 100) {
            if defect == Defect::FailureLeavesEffect {
                self.effect(json);
            }
            let mut reply =
                problem(&self.state, 409, if self.state.stores_failures { "new-key" } else { "fix" }, "too many");
            reply.expires = self.state.stores_failures;
            return reply;
        }
        if defect != Defect::WorkCanceledHalfway {
            self.effect(json);
        }
        self.reply(json)
    }
}
