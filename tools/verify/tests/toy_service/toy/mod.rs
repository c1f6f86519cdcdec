//! A small keyed service in memory. It passes all checks of `idempotency-verify`, or it has one defect.

use std::any::Any;
use std::collections::{BTreeSet, HashMap};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::dev::{Extensions, ServerHandle};
use actix_web::http::StatusCode;
use actix_web::web::{Bytes, Data};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde_json::{Value, json};
use uuid::Uuid;

mod defect;
mod keys;
mod things;
mod work;

pub use defect::Defect;
use keys::key_of;
use things::Thing;
use work::Work;

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

/// The record of one key. A request holds the lock while it works.
type Slot = Arc<tokio::sync::Mutex<Option<Record>>>;

/// How a right toy works. None of this is a defect.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// A failure is stored with its key.
    pub stores_failures: bool,
    /// The list shows a thing this long after it was created.
    pub lag: Duration,
    /// The list shows only this number of things, as if it got stuck.
    pub shows: Option<usize>,
    /// The first answer is a 202. The final reply takes its place.
    pub is_provisional: bool,
    /// Every success is a 202, which is final.
    pub accepts_only: bool,
}

/// The books. Two replicas share them.
#[derive(Default)]
pub struct Books {
    /// The Content-Types of the requests, each once.
    content_types: Mutex<BTreeSet<String>>,
    things: Mutex<Vec<Thing>>,
    /// The tickets that nothing was created with.
    tickets: Mutex<BTreeSet<Uuid>>,
    slots: Mutex<HashMap<(String, String), Slot>>,
}

pub struct State {
    defect: Defect,
    manner: Manner,
    books: Arc<Books>,
    /// The slots of this process. Only [`Defect::LockPerProcess`] uses them.
    own: Books,
}

/// A running toy.
pub struct Toy {
    pub base: String,
    books: Arc<Books>,
    server: ServerHandle,
}

impl Toy {
    pub fn start(defect: Defect) -> Self {
        Self::replica(defect, Manner::default(), Arc::default())
    }

    pub fn replica(defect: Defect, manner: Manner, books: Arc<Books>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let state = Data::new(State { defect, manner, books: Arc::clone(&books), own: Books::default() });
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let app = move || {
                    App::new()
                        .app_data(state.clone())
                        .route("/things", web::get().to(things::list))
                        .route("/things", web::post().to(make))
                        .route("/things", web::patch().to(make))
                        .route("/others", web::post().to(make))
                        .route("/tickets", web::post().to(things::sell_ticket))
                        .route("/things/{id}", web::get().to(things::read))
                        .route("/things/{id}/see", web::post().to(things::see))
                        .route("/accounts/{account}/things", web::post().to(make_for))
                };
                let server = HttpServer::new(app).workers(1).on_connect(keep_socket).listen(listener).unwrap().run();
                sender.send(server.handle()).unwrap();
                server.await.unwrap();
            });
        });
        Self { base, books, server: receiver.recv().unwrap() }
    }

    /// The Content-Types of the requests so far.
    pub fn content_types(&self) -> Vec<String> {
        self.books.content_types.lock().unwrap().iter().cloned().collect()
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

fn account_of(request: &HttpRequest) -> String {
    request.headers().get("Authorization").map_or("nobody", |value| value.to_str().unwrap()).to_owned()
}

/// Makes a thing of the account in the path, which nobody else knows.
async fn make_for(state: Data<State>, request: HttpRequest, body: Bytes) -> HttpResponse {
    if account_of(&request) != format!("Bearer {}", &request.match_info()["account"]) {
        return answer(&state, &problem(&state, 404, "fix", "there is no such account"), false);
    }
    make(state, request, body).await
}

async fn make(state: Data<State>, request: HttpRequest, body: Bytes) -> HttpResponse {
    let content_type = request.headers().get("Content-Type").map_or("none", |value| value.to_str().unwrap());
    state.books.content_types.lock().unwrap().insert(content_type.to_owned());
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
        Defect::WorkCanceledHalfway | Defect::WorkLost | Defect::KeyStuckWithoutClient => tokio::select! {
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

/// Waits until the client has closed or reset its connection. Many servers then cancel the request's work.
async fn gone(request: &HttpRequest) {
    let socket = Arc::clone(request.conn_data::<Arc<TcpStream>>().unwrap());
    loop {
        let open = match socket.peek(&mut [0]) {
            Ok(read) => read > 0,
            Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
        };
        if !open {
            return;
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
    if matches!(reply.status, 202 | 409) && state.defect != Defect::ConflictWithoutRetryAfter {
        response.insert_header(("Retry-After", "0"));
    }
    if state.defect == Defect::ReplyCacheable {
        response.insert_header(("Cache-Control", "public, max-age=60"));
    }
    response.body(reply.body.clone())
}
