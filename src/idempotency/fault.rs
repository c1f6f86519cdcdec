//! What a database error means for the transaction that met it.
//!
//! Diesel types only some SQLSTATEs; the others are told by their message, so the server must speak English
//! (`lc_messages`, as every distribution's and image's default does).

use diesel::result::{DatabaseErrorKind, Error};

/// What to do about a database error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A deadlock, a serialization failure or a lost connection: the whole transaction may run again.
    RunAgain,
    /// A time limit of the connection was hit, or the server is going down or full: later.
    Unavailable,
    /// Anything else: a constraint, or a defect.
    Other,
}

/// Tells the kinds of database errors apart.
#[must_use]
pub fn fault(error: &Error) -> Fault {
    match error {
        Error::BrokenTransactionManager => Fault::RunAgain,
        // COMMIT failed, and so did the ROLLBACK that Diesel sends after it: what counts is why COMMIT did.
        Error::RollbackErrorOnCommit { commit_error, .. } => fault(commit_error),
        Error::DatabaseError(DatabaseErrorKind::SerializationFailure | DatabaseErrorKind::ClosedConnection, _) => {
            Fault::RunAgain
        }
        Error::DatabaseError(_, information) => by_message(information.message()),
        _ => Fault::Other,
    }
}

fn by_message(message: &str) -> Fault {
    const RUN_AGAIN: [&str; 6] = [
        "deadlock detected",
        // What libpq says when the connection is gone; Diesel passes these on without a kind.
        "server closed the connection unexpectedly",
        "terminating connection",
        "no connection to the server",
        "could not receive data from server",
        "could not send data to server",
    ];
    const UNAVAILABLE: [&str; 7] = [
        "canceling statement due to statement timeout",
        "canceling statement due to lock timeout",
        "canceling statement due to user request",
        "the database system is",
        "too many clients",
        "remaining connection slots",
        "cannot execute",
    ];
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| message.contains(phrase));
    match message {
        _ if says(&RUN_AGAIN) => Fault::RunAgain,
        _ if says(&UNAVAILABLE) => Fault::Unavailable,
        _ => Fault::Other,
    }
}
