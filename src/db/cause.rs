//! Why the database does not serve a piece of work: a fixed list of causes, and how each is recognised.
//!
//! Guarantees: a cause's name and its neutral words hold no secret and nothing that a client or the server's settings chose. Only
//! the log has PostgreSQL's own words.

use diesel::result::{DatabaseErrorKind, Error as Diesel};
use idempotency::{Error, Fault, fault};
use log::Level;

/// Why the database does not serve a piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No connection can be made.
    Unreachable,
    /// It accepts everything and does not answer.
    Silent,
    /// It is a standby, or was made read-only.
    ReadOnly,
    /// It, or a pooler before it, accepts no more connections.
    TooManyConnections,
    /// The disk is full.
    DiskFull,
    /// The server, or its table of locks, has no memory left.
    OutOfMemory,
    /// Another transaction held a lock for too long.
    LockTimeout,
    /// A statement took too long, or a person canceled it.
    StatementTimeout,
    /// Work got no turn at a connection.
    Queue,
    /// A connection was cut. Most work runs again over a fresh one.
    ConnectionLost,
    /// A migration of this program is missing.
    MigrationsPending,
}

/// What the log says of a cause.
struct Words {
    name: &'static str,
    /// How it begins.
    begins: &'static str,
    /// How it ends.
    ends: &'static str,
}

/// Messages of a server, or of a pooler, whose connections are used up.
const TOO_MANY: [&str; 5] = [
    "too many clients",
    "too many connections for",
    "remaining connection slots",
    // PgBouncer: its clients, and a client that waited for a connection to the server.
    "no more connections allowed",
    "query_wait_timeout",
];

/// The most characters of PostgreSQL's words in a line. A refused connection to two addresses of a host has half of them.
const WORDS_SHOWN: usize = 400;

impl Cause {
    /// Every cause. A cause's number is its place.
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

    /// The name in the log, in the metrics, and in the answer of `/health/ready`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.words().name
    }

    /// What is wrong, in words that anybody may read.
    #[must_use]
    pub fn begins(self) -> &'static str {
        self.words().begins
    }

    /// What the log says when it is over.
    pub(super) fn ends(self) -> &'static str {
        self.words().ends
    }

    fn words(self) -> Words {
        let words = |name, begins, ends| Words { name, begins, ends };
        match self {
            Self::Unreachable => words("unreachable", "the database can't be reached", "the database is reached again"),
            Self::Silent => words("silent", "the database does not answer", "the database answers again"),
            Self::ReadOnly => words("read_only", "the database is read-only", "the database takes writes again"),
            Self::TooManyConnections => words(
                "too_many_connections",
                "the database accepts no more connections",
                "the database accepts connections again",
            ),
            Self::DiskFull => {
                words("disk_full", "the database has no room left", "no request meets the full disk any more")
            }
            Self::OutOfMemory => {
                words("out_of_memory", "the database has no memory left", "no request meets the full memory any more")
            }
            Self::LockTimeout => words(
                "lock_timeout",
                "requests wait too long for a lock in the database",
                "no request waits too long for a lock any more",
            ),
            Self::StatementTimeout => words(
                "statement_timeout",
                "statements in the database take too long",
                "no statement takes too long any more",
            ),
            Self::Queue => {
                words("queue", "requests find no free connection", "all requests find a free connection again")
            }
            Self::ConnectionLost => words(
                "connection_lost",
                "connections to the database are lost and made anew",
                "no connection to the database is lost any more",
            ),
            Self::MigrationsPending => words(
                "migrations_pending",
                "migrations of this release are missing",
                "no migration is missing any more",
            ),
        }
    }

    /// The level of the line that begins it. An error: no request that writes can succeed. After a lost connection, the work runs
    /// again; the others concern some requests.
    pub(super) fn level(self) -> Level {
        match self {
            Self::LockTimeout | Self::StatementTimeout | Self::Queue | Self::ConnectionLost => Level::Warn,
            _ => Level::Error,
        }
    }

    /// Whether work is refused without a connection while it lasts.
    pub(super) fn is_away(self) -> bool {
        matches!(self, Self::Unreachable | Self::Silent | Self::TooManyConnections)
    }

    /// Whether the program itself finds out that it is over. Of the others, only a request that no longer meets it can tell.
    pub(super) fn is_probed(self) -> bool {
        self.is_away() || matches!(self, Self::ReadOnly | Self::MigrationsPending)
    }

    /// The cause of a failed statement.
    #[must_use]
    pub fn of(error: &Diesel) -> Option<Self> {
        let met = fault(error);
        if !matches!(met, Fault::Reconnect | Fault::Unavailable) {
            return None;
        }
        Some(match error {
            Diesel::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, _) => Self::ReadOnly,
            Diesel::DatabaseError(_, information) => Self::of_message(met, information.message()),
            Diesel::RollbackErrorOnCommit { commit_error, .. } => return Self::of(commit_error),
            _ => Self::ConnectionLost,
        })
    }

    fn of_message(met: Fault, message: &str) -> Self {
        let says = |phrases: &[&str]| phrases.iter().any(|phrase| message.contains(phrase));
        match met {
            _ if says(&["recovery is in progress", "read-only transaction"]) => Self::ReadOnly,
            _ if says(&TOO_MANY) => Self::TooManyConnections,
            Fault::Reconnect => Self::ConnectionLost,
            _ if says(&["due to lock timeout"]) => Self::LockTimeout,
            _ if says(&["canceling statement"]) => Self::StatementTimeout,
            _ if says(&["out of memory", "out of shared memory"]) => Self::OutOfMemory,
            _ if says(&["the database system is"]) => Self::Unreachable,
            // What is left of `Fault::Unavailable` is a full disk, in several words.
            _ => Self::DiskFull,
        }
    }

    /// The cause of a connection that could not be made.
    pub(super) fn of_connecting(message: &str) -> Self {
        if TOO_MANY.iter().any(|phrase| message.contains(phrase)) {
            Self::TooManyConnections
        } else if message.contains("timeout expired") {
            Self::Silent
        } else {
            Self::Unreachable
        }
    }

    /// Work that had no connection, or no answer.
    pub(super) fn error(self, words: &str) -> Error {
        Error::Unreachable(format!("{}: {words}", self.begins()))
    }

    /// The cause of an error that `Cause::error` made.
    #[must_use]
    pub fn of_unreachable(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| text.starts_with(cause.begins()))
    }
}

/// PostgreSQL's message, for the log. Its detail is left out, since it may show values.
pub(super) fn words_of(error: &Diesel) -> String {
    match error {
        Diesel::DatabaseError(_, information) => shown(information.message()),
        other => shown(&other.to_string()),
    }
}

/// One line of at most `WORDS_SHOWN` characters.
pub(super) fn shown(words: &str) -> String {
    let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(WORDS_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(message: &str) -> Option<Cause> {
        Cause::of(&Diesel::DatabaseError(DatabaseErrorKind::Unknown, Box::new(message.to_owned())))
    }

    #[test]
    fn postgresqls_words_tell_the_cause() {
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
    fn a_cause_survives_the_way_through_the_error_of_the_pool() {
        for (place, cause) in Cause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, place);
            let Error::Unreachable(text) = cause.error("why") else { panic!("{cause:?}") };
            assert_eq!(Cause::of_unreachable(&text), Some(cause));
        }
    }
}
