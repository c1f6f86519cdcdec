// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why the database does not serve a piece of work: a fixed list of causes, and how each is recognised.
//!
//! Guarantees: a cause's name and detail contain no secret, and nothing that a client or the server's settings chose.
//! Only the log has PostgreSQL's own words.

use diesel::result::Error as Diesel;
use idempotency::{Error, Fault, fault};
use log::Level;

/// Why the database does not serve a piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// No connection can be opened.
    Unreachable,
    /// It accepts everything and does not answer.
    Silent,
    /// It is a standby, or was made read-only.
    ReadOnly,
    /// It, or a pooler in front of it, accepts no more connections.
    TooManyConnections,
    /// The disk is full.
    DiskFull,
    /// The server, or its table of locks, has no memory left.
    OutOfMemory,
    /// Another transaction held a lock for too long.
    LockTimeout,
    /// A statement took too long, or a person canceled it.
    StatementTimeout,
    /// Work got no turn to use a connection.
    Queue,
    /// A connection was cut. Most work runs again over a fresh one.
    ConnectionLost,
    /// A migration of this program is missing.
    MigrationsPending,
}

/// What the messages of PostgreSQL, libpq and poolers say.
const MESSAGES: [(&str, Cause); 13] = [
    ("recovery is in progress", Cause::ReadOnly),
    ("read-only transaction", Cause::ReadOnly),
    ("too many clients", Cause::TooManyConnections),
    ("too many connections for", Cause::TooManyConnections),
    ("remaining connection slots", Cause::TooManyConnections),
    // PgBouncer: its clients, and a client that waited for a connection to the server.
    ("no more connections allowed", Cause::TooManyConnections),
    ("query_wait_timeout", Cause::TooManyConnections),
    ("timeout expired", Cause::Silent),
    ("due to lock timeout", Cause::LockTimeout),
    ("canceling statement", Cause::StatementTimeout),
    ("out of memory", Cause::OutOfMemory),
    ("out of shared memory", Cause::OutOfMemory),
    ("the database system is", Cause::Unreachable),
];

/// The most characters of PostgreSQL's words in a line. The message about a host whose two addresses refuse connections
/// has half of them.
const WORDS_SHOWN: usize = 400;

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 11] = [
        Self::Unreachable,
        Self::Silent,
        Self::ReadOnly,
        Self::TooManyConnections,
        Self::DiskFull,
        Self::OutOfMemory,
        Self::LockTimeout,
        Self::StatementTimeout,
        Self::Queue,
        Self::ConnectionLost,
        Self::MigrationsPending,
    ];

    /// The name for the log, for metrics, and for an answer about readiness.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.facts().0
    }

    /// What is wrong, in words that anybody may read.
    #[must_use]
    pub fn detail(self) -> &'static str {
        self.facts().2
    }

    /// The level of its first line: an error if no request that writes can succeed. After a lost connection the work
    /// runs again, and the other warnings affect only some requests.
    pub(super) fn level(self) -> Level {
        self.facts().1
    }

    fn facts(self) -> (&'static str, Level, &'static str) {
        match self {
            Self::Unreachable => ("unreachable", Level::Error, "the database can't be reached"),
            Self::Silent => ("silent", Level::Error, "the database does not answer"),
            Self::ReadOnly => ("read_only", Level::Error, "the database is read-only"),
            Self::TooManyConnections => {
                ("too_many_connections", Level::Error, "the database accepts no more connections")
            }
            Self::DiskFull => ("disk_full", Level::Error, "the database has no room left"),
            Self::OutOfMemory => ("out_of_memory", Level::Error, "the database has no memory left"),
            Self::LockTimeout => ("lock_timeout", Level::Warn, "requests wait too long for a lock in the database"),
            Self::StatementTimeout => ("statement_timeout", Level::Warn, "statements in the database take too long"),
            Self::Queue => ("queue", Level::Warn, "requests find no free connection"),
            Self::ConnectionLost => {
                ("connection_lost", Level::Warn, "connections to the database are lost and made anew")
            }
            Self::MigrationsPending => ("migrations_pending", Level::Error, "migrations of this release are missing"),
        }
    }

    /// Whether work gets no connection while the cause lasts.
    pub(super) fn is_away(self) -> bool {
        matches!(self, Self::Unreachable | Self::Silent | Self::TooManyConnections)
    }

    /// The cause of a failed statement.
    #[must_use]
    pub fn of(error: &Diesel) -> Option<Self> {
        let message = match error {
            Diesel::RollbackErrorOnCommit { commit_error, .. } => return Self::of(commit_error),
            Diesel::DatabaseError(_, information) => information.message(),
            _ => "",
        };
        let otherwise = match fault(error) {
            Fault::Reconnect => Self::ConnectionLost,
            // A full disk has several messages, so [`MESSAGES`] lists none.
            Fault::Unavailable => Self::DiskFull,
            Fault::RunAgain | Fault::Other => return None,
        };
        Some(Self::said(message).unwrap_or(otherwise))
    }

    /// Why a connection could not be opened.
    pub(super) fn of_connecting(message: &str) -> Self {
        Self::said(message).filter(|cause| cause.is_away()).unwrap_or(Self::Unreachable)
    }

    fn said(message: &str) -> Option<Self> {
        MESSAGES.iter().find(|(words, _)| message.contains(words)).map(|(_, cause)| *cause)
    }

    /// The error of work that got no connection or no answer.
    pub(super) fn error(self, words: &str) -> Error {
        Error::Unreachable(format!("{}: {words}", self.detail()))
    }

    /// Why work got no turn, no connection, or no answer in time.
    #[must_use]
    pub fn of_refused(error: &Error) -> Option<Self> {
        match error {
            Error::Overloaded => Some(Self::Queue),
            // [`Cause::error`] wrote the text.
            Error::Unreachable(text) => Self::ALL.into_iter().find(|cause| text.starts_with(cause.detail())),
            _ => None,
        }
    }
}

/// PostgreSQL's message, for the log. Its detail is left out, since it may show values.
pub(super) fn words_of(error: &Diesel) -> String {
    match error {
        Diesel::DatabaseError(_, information) => information.message().to_owned(),
        other => other.to_string(),
    }
}

/// One line of at most `WORDS_SHOWN` characters.
#[must_use]
pub fn one_line(words: &str) -> String {
    let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(WORDS_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use diesel::result::DatabaseErrorKind;

    use super::*;

    fn of(message: &str) -> Option<Cause> {
        Cause::of(&Diesel::DatabaseError(DatabaseErrorKind::Unknown, Box::new(message.to_owned())))
    }

    #[test]
    fn postgresqls_message_shows_the_cause() {
        for (message, cause) in [
            ("canceling statement due to lock timeout", Some(Cause::LockTimeout)),
            ("canceling statement due to statement timeout", Some(Cause::StatementTimeout)),
            ("canceling statement due to user request", Some(Cause::StatementTimeout)),
            ("could not extend file \"base/1/2\": No space left on device", Some(Cause::DiskFull)),
            ("out of shared memory", Some(Cause::OutOfMemory)),
            ("terminating connection due to administrator command", Some(Cause::ConnectionLost)),
            ("cannot execute INSERT during recovery: recovery is in progress", Some(Cause::ReadOnly)),
            ("the database system is shutting down", Some(Cause::Unreachable)),
            ("deadlock detected", None),
            ("duplicate key value violates unique constraint", None),
        ] {
            assert_eq!(of(message), cause, "{message}");
        }
        let slots = "FATAL: remaining connection slots are reserved for roles with the SUPERUSER attribute";
        assert_eq!(Cause::of_connecting(slots), Cause::TooManyConnections);
        assert_eq!(Cause::of_connecting("connection refused"), Cause::Unreachable);
        assert_eq!(Cause::of_connecting("timeout expired"), Cause::Silent);
    }

    #[test]
    fn a_standby_and_a_lost_commit_have_their_causes() {
        let message = "cannot execute INSERT in a read-only transaction".to_owned();
        let error = Diesel::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, Box::new(message));
        assert_eq!(Cause::of(&error), Some(Cause::ReadOnly));
        let (commit_error, rollback_error) = (Box::new(error), Box::new(Diesel::BrokenTransactionManager));
        let error = Diesel::RollbackErrorOnCommit { rollback_error, commit_error };
        assert_eq!(Cause::of(&error), Some(Cause::ReadOnly));
    }

    #[test]
    fn a_cause_survives_the_pools_error() {
        for cause in Cause::ALL {
            assert_eq!(Cause::of_refused(&cause.error("why")), Some(cause));
        }
    }
}
