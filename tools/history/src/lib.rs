//! A history is what clients of the payments API saw: each request with its call, its return and its answer, what reads and
//! lists gave, the gateway's books, and the faults. [`check`] judges it by the contract alone. It knows neither the
//! server's tables nor its code.
//!
//! A history is a file with one JSON object per line. [`shrink`] cuts a history that breaks a rule down to a small one
//! that breaks it in the same way.

mod facts;
mod line;
mod rules;
mod shrink;
mod telling;

pub use self::facts::Facts;
pub use self::line::{Answer, Book, Books, Fault, Line, Object, Read, Request, Row, Span, read, write};
pub use self::rules::{RULES, Rule, check, check_by};
pub use self::shrink::shrink;
pub use self::telling::report;

/// A rule that the history breaks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// The rule, as a sentence.
    pub rule: &'static str,
    /// What broke it. It names everything that is counted or compared, so that a smaller history that breaks the rule in
    /// another way has another text.
    pub what: String,
}
