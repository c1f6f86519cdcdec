//! The server: from a connection to the handlers.
//!
//! Guarantees: a client that sends the head of a request too slowly loses its connection, and so does one that does not
//! read its answers. Clients can't take the descriptors that the database's connections need. An idle connection is
//! kept for the time in the settings. After SIGTERM, running requests end and idle connections close.

pub mod advice;
mod checks;
mod connections;
mod cors;
pub mod gauges;
pub mod health;
pub mod idempotency_keys;
pub mod metrics;
pub mod openapi;
pub mod pages;
pub mod policies;
mod request_id;
mod request_log;
#[cfg(feature = "otel")]
mod request_span;
mod routes;
mod table;

use std::net::TcpListener;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::middleware::{Condition, from_fn};
use actix_web::web::Data;
use actix_web::{App, HttpServer};
use tokio_util::sync::CancellationToken;

use self::cors::cors;
use self::gauges::Gauges;
use self::metrics::Metrics;
use self::openapi::Document;
use self::request_log::frame;
pub use self::routes::api;
use self::routes::{all, routes};
use crate::db::Db;
use crate::http::auth::KnownKeys;
use crate::http::endpoint::Endpoint;
use crate::shop::payments::Resolver;
use stripe_gateway::webhook::Secrets;

/// For how many seconds running requests may go on after SIGTERM. Every request is answered within 12 s.
const SHUTDOWN_SECONDS: u64 = 12;

/// How long a client may take to send the head of its request. A slower one is only tying up a connection.
const HEAD_WITHIN: Duration = Duration::from_secs(5);

/// How long the server goes on reading after it refused a body that is still arriving. If it closed at once, the
/// client's next write would fail, and the client might never read the answer.
const LINGER: Duration = Duration::from_secs(1);

/// What the handlers share.
#[derive(Clone)]
pub struct State {
    /// The database.
    pub db: Db,
    /// The API keys looked up a moment ago.
    pub known_keys: KnownKeys,
    /// Calls the gateway, and finds outcomes.
    pub resolver: Resolver,
    /// The secrets of the gateway's webhook. Without one, the webhook answers 404.
    pub webhook_secrets: Secrets,
    /// Whether the server has the demo, with the stage at `/`.
    pub demo: bool,
    /// The web origins that may call: `scheme://host[:port]`, or with `:*` for any port.
    pub cors_origins: Vec<String>,
    /// How long an idle client connection is kept.
    pub keep_alive: Duration,
    /// Cancelled when the server begins to end: readiness answers 503 from then on.
    pub draining: CancellationToken,
}

/// Serves on the listener until the server's handle stops the server. [`crate::process::shutdown`] handles the signals.
/// `more` are endpoints that are not part of the API.
///
/// # Errors
/// The operating system can't use the listener.
pub fn serve(listener: TcpListener, state: State, more: Vec<Endpoint>) -> std::io::Result<Server> {
    let metrics = Data::new(Metrics::new().map_err(std::io::Error::other)?);
    let mut api = all(state.demo);
    api.endpoints.extend(more);
    let api = Data::new(api);
    let document = Data::new(Document::of(&api));
    let keep_alive = state.keep_alive;
    let gauges = Gauges::default();
    // They end with the runtime.
    actix_web::rt::spawn(gauges.clone().keep_fresh(state.db.clone()));
    actix_web::rt::spawn(state.known_keys.clone().keep_uses_written(state.db.clone()));
    let workers = std::thread::available_parallelism()?;
    let server = HttpServer::new(move || {
        let state = state.clone();
        let app = App::new()
            .app_data(Data::new(state.db))
            .app_data(Data::new(state.known_keys))
            .app_data(Data::new(state.resolver))
            .app_data(Data::new(pages::Demo(state.demo)))
            .app_data(Data::new(state.webhook_secrets))
            .app_data(Data::new(state.draining))
            .app_data(Data::new(gauges.clone()))
            .app_data(metrics.clone())
            .app_data(api.clone())
            .app_data(document.clone())
            .wrap(Condition::new(!state.cors_origins.is_empty(), cors(state.cors_origins)))
            .wrap(from_fn(frame));
        // Outside the frame, so that the span sees what the frame adds to the response.
        #[cfg(feature = "otel")]
        let app = app.wrap(from_fn(request_span::traced));
        app.configure(|config| routes(config, &api))
    });
    connections::limit_sent_ahead(&listener)?;
    let server = server
        .workers(workers.get())
        .max_connections(connections::most(workers))
        .on_connect(|connection, _| connections::limit_unread(connection))
        .client_request_timeout(HEAD_WITHIN)
        .client_disconnect_timeout(LINGER)
        .keep_alive(keep_alive)
        .shutdown_timeout(SHUTDOWN_SECONDS)
        .disable_signals()
        .listen(listener)?;
    Ok(server.run())
}
