//! A payment gateway to develop and test against: a small HTTP server with its own tables, never a part of the payments API.
//!
//! Guarantees: calls of one key move money at most once while the key is kept, and the key's answer and the capture or
//! refund commit together, so that a crash leaves both or neither. The books (`GET /captures`, `GET /refunds`) show what
//! really happened, a key sent again after it was forgotten included: that is then a second capture.
//!
//! Does not guarantee, on purpose: that an answer arrives, that it is quick, or that it is a good one. Each payment method is
//! one way in which a real gateway behaves, as `calls::PaymentMethod` lists them. Nor does it authenticate its callers: keep
//! it on a private address.
//!
//! A call of a key overlaps another until that one is answered, or its client is gone. Calls that overlap within one process
//! get 409, by a set in memory: a crash empties it, so no key can stay blocked, and a slow call holds no connection to the
//! database. What makes the rest right is the key's row, in processes that share the tables too: there, a call that overlaps
//! waits the few milliseconds of the other's transaction, and gets the stored answer.

mod books;
mod calls;
mod http;
mod in_flight;
mod keys;
mod refusal;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use actix_web::web::{self, Data};
use actix_web::{App, HttpResponse, HttpServer};
use diesel::PgConnection;
use diesel::connection::SimpleConnection;
use diesel::r2d2::{ConnectionManager, CustomizeConnection, NopErrorHandler, Pool};

use in_flight::InFlight;

/// How long a call waits for a connection to the database, at the start and later. Less than the 4 s that clients commonly
/// wait for the whole answer, so that they see a 503 and not silence.
const POOL_TIMEOUT: Duration = Duration::from_secs(3);

/// Nothing here takes longer than milliseconds. A process that was stopped in the middle of a transaction must not hold a
/// key's row for longer than a client would wait, and one that waits for it must give up in time to answer.
const SESSION: &str =
    "SET statement_timeout = '3s'; SET lock_timeout = '2s'; SET idle_in_transaction_session_timeout = '3s'";

/// One thread answers while another is busy. Handlers only wait, and the database's work runs in a pool of its own.
const WORKERS: usize = 2;

/// How long idle connections are kept. Longer than clients keep theirs, so that it is the client who closes and none is
/// closed under a call that is just being sent; nginx has the same value.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// How long a graceful stop waits for calls under way, in seconds. Some are held open on purpose and would never end; the
/// others take milliseconds, and the server looks once a second.
const SHUTDOWN_TIMEOUT: u64 = 1;

/// What the sandbox needs to start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where its tables live, in the schema `sandbox`. The user needs the right to create it.
    pub database_url: String,
    /// Where it listens; port 0 takes a free one.
    pub bind: SocketAddr,
    /// How long a key is kept after its first call, by the database's clock. Real gateways keep them for 24 h.
    pub key_ttl: Duration,
    /// How many connections it may hold, at least 1. A call holds one for some milliseconds, however long its answer takes.
    pub pool_size: u32,
}

/// A sandbox that listens.
pub struct Running {
    /// Where it listens, the port resolved.
    pub addr: SocketAddr,
    /// The server: runs while it is polled, ends after a stop. It takes no signals.
    pub server: Server,
    /// Stops the server. Calls under way get a second, then their connections close.
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
    /// The address can't be used.
    #[error("the sandbox gateway cannot listen on {bind}: {source}")]
    Bind {
        /// The address asked for.
        bind: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
}

/// What every handler shares.
struct Sandbox {
    pool: Pool<ConnectionManager<PgConnection>>,
    key_ttl: Duration,
    in_flight: InFlight,
}

/// Creates the tables where they are missing, and listens. Answers begin once the returned server is polled.
///
/// Blocks while it connects, some seconds when the database is away: call it before there is other work, or from a thread
/// that may block.
///
/// # Errors
/// [`Error`] when the database, its tables or the address can't be had.
pub fn start(config: Config) -> Result<Running, Error> {
    let pool = Pool::builder()
        .max_size(config.pool_size)
        .connection_timeout(POOL_TIMEOUT)
        .connection_customizer(Box::new(Session))
        // The API tells that the database is away, once. The pool would tell of each connection that it tries.
        .error_handler(Box::new(NopErrorHandler))
        .build(ConnectionManager::new(config.database_url))?;
    keys::prepare(&mut *pool.get()?)?;

    let sandbox = Data::new(Sandbox { pool, key_ttl: config.key_ttl, in_flight: InFlight::default() });
    let bind_error = |source| Error::Bind { bind: config.bind, source };
    let listening = HttpServer::new(move || App::new().app_data(sandbox.clone()).configure(routes))
        .workers(WORKERS)
        .keep_alive(KEEP_ALIVE)
        // A client that has left ends its call, so that the call no longer overlaps the next one.
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
    app.app_data(http::json())
        .route("/captures", web::post().to(http::capture))
        .route("/captures", web::get().to(http::captures))
        .route("/refunds", web::post().to(http::refund))
        .route("/refunds", web::get().to(http::refunds))
        .route("/health", web::get().to(HttpResponse::NoContent));
}

/// Sets the time limits of every new connection.
#[derive(Debug)]
struct Session;

impl CustomizeConnection<PgConnection, diesel::r2d2::Error> for Session {
    fn on_acquire(&self, conn: &mut PgConnection) -> Result<(), diesel::r2d2::Error> {
        conn.batch_execute(SESSION).map_err(diesel::r2d2::Error::QueryError)
    }
}
