//! Whether the database can serve: it answers, takes writes, and has every migration that this program knows.
//!
//! Guarantees: a look has its own connection, writes nothing, and is shared by all who ask while it runs and for a second after.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use diesel::connection::{AnsiTransactionManager, TransactionManager};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::Text;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::NOBODY;
use super::cause::{Cause, Standing};
use super::holder::holder;
use super::migrate::{applied, known};
use super::pool::{Connections, Threads};
use super::server::Server;
use crate::http::ApiError;

/// How long the database may take to answer. A connection may take two seconds. Orchestrators ask every few seconds, and a
/// slower database serves nobody.
const READY_WITHIN: Duration = Duration::from_secs(3);

/// Orchestrators ask every few seconds. However often others ask, the database has one look a second.
const SHARED_FOR: Duration = Duration::from_secs(1);

pub(super) struct Readiness {
    connections: Connections,
    server: Arc<Server>,
    last: Mutex<Option<(Instant, Standing)>>,
    ready: AtomicBool,
}

impl Readiness {
    pub fn new(server: &Arc<Server>, threads: &Arc<Threads>) -> Self {
        let connections = Connections::new(1, READY_WITHIN, server, threads);
        Self { connections, server: Arc::clone(server), last: Mutex::default(), ready: AtomicBool::new(false) }
    }

    /// Whether the database can serve, and if not, why.
    pub async fn standing(&self) -> Standing {
        let mut last = self.last.lock().await;
        if let Some((looked, standing)) = *last
            && looked.elapsed() < SHARED_FOR
        {
            return standing;
        }
        let standing = self.look().await;
        self.ready.store(standing.is_ok(), Ordering::Relaxed);
        *last = Some((Instant::now(), standing));
        standing
    }

    /// Whether the last look found that the database can serve. Does not wait.
    pub fn was_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    async fn look(&self) -> Standing {
        // While connections fail, only a fresh one tells that they succeed again.
        let renew = self.server.outages.away().is_some();
        let standing = match timeout(READY_WITHIN, self.connections.run(NOBODY, move |conn| look(conn, renew))).await {
            Ok(Ok(standing)) => standing,
            // The pool has told the cause.
            Ok(Err(error)) => return Err(error.cause().unwrap_or(Cause::Unreachable)),
            Err(_) => Err(Cause::Silent),
        };
        self.server.looked(standing);
        standing
    }

    /// Looks who holds the lock that requests wait for, and writes the line about it.
    pub async fn tell_lock(&self) {
        let look = self.connections.run(NOBODY, |conn| holder(conn).map_err(ApiError::from));
        let looked = timeout(READY_WITHIN, look).await;
        // Without an answer, PostgreSQL's words are all there is.
        let holder = looked.ok().and_then(Result::ok).flatten();
        if let Some(line) = self.server.outages.tell_lock(holder.as_deref(), Instant::now()) {
            line.tell();
        }
    }
}

diesel::define_sql_function! {
    /// PostgreSQL's function.
    fn current_setting(name: Text) -> Text;
}

fn look(conn: &mut PgConnection, renew: bool) -> Result<Standing, ApiError> {
    let read_only: String = diesel::select(current_setting("transaction_read_only")).get_result(conn)?;
    let is_read_only = read_only == "on";
    if is_read_only || renew {
        // The pool closes this connection. It may stay read-only after a fail-over.
        AnsiTransactionManager::transaction_manager_status_mut(conn).set_in_error();
    }
    if is_read_only {
        return Ok(Err(Cause::ReadOnly));
    }
    let applied = match applied(conn) {
        Err(diesel::result::Error::DatabaseError(_, cause)) if cause.message().contains("does not exist") => vec![],
        applied => applied?,
    };
    let pending = known().map_err(ApiError::internal)?.iter().any(|version| !applied.contains(version));
    Ok(if pending { Err(Cause::MigrationsPending) } else { Ok(()) })
}
