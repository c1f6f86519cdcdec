// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the protocol needs from a connection: its limits, statements that are planned once, and what its errors mean.
//!
//! Diesel has types for only some SQLSTATEs. This code recognises the others by their messages, so the server's
//! messages must be in English (`lc_messages`), as they are by default in every distribution and image.

use std::sync::{Arc, OnceLock};

use diesel::connection::{
    AnsiTransactionManager, Connection, Instrumentation as _, InstrumentationEvent, TransactionManager,
    get_default_instrumentation,
};
use diesel::pg::{Pg, PgConnection};
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::{DatabaseErrorKind, Error};

/// The limits of every connection, and the isolation of a single statement: one batch of statements for a new connection.
///
/// A statement ends after 5 s, and a wait for a lock after 3 s: by then, the client has given up. If the process goes
/// silent inside a transaction, the transaction ends after 5 s and frees its keys and rows. If a host vanishes from the
/// network, the server notices after 8 s: 5 s of silence and 3 probes a second apart, or 8 s after data that nobody
/// acknowledged.
pub const CONNECTION_LIMITS: &str = "SET statement_timeout = '5s'; SET lock_timeout = '3s'; \
     SET default_transaction_isolation = 'read committed'; \
     SET idle_in_transaction_session_timeout = '5s'; SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 1; \
     SET tcp_keepalives_count = 3; SET tcp_user_timeout = '8s'";

/// What to do about a database error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A deadlock or a serialization failure: the whole transaction may run again.
    RunAgain,
    /// The connection is lost, or its server is read-only, or its plans are of an older schema. The whole transaction may run
    /// again, over another connection. This connection must be closed: see [`watched`].
    Reconnect,
    /// A time limit of the connection was reached, or the server is going down or full: try later.
    Unavailable,
    /// Anything else: a constraint, or a defect.
    Other,
}

impl Fault {
    /// Whether the whole transaction may run again at once.
    #[must_use]
    pub fn runs_again(self) -> bool {
        matches!(self, Self::RunAgain | Self::Reconnect)
    }
}

/// Classifies a database error.
#[must_use]
pub fn fault(error: &Error) -> Fault {
    match error {
        Error::BrokenTransactionManager => Fault::Reconnect,
        // COMMIT failed, and the ROLLBACK that Diesel sends after it failed too. COMMIT's error counts.
        Error::RollbackErrorOnCommit { commit_error, .. } => fault(commit_error),
        Error::DatabaseError(DatabaseErrorKind::SerializationFailure, _) => Fault::RunAgain,
        // This comes before the kind. The SQLSTATE says "connection closed", but our connection to the coordinator is good.
        Error::DatabaseError(_, information) if information.message().contains(LOST_WORKER) => Fault::RunAgain,
        // A connection opened while the server was read-only stays read-only after a fail-over.
        Error::DatabaseError(DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::ReadOnlyTransaction, _) => {
            Fault::Reconnect
        }
        Error::DatabaseError(_, information) => by_message(information.message()),
        _ => Fault::Other,
    }
}

/// The coordinator of a Citus cluster says this when a worker does not answer.
const LOST_WORKER: &str = "connection to the remote node";

fn by_message(message: &str) -> Fault {
    const RUN_AGAIN: [&str; 3] = [
        "deadlock detected",
        // Citus: a deadlock over several nodes, and a worker that was lost at COMMIT. The next claim shows what was
        // committed.
        "was involved in a distributed deadlock",
        "could not commit transaction for shard",
    ];
    const RECONNECT: [&str; 10] = [
        // libpq, if the connection is gone. Diesel gives these errors no kind.
        "server closed the connection unexpectedly",
        "terminating connection",
        "no connection to the server",
        "connection not open",
        "could not receive data from server",
        "could not send data to server",
        // A standby.
        "recovery is in progress",
        // A migration changed the columns of a prepared statement, whose result type is fixed.
        "cached plan must not change result type",
        // Something removed the prepared statements (a connection pooler, DEALLOCATE ALL), or prepared others under
        // these names.
        "prepared statement \"__diesel_stmt_",
        "lost synchronization with server",
    ];
    const UNAVAILABLE: [&str; 13] = [
        "canceling statement due to statement timeout",
        "canceling statement due to lock timeout",
        "canceling statement due to user request",
        "the database system is",
        "too many clients",
        "too many connections for",
        "remaining connection slots",
        // SQLSTATE class 53, insufficient resources. The first four are messages of a full disk.
        "No space left on device",
        "Disk quota exceeded",
        "could not extend file",
        "disk full",
        "out of memory",
        "out of shared memory",
    ];
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| message.contains(phrase));
    match message {
        _ if says(&RUN_AGAIN) => Fault::RunAgain,
        _ if says(&RECONNECT) => Fault::Reconnect,
        _ if says(&UNAVAILABLE) => Fault::Unavailable,
        _ => Fault::Other,
    }
}

/// Runs `work`. After a [`Fault::Reconnect`] the pool must not use the connection again. Returns the message of the first such
/// fault too, for the log.
///
/// It marks the connection's transaction manager as broken, so that r2d2, like every pool that asks Diesel, closes the
/// connection.
pub fn watched<R>(conn: &mut PgConnection, work: impl FnOnce(&mut PgConnection) -> R) -> (R, Option<String>) {
    let cause = Arc::new(OnceLock::new());
    let found = Arc::clone(&cause);
    on_error(conn, move |error| {
        if fault(error) == Fault::Reconnect {
            found.get_or_init(|| error.to_string());
        }
    });
    let result = work(conn);
    let why = cause.get().cloned();
    if why.is_some() {
        AnsiTransactionManager::transaction_manager_status_mut(conn).set_in_error();
    }
    (result, why)
}

/// From now on, passes each error of the connection's statements, COMMIT included, to `see`: for a pool that decides for
/// itself.
///
/// It replaces the connection's instrumentation, and passes each event on to Diesel's default one.
pub fn on_error(conn: &mut PgConnection, mut see: impl FnMut(&Error) + Send + 'static) {
    let mut default = get_default_instrumentation();
    conn.set_instrumentation(move |event: InstrumentationEvent<'_>| {
        if let InstrumentationEvent::FinishQuery { error: Some(error), .. } = &event {
            see(error);
        }
        if let Some(default) = &mut default {
            default.on_connection_event(event);
        }
    });
}

/// A statement that each connection plans once.
///
/// Diesel sends each UPDATE unprepared, since the text of an UPDATE may vary with its values, so PostgreSQL plans it
/// again each time. The cache of prepared statements is keyed by the text: use `Prepared` only for a statement with few
/// different texts.
///
/// Use `get_result` or `load`, with RETURNING. Don't call `execute`: Diesel then ignores `Prepared`.
pub struct Prepared<Q>(pub Q);

impl<Q> QueryId for Prepared<Q> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Q: Query> Query for Prepared<Q> {
    type SqlType = Q::SqlType;
}

impl<Q> RunQueryDsl<PgConnection> for Prepared<Q> {}

impl<Q: QueryFragment<Pg>> QueryFragment<Pg> for Prepared<Q> {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.0.walk_ast(out)
    }

    fn is_safe_to_cache_prepared(&self, _: &Pg) -> QueryResult<bool> {
        Ok(true)
    }
}
