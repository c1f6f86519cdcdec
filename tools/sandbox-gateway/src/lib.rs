//! A payment gateway for development and tests: a small HTTP server with its own tables, separate from the payments
//! API. It speaks the part of Stripe's API that the payments API uses, so well that Stripe's own libraries work with
//! it.
//!
//! Guarantees: while a key is kept, calls of the key move money at most once. The key's answer and the PaymentIntent or refund
//! commit together, so a crash leaves both or neither. The books (`GET /v1/payment_intents`, `GET /v1/refunds`) show what really
//! happened. If a client sends a key again after the key was forgotten, the books show a second payment.
//!
//! Not guaranteed: that an answer arrives, that the answer is quick, or that the call succeeds. Each card in `methods.rs` is one
//! behaviour of a real gateway.
//!
//! Every key that begins with `sk_test_` is accepted, and all keys see the same books: keep the sandbox on a private
//! address.
//!
//! Two calls of a key overlap if the second arrives before the first is answered or its client is gone. Within one
//! process, a set in memory makes the second call a 409. A crash empties the set, so no key stays blocked, and a slow
//! call holds no database connection. Across processes that share the tables, the key's row decides: the second call
//! waits for the few milliseconds of the first transaction, and gets the stored answer.

mod books;
mod calls;
mod events;
mod form;
mod http;
mod in_flight;
mod keys;
mod list;
mod methods;
mod objects;
mod refusal;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, PayloadConfig};
use actix_web::{App, HttpResponse, HttpServer};
use diesel::PgConnection;
use diesel::connection::SimpleConnection;
use diesel::r2d2::{ConnectionManager, CustomizeConnection, NopErrorHandler, Pool};

pub use events::Webhook;
use in_flight::InFlight;

/// The version of Stripe's API whose objects the sandbox writes.
pub const STRIPE_VERSION: &str = "2026-10-28.endive";

/// How long a call waits for a database connection, at the start and later. Clients commonly wait 4 s for the whole
/// answer, so they see a 503, not silence.
const POOL_TIMEOUT: Duration = Duration::from_secs(3);

/// The time limits of a connection. A transaction here takes milliseconds. A process that was stopped inside a transaction must
/// not hold a key's row for longer than a client waits. A process that waits for the row must give up in time to answer.
const SESSION: &str =
    "SET statement_timeout = '3s'; SET lock_timeout = '2s'; SET idle_in_transaction_session_timeout = '3s'";

/// One thread answers while the other is busy. Handlers only wait: database work runs in a separate pool of threads.
const WORKERS: usize = 2;

/// How long idle connections are kept. Clients keep theirs for less, so it is the client that closes a connection, and
/// the server never closes one just as a call arrives. nginx has the same value.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// For how many seconds a graceful stop waits for calls in flight. Lost replies stay open until then. The other calls take
/// milliseconds, and the server looks once a second.
const SHUTDOWN_TIMEOUT: u64 = 1;

/// What the sandbox needs to start.
#[derive(Clone, Debug)]
pub struct Config {
    /// The database of the tables, in the schema `sandbox`. The user needs the right to create the schema.
    pub database_url: String,
    /// The address on which the sandbox listens. Port 0 picks a free port.
    pub bind: SocketAddr,
    /// How long a key is kept after its first call, by the database's clock. Real gateways keep a key for 24 h.
    pub key_ttl: Duration,
    /// The most connections, at least 1. A call holds a connection for a few milliseconds, even if its answer is slow.
    pub pool_size: u32,
    /// Where the sandbox sends its events, if anywhere.
    pub webhook: Option<Webhook>,
}

/// A sandbox that listens.
pub struct Running {
    /// The address on which the sandbox listens, with the real port.
    pub addr: SocketAddr,
    /// The server. It runs while it is polled, and ends after a stop. It handles no signals.
    pub server: Server,
    /// Stops the server. Open calls get a second, then their connections close.
    pub handle: ServerHandle,
}

/// Why the sandbox could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database can't be reached.
    #[error("the sandbox gateway cannot connect to its database: {0}")]
    Connect(#[from] r2d2::Error),
    /// The tables can't be created.
    #[error("the sandbox gateway cannot create its tables: {0}")]
    Schema(#[from] diesel::result::Error),
    /// The HTTP client for events can't be set up.
    #[error("the sandbox gateway cannot send events: {0}")]
    Client(#[from] reqwest::Error),
    /// The address can't be used.
    #[error("the sandbox gateway cannot listen on {bind}: {source}")]
    Bind {
        /// The address of the configuration.
        bind: SocketAddr,
        /// The operating system's error.
        source: io::Error,
    },
}

/// What every handler shares.
struct Sandbox {
    pool: Connections,
    key_ttl: Duration,
    in_flight: InFlight,
    webhook: Option<Webhook>,
    client: reqwest::Client,
}

type Connections = Pool<ConnectionManager<PgConnection>>;

/// Creates the tables that are missing, and listens. Answers begin when the returned server is polled.
///
/// Blocks while it connects: some seconds if the database is away. Call it before other work, or from a thread that may block.
///
/// # Errors
/// [`Error`] if the database, its tables or the address can't be used.
pub fn start(config: Config) -> Result<Running, Error> {
    let pool = Pool::builder()
        .max_size(config.pool_size)
        .connection_timeout(POOL_TIMEOUT)
        .connection_customizer(Box::new(Session))
        // The API logs that the database is away. This pool would log every attempt to connect.
        .error_handler(Box::new(NopErrorHandler))
        .build(ConnectionManager::new(config.database_url))?;
    keys::prepare(&mut *pool.get()?)?;

    // reqwest can't build a client without a TLS crypto provider. Installing it fails if there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let sandbox = Data::new(Sandbox {
        pool,
        key_ttl: config.key_ttl,
        in_flight: InFlight::default(),
        webhook: config.webhook,
        client: reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build()?,
    });
    let bind_error = |source| Error::Bind { bind: config.bind, source };
    let listening =
        HttpServer::new(move || App::new().app_data(sandbox.clone()).configure(routes).wrap(from_fn(http::frame)))
            .workers(WORKERS)
            .keep_alive(KEEP_ALIVE)
            // If the client leaves, its call ends, and no longer overlaps the next call.
            .h1_allow_half_closed(false)
            .shutdown_timeout(SHUTDOWN_TIMEOUT)
            .disable_signals()
            .bind(config.bind)
            .map_err(bind_error)?;
    let addr = listening.addrs().first().copied().unwrap_or(config.bind);
    let server = listening.run();
    let handle = server.handle();
    Ok(Running { addr, server, handle })
}

fn routes(app: &mut web::ServiceConfig) {
    app.app_data(PayloadConfig::new(http::BODY_LIMIT))
        .route("/v1/payment_intents", web::post().to(http::pay))
        .route("/v1/payment_intents", web::get().to(http::payments))
        .route("/v1/payment_intents/{id}", web::get().to(http::one_payment))
        .route("/v1/refunds", web::post().to(http::refund))
        .route("/v1/refunds", web::get().to(http::refunds))
        .route("/v1/refunds/{id}", web::get().to(http::one_refund))
        .route("/health", web::get().to(HttpResponse::NoContent))
        .default_service(web::to(http::nothing_here));
}

/// Sets the time limits of every new connection.
#[derive(Debug)]
struct Session;

impl CustomizeConnection<PgConnection, diesel::r2d2::Error> for Session {
    fn on_acquire(&self, conn: &mut PgConnection) -> Result<(), diesel::r2d2::Error> {
        conn.batch_execute(SESSION).map_err(diesel::r2d2::Error::QueryError)
    }
}
