//! Writes the history: what clients saw, and when.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use payments_history::{Book, Books, Fault, Line, Object, Read, Request, Row, Span};
use serde_json::Value;

use crate::client::{Answer, Operation};
use crate::world::locked;

/// The history of a run.
pub struct History {
    began: Instant,
    lines: Mutex<Vec<Line>>,
    readings: AtomicU64,
}

impl History {
    pub fn new() -> Self {
        Self { began: Instant::now(), lines: Mutex::default(), readings: AtomicU64::new(0) }
    }

    fn since(&self, called: Instant) -> Span {
        let micros = |at: Instant| u64::try_from(at.duration_since(self.began).as_micros()).unwrap_or(u64::MAX);
        Span { called: micros(called), returned: micros(Instant::now()) }
    }

    fn add(&self, line: Line) {
        locked(&self.lines).push(line);
    }

    pub fn lines(&self) -> Vec<Line> {
        locked(&self.lines).clone()
    }

    /// A request returned now.
    pub fn request(&self, called: Instant, operation: &Operation, body: &Value, answer: Option<&Answer>) {
        self.add(Line::Request(Request {
            span: self.since(called),
            account: operation.api_key.to_owned(),
            scope: operation.scope().to_owned(),
            key: operation.key.clone(),
            route: format!("POST {}", operation.path),
            body: body.to_string(),
            answer: answer.map(seen),
        }));
    }

    /// A read of one object returned now.
    pub fn read(&self, called: Instant, account: &str, id: &str, object: Option<Object>) {
        let (account, id) = (account.to_owned(), id.to_owned());
        self.add(Line::Read(Read { span: self.since(called), account, id, object }));
    }

    /// The last page of a book was read now.
    pub fn book(&self, called: Instant, account: &str, which: (Books, Option<&str>), is_last: bool, rows: Vec<Row>) {
        let (book, of) = (which.0, which.1.map(str::to_owned));
        let number = self.readings.fetch_add(1, Ordering::Relaxed);
        let (span, account) = (self.since(called), account.to_owned());
        let rows = rows.into_iter().map(|row| Line::Row(Row { number, ..row }));
        let mut lines = locked(&self.lines);
        lines.push(Line::Book(Book { span, account, book, of, number, is_last }));
        lines.extend(rows);
    }

    /// A fault that began at that time ended now. `of` is the one call at the gateway that it broke.
    pub fn fault(&self, began: Instant, what: &str, of: Option<&str>) {
        let (what, of) = (what.to_owned(), of.map(str::to_owned));
        self.add(Line::Fault(Fault { span: self.since(began), what, of }));
    }
}

fn seen(answer: &Answer) -> payments_history::Answer {
    let json: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let header = |name| answer.header(name);
    let problem = json["type"].as_str().map(|name| name.trim_start_matches("/problems/").to_owned());
    // A declined charge and a failed refund are named by their problem.
    let failed = ["charge", "refund"].iter().find_map(|kind| {
        let id = json[format!("{kind}_id")].as_str().filter(|_| answer.status == 402)?;
        Some(Object { kind: (*kind).to_owned(), id: id.to_owned(), status: "failed".to_owned(), ..nothing() })
    });
    payments_history::Answer {
        status: answer.status,
        problem,
        advice: header("Retry-Advice"),
        is_final: header("Idempotency-Expires").is_some(),
        is_replay: header("Idempotency-Replayed").is_some(),
        digest: answer
            .digest()
            .first_chunk()
            .map_or(String::new(), |bytes| format!("{:016x}", u64::from_be_bytes(*bytes))),
        location: header("Location"),
        object: failed.or_else(|| object(&json)),
    }
}

/// The order, the charge or the refund in an answer, if it is one.
pub fn object(json: &Value) -> Option<Object> {
    let text = |name: &str| json[name].as_str().map(str::to_owned);
    let (kind, of) = match json {
        _ if json["charge_id"].is_string() => ("refund", text("charge_id")),
        _ if json["order_id"].is_string() && json["payment_method"].is_string() => ("charge", text("order_id")),
        _ if json["items"].is_array() => ("order", None),
        _ => return None,
    };
    Some(Object {
        kind: kind.to_owned(),
        id: text("id")?,
        status: text("status")?,
        amount: json["amount"].as_i64()?,
        refunded: json["amount_refunded"].as_i64().unwrap_or_default(),
        of,
        reference: text("reference"),
        key: json["metadata"]["key"].as_str().map(str::to_owned),
    })
}

pub fn nothing() -> Object {
    let (kind, id, status) = (String::new(), String::new(), String::new());
    Object { kind, id, status, amount: 0, refunded: 0, of: None, reference: None, key: None }
}

pub fn row(object: Object) -> Row {
    Row { number: 0, object, cursor: None, event: None }
}
