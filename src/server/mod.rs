//! The server: from a connection to the routes.
//!
//! Guarantees: a client that sends the head of a request too slowly loses its connection. An idle connection is kept for the time
//! in the settings. After SIGTERM, requests under way end and idle connections close.

pub mod advice;
mod cors;
pub mod health;
pub mod idempotency_keys;
mod methods;
pub mod metrics;
pub mod openapi;
pub mod pages;
pub mod policies;
mod request_id;
mod request_log;
#[cfg(feature = "otel")]
mod request_span;
mod routes;
mod upgrade;

use std::net::TcpListener;
use std::time::Duration;

use actix_http::{HttpService, Protocol};
use actix_service::{ServiceFactoryExt as _, fn_service, map_config};
use actix_web::App;
use actix_web::dev::{AppConfig, Server};
use actix_web::middleware::{Condition, from_fn};
use actix_web::rt::net::TcpStream;
use actix_web::web::Data;

use self::cors::cors;
use self::metrics::Metrics;
use self::request_log::frame;
pub use self::routes::routed;
use self::routes::routes;
use self::upgrade::WithoutOffers;
use crate::db::Db;
use crate::gateway::webhook::Secrets;
use crate::http::auth::KnownKeys;
use crate::process::shutdown::ShuttingDown;
use crate::shop::payments::Resolver;

/// For how many seconds requests under way may run after SIGTERM. A handler answers within 6 s. After twice this time, the
/// client is gone.
const DRAIN_SECONDS: u64 = 12;

/// How long a client may take to send the head of its request. A slower client only holds a connection.
const HEAD_WITHIN: Duration = Duration::from_secs(5);

/// How long the server goes on reading after it refused a body that is still arriving. If the server closed at once, the
/// client's next write would fail, and the client might never read the answer. `HttpServer` has the same second.
const LINGER: Duration = Duration::from_secs(1);

/// What the handlers share.
#[derive(Clone)]
pub struct State {
    /// The database.
    pub db: Db,
    /// The API keys that were found a moment ago.
    pub known_keys: KnownKeys,
    /// Calls the gateway, and resolves.
    pub resolver: Resolver,
    /// The secrets of the gateway's webhook. Without one there is no such route.
    pub webhook_secrets: Secrets,
    /// The gateway's books for the playground: only with the demo.
    pub demo: Option<pages::Books>,
    /// The web origins that may call: `scheme://host[:port]`, or with `:*` for any port.
    pub cors_origins: Vec<String>,
    /// How long an idle client connection is kept.
    pub keep_alive: Duration,
    /// Whether the server is ending.
    pub draining: ShuttingDown,
}

/// Serves on the listener until the server's handle stops the server. [`crate::process::shutdown`] handles the signals.
///
/// # Errors
/// If the operating system can't use the listener.
pub fn serve(listener: TcpListener, state: State) -> std::io::Result<Server> {
    let metrics = Metrics::new().map_err(std::io::Error::other)?;
    let server = Server::build().shutdown_timeout(DRAIN_SECONDS).disable_signals();
    let drains = server.graceful_shutdown_signal();
    // The same as actix' HttpServer, but each connection is read through `WithoutOffers`.
    let server = server.listen("api", listener, move || {
        let State { keep_alive, ref cors_origins, .. } = state;
        let state = state.clone();
        let app = App::new()
            .app_data(Data::new(state.db))
            .app_data(Data::new(state.known_keys))
            .app_data(Data::new(state.resolver))
            .app_data(Data::new(metrics.clone()))
            .app_data(Data::new(state.webhook_secrets.clone()))
            .app_data(Data::new(state.demo.clone()))
            .app_data(Data::new(state.draining))
            .wrap(from_fn(frame));
        // Around the frame, so that the span gets what the frame has found out.
        #[cfg(feature = "otel")]
        let app = app.wrap(from_fn(request_span::traced));
        let app = app
            // ExternalSystem of the frame, so that errors get the CORS headers, too.
            .wrap(Condition::new(!cors_origins.is_empty(), cors(cors_origins.clone())))
            .configure(|config| pages::routes(config, state.demo.is_some()))
            .configure(routes);
        let drains = drains.clone();
        let http = HttpService::build()
            .client_request_timeout(HEAD_WITHIN)
            .client_disconnect_timeout(LINGER)
            .keep_alive(keep_alive)
            .graceful_shutdown_signal(move || {
                let drains = drains.clone();
                async move { drains.notified().await }
            })
            .finish(map_config(app, |()| AppConfig::default()));
        fn_service(|io: TcpStream| async {
            let peer = io.peer_addr().ok();
            Ok((WithoutOffers::new(io), Protocol::Http1, peer))
        })
        .and_then(http)
    })?;
    Ok(server.run())
}
