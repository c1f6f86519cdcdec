//! What the protocol needs of a connection: its limits, statements that are planned once, and what its errors mean.
//!
//! Diesel types only some SQLSTATEs; the others are told by their message, so the server must speak English
//! (`lc_messages`, as every distribution's and image's default does).

use std::sync::{Arc, OnceLock};

use diesel::connection::{
    AnsiTransactionManager, Connection, Instrumentation as _, InstrumentationEvent, TransactionManager,
    get_default_instrumentation,
};
use diesel::pg::{Pg, PgConnection};
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::{DatabaseErrorKind, Error};

/// The limits that every connection must set, as one batch of statements for when it is opened, and the isolation that a
/// single statement gets.
///
/// A statement ends after 5 s and a wait for a lock after 3 s: beyond that the client has given up. A transaction whose
/// client went silent ends after 5 s, and with it its hold on keys and rows; a host that vanished from the network is
/// noticed within 5 s of silence plus 3 probes a second apart, or 8 s after data was sent into the void.
pub const CONNECTION_LIMITS: &str = "SET statement_timeout = '5s'; SET lock_timeout = '3s'; \
     SET default_transaction_isolation = 'read committed'; \
     SET idle_in_transaction_session_timeout = '5s'; SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 1; \
     SET tcp_keepalives_count = 3; SET tcp_user_timeout = '8s'";

/// What to do about a database error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A deadlock or a serialization failure: the whole transaction may run again.
    RunAgain,
    /// The connection is lost, or its server only reads, or it holds plans of an older schema: the whole transaction may run
    /// again, over another connection. This connection is of no more use: see [`watched`].
    Reconnect,
    /// A time limit of the connection was hit, or the server is going down or full: later.
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

/// Tells the kinds of database errors apart.
#[must_use]
pub fn fault(error: &Error) -> Fault {
    match error {
        Error::BrokenTransactionManager => Fault::Reconnect,
        // COMMIT failed, and so did the ROLLBACK that Diesel sends after it: what counts is why COMMIT did.
        Error::RollbackErrorOnCommit { commit_error, .. } => fault(commit_error),
        Error::DatabaseError(DatabaseErrorKind::SerializationFailure, _) => Fault::RunAgain,
        // Before the kind: the SQLSTATE is that of a closed connection, but ours to the coordinator is sound.
        Error::DatabaseError(_, information) if information.message().contains(LOST_WORKER) => Fault::RunAgain,
        // After a fail-over, a connection made while the server was read-only stays so.
        Error::DatabaseError(DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::ReadOnlyTransaction, _) => {
            Fault::Reconnect
        }
        Error::DatabaseError(_, information) => by_message(information.message()),
        _ => Fault::Other,
    }
}

/// What the coordinator of a Citus cluster says when a worker does not answer.
const LOST_WORKER: &str = "connection to the remote node";

fn by_message(message: &str) -> Fault {
    // Citus' nodes look for deadlocks among each other, too.
    const RUN_AGAIN: [&str; 2] = ["deadlock detected", "was involved in a distributed deadlock"];
    const RECONNECT: [&str; 10] = [
        // What libpq says when the connection is gone; Diesel passes these on without a kind.
        "server closed the connection unexpectedly",
        "terminating connection",
        "no connection to the server",
        "connection not open",
        "could not receive data from server",
        "could not send data to server",
        // A standby, in other words than those that have a SQLSTATE of their own.
        "recovery is in progress",
        // A migration changed the columns of a prepared statement. Planning afresh does not help: the statement's result
        // type is fixed.
        "cached plan must not change result type",
        // Whatever is between us and the server (a connection pooler, DEALLOCATE ALL) took the prepared statements away, or
        // has others of these names.
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
        // SQLSTATE class 53, insufficient resources. A full disk says so in one of these ways.
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

/// Runs `work` and sees to it that the connection is not used again after a [`Fault::Reconnect`]. Returns why, too, for the
/// log: the message of the first such fault, if there was one.
///
/// On purpose: it marks the connection's transaction manager as broken, so that r2d2, and every pool that asks Diesel
/// whether a connection is broken, closes the connection instead of keeping it. It takes the place of the connection's
/// instrumentation, and passes each event on to Diesel's default one.
pub fn watched<R>(conn: &mut PgConnection, work: impl FnOnce(&mut PgConnection) -> R) -> (R, Option<String>) {
    let cause = Arc::new(OnceLock::new());
    let found = Arc::clone(&cause);
    let mut default = get_default_instrumentation();
    conn.set_instrumentation(move |event: InstrumentationEvent<'_>| {
        if let InstrumentationEvent::FinishQuery { error: Some(error), .. } = &event
            && fault(error) == Fault::Reconnect
        {
            found.get_or_init(|| error.to_string());
        }
        if let Some(default) = &mut default {
            default.on_connection_event(event);
        }
    });
    let result = work(conn);
    let why = cause.get().cloned();
    if why.is_some() {
        AnsiTransactionManager::transaction_manager_status_mut(conn).set_in_error();
    }
    (result, why)
}

/// A statement that PostgreSQL plans once a connection.
///
/// Diesel sends each UPDATE unprepared, to be planned again, since the text of an UPDATE may vary with its values. The cache
/// of prepared statements goes by the text here, so a text that varies is another entry: use it only where there are few.
///
/// Use `get_result` or `load`, with RETURNING. Diesel's `execute` looks at a reference to the statement, and so past this.
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
