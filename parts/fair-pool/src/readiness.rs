// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether the database can serve: it answers, takes writes, and has every migration that this program knows.
//!
//! Guarantees: a check has its own connection, writes nothing, and is shared by all who ask while it runs and for a
//! second after.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use diesel::connection::{AnsiTransactionManager, TransactionManager};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::Text;
use idempotency::Error;
use tokio::sync::Mutex;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::NOBODY;
use super::cause::Cause;
use super::holder::holder;
use super::runner::Runner;
use super::server::Server;
use super::threads::Threads;

/// How long the database may take to answer. Connecting may take two seconds. Orchestrators ask every few seconds, and
/// a slower database serves nobody.
const READY_WITHIN: Duration = Duration::from_secs(3);

/// How long a check's result is shared. Orchestrators ask every few seconds. However often others ask, the database
/// gets one check a second.
const SHARED_FOR: Duration = Duration::from_secs(1);

/// Whether the database can serve, and if not, why.
type Ready = Result<(), Cause>;

/// See [`Settings::is_migrated`](super::Settings).
type IsMigrated = fn(&mut PgConnection) -> QueryResult<bool>;

pub(super) struct Readiness {
    runner: Runner,
    is_migrated: IsMigrated,
    last: Mutex<Option<(Instant, Ready)>>,
    ready: AtomicBool,
}

impl Readiness {
    pub fn new(url: &Arc<str>, server: &Arc<Server>, threads: &Arc<Threads>, is_migrated: IsMigrated) -> Self {
        let runner = Runner::new(1, READY_WITHIN, url, server, threads);
        Self { runner, is_migrated, last: Mutex::default(), ready: AtomicBool::new(false) }
    }

    /// Whether the database can serve, and if not, why.
    pub async fn check(&self) -> Ready {
        let mut last = self.last.lock().await;
        if let Some((looked, ready)) = *last
            && looked.elapsed() < SHARED_FOR
        {
            return ready;
        }
        let ready = self.look().await;
        self.ready.store(ready.is_ok(), Ordering::Relaxed);
        *last = Some((Instant::now(), ready));
        ready
    }

    /// Whether the last check found that the database can serve. Does not wait.
    pub fn was_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    async fn look(&self) -> Ready {
        // While connecting fails, only a fresh connection shows that it succeeds again.
        let (renew, is_migrated) = (self.runner.server.outages.away().is_some(), self.is_migrated);
        let ready = match self.ask(move |conn| look(conn, renew, is_migrated)).await {
            Ok(Ok(ready)) => ready,
            // The pool has reported the cause already.
            Ok(Err(cause)) => return Err(cause),
            Err(_) => Err(Cause::Silent),
        };
        self.runner.server.looked(ready);
        ready
    }

    /// Looks up who holds the lock that requests wait for, and logs it.
    pub async fn tell_lock(&self) {
        // Without an answer, the line has only PostgreSQL's words.
        let holder = self.ask(holder).await.ok().and_then(Result::ok).flatten();
        if let Some(line) = self.runner.server.outages.tell_lock(holder.as_deref(), Instant::now()) {
            line.tell();
        }
    }

    /// Asks over readiness's connection. A failure that says nothing about the server is a defect.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut PgConnection) -> QueryResult<T> + Send + 'static,
    ) -> Result<Result<T, Cause>, Elapsed> {
        let asked = self.runner.run(NOBODY, |conn| Ok::<_, Error>(question(conn)));
        let answer = timeout(READY_WITHIN, asked).await?;
        Ok(match answer {
            Ok(answer) => answer.map_err(|error| {
                Cause::of(&error).unwrap_or_else(|| {
                    log::error!("internal error: {error}");
                    Cause::Unreachable
                })
            }),
            Err(error) => Err(Cause::of_refused(&error).unwrap_or(Cause::Unreachable)),
        })
    }
}

diesel::define_sql_function! {
    /// PostgreSQL's function.
    fn current_setting(name: Text) -> Text;
}

fn look(conn: &mut PgConnection, renew: bool, is_migrated: IsMigrated) -> QueryResult<Ready> {
    let read_only: String = diesel::select(current_setting("transaction_read_only")).get_result(conn)?;
    let is_read_only = read_only == "on";
    let ready = if is_read_only {
        Err(Cause::ReadOnly)
    } else if is_migrated(conn)? {
        Ok(())
    } else {
        Err(Cause::MigrationsPending)
    };
    if is_read_only || renew {
        // This makes the pool close the connection, which may stay read-only after a fail-over.
        AnsiTransactionManager::transaction_manager_status_mut(conn).set_in_error();
    }
    Ok(ready)
}
