//! Whether the database can serve: it answers, takes writes, and has every migration that this program knows.
//!
//! Guarantees: a look has its own connection, writes nothing, and is shared by all who ask while it runs and for a second after.

use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::connection::{AnsiTransactionManager, TransactionManager};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::Text;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::NOBODY;
use super::connection::Server;
use super::migrate::{applied, known};
use super::pool::{Connections, Threads};
use crate::http::ApiError;

/// How long the database may take to answer. A connection may take two seconds. Orchestrators ask every few seconds, and a
/// slower database serves nobody.
const READY_WITHIN: Duration = Duration::from_secs(3);

/// Orchestrators ask every few seconds. However often others ask, the database has one look a second.
const SHARED_FOR: Duration = Duration::from_secs(1);

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The database can serve.
    Ready,
    /// It is a standby, or was made read-only.
    ReadOnly,
    /// A migration of this program is missing.
    MigrationsPending,
    /// It can't be reached, or did not answer in time.
    Away,
}

pub(super) struct Readiness {
    connections: Connections,
    last: Mutex<Option<(Instant, Standing)>>,
}

impl Readiness {
    pub fn new(server: &Arc<Server>, threads: &Arc<Threads>) -> Self {
        Self { connections: Connections::new(1, READY_WITHIN, server, threads), last: Mutex::default() }
    }

    pub async fn standing(&self) -> Standing {
        let mut last = self.last.lock().await;
        if let Some((looked, standing)) = *last
            && looked.elapsed() < SHARED_FOR
        {
            return standing;
        }
        let standing = match timeout(READY_WITHIN, self.connections.run(NOBODY, look)).await {
            Ok(Ok(standing)) => standing,
            Ok(Err(_)) | Err(_) => Standing::Away,
        };
        *last = Some((Instant::now(), standing));
        standing
    }
}

diesel::define_sql_function! {
    /// PostgreSQL's function.
    fn current_setting(name: Text) -> Text;
}

fn look(conn: &mut PgConnection) -> Result<Standing, ApiError> {
    let read_only: String = diesel::select(current_setting("transaction_read_only")).get_result(conn)?;
    if read_only == "on" {
        // A connection may stay read-only after a fail-over, so the pool closes this one.
        AnsiTransactionManager::transaction_manager_status_mut(conn).set_in_error();
        return Ok(Standing::ReadOnly);
    }
    let applied = match applied(conn) {
        Err(diesel::result::Error::DatabaseError(_, cause)) if cause.message().contains("does not exist") => vec![],
        applied => applied?,
    };
    let pending = known().map_err(ApiError::internal)?.iter().any(|version| !applied.contains(version));
    Ok(if pending { Standing::MigrationsPending } else { Standing::Ready })
}
