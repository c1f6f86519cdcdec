//! The stage of the demo: a run shows what happens inside, step by step, and ends a process or drops a message where the visitor
//! says so. Everything that is told has happened: in this PostgreSQL, at this gateway, in processes of this binary.
//!
//! From the visitor to the row: `run.rs` plays a run, `client.rs` clicks, `replicas.rs` keeps the replicas, `forwarder.rs` is the
//! wire to the gateway, `truth.rs` reads what is committed, and `timeline.rs` writes the events. In the replica, `watching.rs`
//! tells what it does, and `naive.rs` is the endpoint that charges twice.
//!
//! Nothing of it exists without the demo.

mod books;
mod client;
mod code;
mod forwarder;
mod naive;
mod replica;
mod replicas;
mod request_name;
mod run;
mod settings;
mod statement;
mod timeline;
mod truth;
mod watching;

use std::collections::HashSet;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::{Bytes, Payload};
use actix_web::{HttpRequest, HttpResponse, rt};
use diesel::prelude::*;
use diesel::sql_types::Integer;
use futures_util::Stream;
use reqwest::{Client, Url};
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use self::books::Books;
pub use self::naive::prepare;
pub use self::replica::serve as serve_replica;
use self::settings::{MAX_CLICKS, Settings};
use self::timeline::Timeline;
use crate::db::{Db, NOBODY};
use crate::gateway::{Key, install_tls};
use crate::http::ApiError;
use crate::http::endpoint::{self, Endpoint};
use crate::http::problems::OVERLOADED;
use crate::process::failpoint::POINTS;
use crate::process::shutdown::ShuttingDown;
use idempotency::read_body;

/// Runs at once. Each has up to two processes and a dozen connections.
const RUNS: usize = 3;

/// What PostgreSQL must have left before a run: two replicas use six connections, and a person may want the rest.
const CONNECTIONS_LEFT: i32 = 10;

/// The most lines between the run and a slow page.
const LINES: usize = 64;

/// How soon a run ends when the server ends.
const LOOKS_EVERY: Duration = Duration::from_millis(500);

/// The stage of this server. Clones share the places.
#[derive(Clone)]
pub struct Stage {
    db: Db,
    database_url: String,
    books: Books,
    places: Arc<Semaphore>,
    /// The external calls that the replicas of the runs resolve, so that the resolver of this server leaves them alone.
    playing: Arc<Mutex<HashSet<String>>>,
    ending: ShuttingDown,
}

impl Stage {
    /// A stage on this database and this gateway.
    ///
    /// # Errors
    /// The gateway's URL is malformed, or the HTTP client can't be set up.
    pub fn new(
        db: Db,
        database_url: &str,
        gateway_url: &str,
        key: &Key,
        ending: ShuttingDown,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        install_tls();
        let gateway = Url::parse(&format!("{}/", gateway_url.trim_end_matches('/')))?;
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build()?;
        Ok(Self {
            db,
            database_url: database_url.to_owned(),
            books: Books { client, gateway, key: key.clone() },
            places: Arc::new(Semaphore::new(RUNS)),
            playing: Arc::default(),
            ending,
        })
    }

    /// What the demo's server has beside the API.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Endpoint> {
        let stage = self.clone();
        let begins = move |request, payload| begin(stage.clone(), request, payload);
        vec![endpoint::page("/demo/stage", about), endpoint::post("/demo/runs", begins)]
    }

    /// Whether a run has this external call, by its reference.
    #[must_use]
    pub fn plays(&self, reference: &str) -> bool {
        self.playing.lock().unwrap_or_else(PoisonError::into_inner).contains(reference)
    }

    /// While the guard lives, these external calls are the run's. Later, this server resolves what the run left.
    fn playing(&self, references: &[String]) -> Playing {
        let playing = Playing { all: Arc::clone(&self.playing), own: references.to_vec() };
        playing.all.lock().unwrap_or_else(PoisonError::into_inner).extend(references.iter().cloned());
        playing
    }

    /// The replicas must not take the last connections of the database, which others may need too.
    async fn refuse_without_connections(&self) -> Result<(), ApiError> {
        #[derive(QueryableByName)]
        struct Free {
            #[diesel(sql_type = Integer)]
            free: i32,
        }
        let looked = self.db.read(NOBODY, |conn| {
            let sql = "SELECT current_setting('max_connections')::int - count(*)::int AS free FROM pg_stat_activity";
            Ok(diesel::sql_query(sql).get_result::<Free>(conn)?.free)
        });
        if looked.await? >= CONNECTIONS_LEFT {
            return Ok(());
        }
        Err(ApiError::new(&OVERLOADED, "the database has no connections left for a run"))
    }

    async fn until_the_server_ends(&self) {
        while !self.ending.has_begun() {
            tokio::time::sleep(LOOKS_EVERY).await;
        }
    }
}

struct Playing {
    all: Arc<Mutex<HashSet<String>>>,
    own: Vec<String>,
}

impl Drop for Playing {
    fn drop(&mut self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|reference| !self.own.contains(reference));
    }
}

/// `GET /demo/stage`: what a visitor may choose, and where the code of each step is.
async fn about() -> HttpResponse {
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(json!({
        "points": POINTS, "methods": Settings::methods(), "code": code::places(), "source": null, "max_clicks": MAX_CLICKS,
    }))
}

/// `POST /demo/runs`: begins a run, and streams its events. The run ends when the client leaves.
///
/// # Errors
/// 422 for wrong settings. 503 if three runs are playing.
async fn begin(stage: Stage, request: HttpRequest, payload: Payload) -> Result<HttpResponse, ApiError> {
    let settings = Settings::of(&read_body(&request, payload.into_inner()).await?)?;
    let place = Arc::clone(&stage.places).try_acquire_owned();
    let place = place
        .map_err(|_| ApiError::new(&OVERLOADED, format!("{RUNS} runs are on the stage, each for some seconds")))?;
    stage.refuse_without_connections().await?;
    let (timeline, events) = Timeline::begin();
    let (page, lines) = mpsc::channel(LINES);
    let writing = timeline::write(timeline.began, events, page);
    let playing = rt::spawn(async move {
        let _place = place;
        let play = async {
            let ended = tokio::select! {
                ended = stage.clone().play(settings, timeline.clone()) => ended,
                () = stage.until_the_server_ends() => Err("the server ends".into()),
            };
            if let Err(error) = ended {
                run::failed(&timeline, &*error);
            }
        };
        tokio::join!(play, writing);
    });
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-store"))
        // nginx would wait for the end.
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(Playback { lines, playing }))
}

/// The lines of a run, as the body of the answer. actix drops the body when the client leaves, and the run ends.
struct Playback {
    lines: mpsc::Receiver<Bytes>,
    playing: JoinHandle<()>,
}

impl Stream for Playback {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.lines.poll_recv(context).map(|line| line.map(Ok))
    }
}

impl Drop for Playback {
    fn drop(&mut self) {
        self.playing.abort();
    }
}
