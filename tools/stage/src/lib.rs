//! The stage of the demo: a run shows what happens inside, step by step, and ends a process or drops a message where
//! the visitor says so. Everything that it reports has happened: in this PostgreSQL, at this gateway, in processes of
//! this binary.
//!
//! From the visitor to the row: `run.rs` plays a run, `client.rs` clicks, `replicas.rs` keeps the replicas, `forwarder.rs` is the
//! wire to the gateway, `truth.rs` reads what is committed, and `timeline.rs` writes the events. In the replica,
//! `watching.rs` reports what it does.
//!
//! The API has the rest, in `src/demo`: the replica itself, which is its server behind the command `stage-replica`, and the
//! endpoint that charges twice.

mod books;
mod client;
mod code;
mod database;
mod forwarder;
mod replicas;
mod request_name;
mod run;
mod settings;
mod statement;
mod timeline;
mod truth;
pub mod watching;

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use actix_web::rt;
use actix_web::web::Bytes;
use futures_util::{Stream, stream};
use idempotency::{Error, Policy};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

pub use self::books::Books;
pub use self::code::places as code_places;
use self::database::Database;
use self::settings::Settings;
use self::timeline::Timeline;
use self::truth::Purchases;

/// The most runs at once. Each has up to two processes and a dozen connections.
const RUNS: usize = 3;

/// The most lines between the run and a slow page.
const LINES: usize = 64;

/// How soon a run ends when the server ends.
const LOOKS_EVERY: Duration = Duration::from_millis(500);

/// The server, the account and the gateway that the stage uses.
pub struct Config {
    /// The demo's server, without a slash at the end. The visitor's orders are created there.
    pub server_url: String,
    /// The database of the API, with the limits of a client.
    pub database_url: String,
    /// The gateway.
    pub books: Books,
    /// The account that buys.
    pub account_id: Uuid,
    /// Its API key.
    pub api_key: &'static str,
    /// The policy of the endpoint that pays an order. Its route is a POST.
    pub charge: Policy,
    /// The path of the endpoint that charges twice.
    pub naive_path: &'static str,
    /// The points at which a replica may be killed.
    pub points: &'static [&'static str],
    /// Whether the server is ending, and the runs with it.
    pub is_ending: Box<dyn Fn() -> bool + Send + Sync>,
}

/// The stage of this server. Clones share the places.
#[derive(Clone)]
pub struct Stage {
    config: Arc<Config>,
    places: Arc<Semaphore>,
    /// The runs that are playing.
    playing: Arc<Mutex<Vec<Weak<Purchases>>>>,
}

impl Stage {
    /// A stage on which nothing plays yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config: Arc::new(config), places: Arc::new(Semaphore::new(RUNS)), playing: Arc::default() }
    }

    /// Begins a run with the settings in this body, and streams its events for the page. The run ends when the stream is dropped:
    /// actix drops the body of an answer when the client leaves.
    ///
    /// # Errors
    /// The body is not JSON or has wrong settings. [`Error::Overloaded`]: too many runs are playing, or too few
    /// database connections are left. [`Error::Unreachable`].
    pub async fn begin(&self, body: &[u8]) -> Result<impl Stream<Item = Result<Bytes, Infallible>> + use<>, Error> {
        let settings = Settings::of(body, self.config.points)?;
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Error::Overloaded)?;
        let database = Database::new(&self.config.database_url);
        if !database.has_connections_left().await.map_err(Error::Unreachable)? {
            return Err(Error::Overloaded);
        }
        let (timeline, events) = Timeline::begin();
        let (page, lines) = mpsc::channel(LINES);
        let stage = self.clone();
        let playing = rt::spawn(async move {
            let _place = place;
            let play = async {
                let ended = tokio::select! {
                    ended = stage.play(settings, database, &timeline) => ended,
                    () = stage.until_the_server_ends() => Err("the server ends".into()),
                };
                if let Err(error) = ended {
                    run::failed(&timeline, &*error);
                }
            };
            tokio::join!(play, timeline::write(timeline.began, events, page));
        });
        let playing = AbortOnDropHandle::new(playing);
        Ok(stream::unfold((lines, playing), |(mut lines, playing)| async {
            let line = lines.recv().await?;
            Some((Ok(line), (lines, playing)))
        }))
    }

    /// Whether a run has this external call, by its reference. The replicas of the run resolve it, so the resolver of this server
    /// leaves it alone. Later, this server resolves what the run has left.
    #[must_use]
    pub fn plays(&self, reference: &str) -> bool {
        let playing = self.playing.lock().unwrap_or_else(PoisonError::into_inner);
        playing.iter().filter_map(Weak::upgrade).any(|run| run.has(reference))
    }

    fn now_plays(&self, run: &Arc<Purchases>) {
        let mut playing = self.playing.lock().unwrap_or_else(PoisonError::into_inner);
        playing.retain(|run| run.strong_count() > 0);
        playing.push(Arc::downgrade(run));
    }

    async fn until_the_server_ends(&self) {
        while !(self.config.is_ending)() {
            sleep(LOOKS_EVERY).await;
        }
    }
}
