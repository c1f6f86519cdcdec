//! The state of the record's world.

use super::{Body, Bounds, Record};

/// A record: the columns that decide.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// The request that made it, which stands for its id and the bytes of its reply.
    pub by: usize,
    pub body: char,
    pub reply: Reply,
    /// The clock from which it counts as expired. None for never.
    pub expires: Option<u8>,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reply {
    /// Only without the rule `reply_comes_with_record`.
    None,
    Provisional,
    Success,
    /// The final reply that replaced a 202.
    Resolved,
    Failure,
}

/// A transaction, as the database sees it.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::struct_excessive_bools, reason = "each one is a fact that the database knows")]
pub struct Transaction {
    /// `now()`: the clock at BEGIN.
    pub now: u8,
    pub has_lock: bool,
    /// It has locked the committed record, or deleted it.
    pub locks_record: bool,
    pub deletes: bool,
    /// The record that it has inserted.
    pub inserts: Option<Row>,
    /// It has business writes.
    pub has_effect: bool,
    /// COMMIT was sent.
    pub committing: bool,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct Request {
    pub process: usize,
    pub body: char,
    pub at: At,
    pub runs: u8,
    pub transaction: Option<Transaction>,
    /// The database has ended its transaction, but the request has not noticed.
    pub severed: bool,
    /// Its future was dropped, while its transaction goes on.
    pub client_left: bool,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub enum At {
    Away,
    Follows { leader: usize },
    Heard(Shareable),
    Leads(Step),
    Answered(Answer),
}

/// The next step of a leader.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Step {
    Look,
    Begin,
    /// With the claim statement's snapshot.
    TryLock {
        seen: Option<Row>,
    },
    LockRecord,
    TakeOver {
        seen: Row,
    },
    Body,
    Insert(Reply),
    Commit(Reply),
    LookAfterFailure,
    /// Waits without a connection, with the provisional record that it met, if any.
    Paused {
        seen: Option<Row>,
    },
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Shareable {
    /// The leader left, or its wait ended.
    Nothing,
    Record(Row),
    /// The failure of the leader's body, which was not stored.
    Failed,
    /// The same, but the leader had another body. Only without the rule `failure_is_shared_by_equals`.
    OtherFailed,
    /// The database failed too often.
    Broken,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Answer {
    Reply {
        row: Row,
        replayed: bool,
    },
    /// 422 idempotency-key-reused. `own`: although there was a live record of this very request.
    Reused {
        own: bool,
    },
    /// 409 idempotency-request-in-flight.
    InFlight,
    /// The failure of a body. `own`: of this request's body.
    Failed {
        own: bool,
    },
    /// 503.
    Broken,
    /// Nobody waits for an answer any longer.
    Nobody,
}

/// A process's flight of the key.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct Flight {
    pub leader: usize,
    pub has_key: bool,
    pub seen: Option<Row>,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Swept {
    Not,
    Found,
    Done,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct World {
    /// The committed record.
    pub row: Option<Row>,
    /// Committed effects of this key since its last record expired.
    pub effects: u8,
    /// How many records have expired so far.
    pub clock: u8,
    pub requests: Vec<Request>,
    pub flights: [Option<Flight>; 2],
    /// Whether the process answered the key recently.
    pub remembers: [bool; 2],
    /// Transactions whose client is gone, which the database has not noticed. Sorted, since they have no names.
    pub orphans: Vec<Transaction>,
    /// A session's lock that nobody gives back. Only without the rule `lock_ends_with_transaction`.
    pub leaked: bool,
    pub swept: Swept,
    pub losses: u8,
    pub kills: u8,
    pub leaves: u8,
}

impl World {
    pub fn new(bounds: &Bounds) -> Self {
        let request = |&(process, body)| Request {
            process,
            body,
            at: At::Away,
            runs: 0,
            transaction: None,
            severed: false,
            client_left: false,
        };
        let expired = Row { by: usize::MAX, body: 'a', reply: Reply::Success, expires: Some(1) };
        Self {
            row: bounds.starts_expired.then_some(expired),
            effects: 0,
            clock: u8::from(bounds.starts_expired),
            requests: bounds.requests.iter().map(request).collect(),
            flights: [None; 2],
            remembers: [false; 2],
            orphans: Vec::new(),
            leaked: false,
            swept: Swept::Not,
            losses: 0,
            kills: 0,
            leaves: 0,
        }
    }

    pub fn is_live(&self, row: &Row) -> bool {
        row.is_live_at(self.clock)
    }

    pub fn flight_led_by(&self, leader: usize) -> Option<&Flight> {
        self.flights.iter().flatten().find(|flight| flight.leader == leader)
    }

    /// Whether a request is in this process.
    pub fn runs_here(&self, process: usize) -> bool {
        let is_there = |at: &At| !matches!(at, At::Away | At::Answered(_));
        self.requests.iter().any(|request| request.process == process && is_there(&request.at))
    }

    /// All open transactions.
    pub fn transactions(&self) -> impl Iterator<Item = &Transaction> {
        self.requests.iter().filter_map(|request| request.transaction.as_ref()).chain(&self.orphans)
    }

    /// The open transactions other than this request's.
    pub fn others(&self, i: usize) -> impl Iterator<Item = &Transaction> {
        let requests = self.requests.iter().enumerate().filter(move |(other, _)| *other != i);
        requests.filter_map(|(_, request)| request.transaction.as_ref()).chain(&self.orphans)
    }

    /// Whether the key belongs to a request with this body now: it has the live record, or it holds the key.
    pub fn belongs_to(&self, body: char) -> bool {
        let recorded = self.row.filter(|row| self.is_live(row));
        let holds = |request: &Request| request.transaction.is_some_and(|transaction| transaction.has_lock);
        match recorded {
            Some(row) => row.body == body,
            None => self.requests.iter().any(|request| request.body == body && holds(request)),
        }
    }

    /// The transaction that this request's next statement waits for inside the database.
    pub fn blocker(&self, model: &Record, i: usize) -> Option<&Transaction> {
        let At::Leads(step) = self.requests[i].at else { return None };
        // A transaction that the database has ended waits for nothing.
        self.requests[i].transaction?;
        match step {
            Step::TryLock { .. } if !model.rules.lock_is_tried => self.others(i).find(|other| other.has_lock),
            // The row lock.
            Step::LockRecord if !model.rules.expired_record_is_locked => {
                self.others(i).find(|other| other.locks_record)
            }
            Step::TakeOver { .. } => self.others(i).find(|other| other.locks_record),
            // The lock on the business row.
            Step::Body if model.bounds.body == Body::Cancel => self.others(i).find(|other| other.has_effect),
            // A unique index waits for the end of a transaction that inserted the same key, or deleted it.
            Step::Insert(_) if model.rules.primary_key => {
                self.others(i).find(|other| other.inserts.is_some() || other.deletes)
            }
            _ => None,
        }
    }

    /// What a COMMIT makes visible, at once.
    pub fn apply(&mut self, transaction: &Transaction) {
        if transaction.deletes {
            self.row = None;
        }
        self.row = transaction.inserts.or(self.row);
        if transaction.has_effect {
            // Two are too many already.
            self.effects = (self.effects + 1).min(2);
        }
    }
}

impl Row {
    pub fn is_live_at(&self, clock: u8) -> bool {
        self.expires.is_none_or(|expires| expires > clock)
    }
}
