//! The lines of a history.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum Line {
    /// A client sent a request with a key.
    Request(Request),
    /// A client read one object by its id.
    Read(Read),
    /// A client read a whole book. Its rows are separate lines.
    Book(Book),
    /// A row of a book.
    Row(Row),
    /// Something was broken.
    Fault(Fault),
}

/// From the request's first byte to the answer's last, in microseconds since the history began. The server acted
/// somewhere in between, or, if there was no answer, at any time after the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// When the request was sent.
    pub called: u64,
    /// When the answer was complete.
    pub returned: u64,
}

impl Span {
    /// Whether it returned before the other was called.
    #[must_use]
    pub fn is_before(&self, other: &Self) -> bool {
        self.returned < other.called
    }
}

/// A request with a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// When.
    #[serde(flatten)]
    pub span: Span,
    /// Whose key it is.
    pub account: String,
    /// The space in which the key is unique: `account`, or the path for a resource.
    pub scope: String,
    /// The key.
    pub key: String,
    /// Method and path.
    pub route: String,
    /// The body as it was sent. Two requests of a key are the same if route and body are.
    pub body: String,
    /// None if no answer came.
    pub answer: Option<Answer>,
}

/// An answer to a request with a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The problem's type, if the answer is a problem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// `Retry-Advice`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// It has `Idempotency-Expires`: it is the key's final reply.
    pub is_final: bool,
    /// It has `Idempotency-Replayed`.
    pub is_replay: bool,
    /// A digest of all that a final reply must repeat: status, body, Location, Content-Type, Idempotency-Expires.
    pub digest: String,
    /// `Location`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// What the answer shows, or names as its outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<Object>,
}

/// An order, a charge or a refund, as some answer showed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// `order`, `charge` or `refund`.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// Its status.
    pub status: String,
    /// Its amount.
    #[serde(default)]
    pub amount: i64,
    /// A charge's `amount_refunded`.
    #[serde(default)]
    pub refunded: i64,
    /// The order of a charge, the charge of a refund.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// Its name at the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The key of the request that created it. The clients write it into `metadata`, which the server only returns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// A read of one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// When.
    #[serde(flatten)]
    pub span: Span,
    /// Who read.
    pub account: String,
    /// The id that was asked for.
    pub id: String,
    /// None for a 404. A read without an answer, or with a 5xx, is not recorded.
    pub object: Option<Object>,
}

/// What can be read as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Books {
    /// The list of orders.
    Orders,
    /// The list of charges.
    Charges,
    /// The list of refunds.
    Refunds,
    /// The feed of events, from its beginning.
    Feed,
    /// The feed, as a client followed it from page to page during the load.
    Followed,
    /// The gateway's payments that succeeded.
    Payments,
    /// The gateway's refunds that succeeded.
    Repayments,
}

/// A book that was read from its first row to its last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    /// When.
    #[serde(flatten)]
    pub span: Span,
    /// Whose book it is.
    pub account: String,
    /// Which one.
    pub book: Books,
    /// Only the rows of this order or charge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// Names the reading, for its rows.
    pub number: u64,
    /// Nobody wrote any longer, and every key had its final reply.
    pub is_last: bool,
}

/// A row of a book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The reading that it belongs to.
    pub number: u64,
    /// The object. A gateway's row has the gateway's id.
    pub object: Object,
    /// For an event, its cursor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// For an event, its type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
}

/// Something was broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// When.
    #[serde(flatten)]
    pub span: Span,
    /// What.
    pub what: String,
    /// The reference of the one call that it broke. None if it broke more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
}

/// Reads a history.
///
/// # Errors
/// The input's, or the number of a line that is not a history's.
pub fn read(from: impl BufRead) -> io::Result<Vec<Line>> {
    let line = |(i, text): (usize, io::Result<String>)| {
        let wrong = |error| io::Error::new(io::ErrorKind::InvalidData, format!("line {}: {error}", i + 1));
        serde_json::from_str(&text?).map_err(wrong)
    };
    from.lines().enumerate().map(line).collect()
}

/// Writes a history.
///
/// # Errors
/// The output's.
pub fn write(history: &[Line], mut to: impl Write) -> io::Result<()> {
    for line in history {
        serde_json::to_writer(&mut to, line)?;
        to.write_all(b"\n")?;
    }
    to.flush()
}
