//! What a replica of the stage reports about itself: one line of JSON for each step, on its standard output.
//!
//! Guarantees: a line is written before the step goes on, so a killed replica has reported all that it did. Its last
//! line may be incomplete.

use std::cell::Cell;
use std::io::{Read as _, Write as _};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use diesel::QueryResult;
use diesel::connection::{Instrumentation, InstrumentationEvent, set_default_instrumentation};
use idempotency::{Address, Step};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::request_name::RequestName;
use crate::statement::Statement;

/// What a replica gets when it starts: its part in the run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Part {
    /// `a` or `b`.
    pub replica: char,
    /// The port on 127.0.0.1, or 0 for a free one.
    pub port: u16,
    /// All its requests have names of this run.
    pub run: Uuid,
    /// When the run began: microseconds of the machine's clock.
    pub began: u64,
    /// The point at which the process ends.
    pub kill: Option<String>,
    /// The external calls that the run may make. The others are left to the demo's server.
    pub references: Vec<String>,
}

impl Part {
    /// The key that a replica uses with the forwarder, which alone knows the gateway's. The run's id is its secret
    /// part.
    #[must_use]
    pub fn gateway_key(&self) -> String {
        format!("sk_test_{}", self.run.simple())
    }
}

static PART: OnceLock<Part> = OnceLock::new();
/// Names the request that a thread serves.
static REQUEST: OnceLock<fn() -> Option<Uuid>> = OnceLock::new();
static TRANSACTIONS: AtomicU32 = AtomicU32::new(1);

thread_local! {
    /// The transaction that is open on this thread's connection.
    static OPEN: Cell<Option<u32>> = const { Cell::new(None) };
    /// How many of its statements so far write.
    static WRITES: Cell<u32> = const { Cell::new(0) };
    /// Whether a request claims its key on this thread.
    static CLAIMS: Cell<bool> = const { Cell::new(false) };
    /// Its transaction after its end, when the claim's answer is reported.
    static LAST: Cell<Option<u32>> = const { Cell::new(None) };
}

/// From now on, the process reports what it does. `request` names the request that the thread serves. The server calls
/// [`passed`] and [`reached`], and [`up`] when it listens. If the parent ends, so does the process.
pub fn start(part: Part, request: fn() -> Option<Uuid>) -> QueryResult<()> {
    end_with_the_parent();
    PART.get_or_init(|| part);
    REQUEST.get_or_init(|| request);
    set_default_instrumentation(|| Some(Box::new(Statements)))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a replica may die at any moment, so nothing is lost if it drains nothing"
)]
fn end_with_the_parent() {
    // The parent holds the other end of the standard input and writes nothing. However the parent ends, the kernel
    // closes it.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
}

/// Microseconds of the machine's clock.
pub(crate) fn microseconds() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Writes an event. A parent that no longer reads is about to end this process.
fn tell(what: &str, mut event: Value) {
    let Some(part) = PART.get() else { return };
    let mut out = std::io::stdout().lock();
    event["t"] = microseconds().saturating_sub(part.began).into();
    event["what"] = what.into();
    event["replica"] = part.replica.to_string().into();
    let _ = out.write_all(format!("{event}\n").as_bytes()).and_then(|()| out.flush());
}

/// The replica is serving.
pub fn up(port: u16) {
    tell("up", json!({"port": port}));
}

/// The request that this thread serves, by its number. None for the resolver.
fn request() -> Option<RequestName> {
    RequestName::of(PART.get()?.run, REQUEST.get()?()?)
}

fn number() -> Option<u8> {
    request().map(|request| request.number)
}

/// Passes a point, under the lease of this number if there is one, and ends the process at the point that the visitor chose. At
/// `leased` and `given-back` no process ends.
pub fn passed(point: &'static str, attempt: Option<i32>) {
    match point {
        "leased" => return tell("leased", json!({"attempt": attempt})),
        "given-back" => return tell("given_back", json!({"attempt": attempt})),
        "before-claim" => {
            if let Some(RequestName { number, attempt }) = request() {
                tell("received", json!({"request": number, "try": attempt}));
            }
        }
        _ => {}
    }
    tell("step", json!({"point": point, "request": number()}));
    if PART.get().is_some_and(|part| part.kill.as_deref() == Some(point)) {
        // Like `kill -9`: nothing is unwound, and nothing is sent to the client, to PostgreSQL or to the gateway.
        std::process::abort();
    }
}

/// The steps that the crate `idempotency` reports.
pub fn reached(request_id: Uuid, address: &Address, step: Step) {
    let name = PART.get().and_then(|part| RequestName::of(part.run, request_id));
    CLAIMS.set(matches!(step, Step::Begins | Step::Claimed | Step::BodyRan | Step::Recorded));
    // None if the record was found by a look, without a transaction.
    let (request, key, tx) = (name.map(|name| name.number), &address.key, OPEN.get().or(LAST.take()));
    match step {
        Step::Waits => tell("waits", json!({"request": request})),
        Step::Claimed => tell("claimed", json!({"request": request, "tx": tx, "key": key})),
        Step::MetTransaction => tell("met_transaction", json!({"request": request, "tx": tx, "key": key})),
        Step::MetRecord { provisional } => {
            tell("met_record", json!({"request": request, "tx": tx, "key": key, "provisional": provisional}));
        }
        // Diesel reports the beginning and the end of every transaction, even of those that this crate does not know.
        Step::Begins | Step::BodyRan | Step::Recorded | Step::Committed | Step::Failed => {}
    }
}

/// The statements and transactions that Diesel reports.
struct Statements;

impl Instrumentation for Statements {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        match event {
            InstrumentationEvent::BeginTransaction { depth, .. } if depth.get() == 1 => {
                let tx = TRANSACTIONS.fetch_add(1, Ordering::Relaxed);
                OPEN.set(Some(tx));
                WRITES.set(0);
                tell("begins", json!({"tx": tx, "request": number()}));
            }
            InstrumentationEvent::StartQuery { query, .. } => {
                // Outside a transaction there are only looks: at an API key, at a record, for calls that are due.
                let Some(tx) = OPEN.get() else { return };
                let text = query.to_string();
                let statement = Statement::of(&text);
                if let (Some(verb), Some(table)) = (statement.verb(), statement.table()) {
                    let (sql, row) = (statement.shown(), statement.row());
                    WRITES.set(WRITES.get() + u32::from(!["select", "lock"].contains(&verb)));
                    tell(
                        "statement",
                        json!({"tx": tx, "request": number(), "verb": verb, "table": table, "sql": sql, "row": row}),
                    );
                }
            }
            InstrumentationEvent::FinishQuery { query, error, .. } if OPEN.get().is_some() => {
                let what = match (query.to_string().as_str(), error) {
                    ("COMMIT", None) => "commit",
                    ("COMMIT", Some(_)) | ("ROLLBACK", _) => "rollback",
                    _ => return,
                };
                let tx = OPEN.take();
                LAST.set(tx.filter(|_| CLAIMS.get()));
                tell(what, json!({"tx": tx, "writes": WRITES.get()}));
            }
            _ => {}
        }
    }
}
