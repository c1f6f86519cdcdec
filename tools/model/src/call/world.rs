//! The state of the external call's world.

use super::{Call, Times};

/// The row in `external_calls`, and the charge that it is about. Ages are counted in ticks, up to the age from which they
/// make no difference.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are columns")]
pub struct Row {
    pub reference: usize,
    /// The fence.
    pub attempts: u8,
    /// `next_attempt_at`: ticks until somebody may take a lease.
    pub due_in: u8,
    /// Whether `due_in` is the end of a lease, not of a pause.
    pub leased: bool,
    pub hinted: bool,
    /// `unanswered_at`, as an age.
    pub unanswered: Option<u8>,
    pub parked: bool,
    pub resolved: bool,
    /// `created_at`, as an age.
    pub age: u8,
    pub charge: Charge,
    /// How often an outcome was applied.
    pub applied: u8,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Charge {
    Processing,
    Succeeded,
    Failed,
}

/// A worker that holds a lease, or believes that it does.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct Holder {
    pub attempt: u8,
    pub reference: usize,
    /// `taken_at`, as an age.
    pub age: u8,
    pub look_first: bool,
    pub earlier_unanswered: bool,
    /// `earlier_unanswered_at`, as an age.
    pub earlier: Option<u8>,
    /// Whether a sending of this lease went unanswered.
    pub unanswered: bool,
    pub repeats: u8,
    pub step: Step,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Step {
    Start,
    LookFirst,
    Send,
    Await {
        name: Name,
        answer: Option<Answer>,
    },
    LookAfter {
        refused: bool,
    },
    Record(Charge),
    /// The second transaction has locked the row, and has passed the fence.
    Locked(Charge),
    GiveBack {
        unanswered: bool,
    },
}

/// Names a sending.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// Attempts start again after a restore and in a new row.
    pub generation: u8,
    pub attempt: u8,
    pub repeat: u8,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Answer {
    Captured,
    Declined,
    Refused,
    /// A plain 5xx.
    Error,
}

/// A sending on its way to the provider.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sending {
    pub name: Name,
    pub reference: usize,
    pub age: u8,
}

/// What the provider keeps under a key.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct Kept {
    pub answer: Answer,
    pub age: u8,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct World {
    pub row: Option<Row>,
    pub holders: Vec<Option<Holder>>,
    /// Sorted, since the network keeps no order.
    pub sendings: Vec<Sending>,
    /// The provider's keys, by reference.
    pub keys: [Option<Kept>; 2],
    /// The provider's books, by reference: how often money moved, and whether the call was declined.
    pub captures: [u8; 2],
    pub declined: [bool; 2],
    /// A capture that the list does not show yet, as an age.
    pub unlisted: Option<u8>,
    pub forgot: bool,
    /// None if it is from before the call.
    pub backup: Option<Row>,
    pub crashes: u8,
    pub resumes: u8,
    pub copies: u8,
    pub restores: u8,
    pub retries: u8,
}

impl Row {
    /// As the first transaction commits it, with the first lease taken.
    pub fn first(times: Times) -> Self {
        Self {
            reference: 0,
            attempts: 1,
            due_in: times.lease,
            leased: true,
            hinted: false,
            unanswered: Some(0),
            parked: false,
            resolved: false,
            age: 0,
            charge: Charge::Processing,
            applied: 0,
        }
    }
}

impl Holder {
    pub fn gives_back(&mut self, unanswered: bool) {
        self.step = Step::GiveBack { unanswered };
    }
}

impl World {
    pub fn new(model: &Call) -> Self {
        let mut world = Self {
            row: None,
            holders: vec![None; model.bounds.workers],
            sendings: Vec::new(),
            keys: [None; 2],
            captures: [0; 2],
            declined: [false; 2],
            unlisted: None,
            forgot: false,
            backup: None,
            crashes: 0,
            resumes: 0,
            copies: 0,
            restores: 0,
            retries: 0,
        };
        world.begin(Row::first(model.times));
        world
    }

    /// The first transaction commits, and the handler goes on.
    pub fn begin(&mut self, row: Row) {
        self.row = Some(row);
        self.holders[0] = Some(Holder {
            attempt: 1,
            reference: row.reference,
            age: 0,
            look_first: false,
            earlier_unanswered: false,
            earlier: None,
            unanswered: false,
            repeats: 0,
            step: Step::Start,
        });
    }

    /// A second transaction has the row's lock.
    pub fn row_is_locked(&self) -> bool {
        self.holders.iter().flatten().any(|holder| matches!(holder.step, Step::Locked(_)))
    }

    /// Money that moved, under all references.
    pub fn moved(&self) -> u8 {
        self.captures.iter().sum()
    }

    /// Time passes for everything at once.
    pub fn tick(&mut self, model: &Call) {
        let times = &model.times;
        let older = |age: u8, most: u8| (age + 1).min(most);
        let note = |age: Option<u8>| age.map(|age| older(age, times.refusal_counts_after));
        for row in [&mut self.row, &mut self.backup].into_iter().flatten() {
            row.due_in = row.due_in.saturating_sub(1);
            row.unanswered = note(row.unanswered);
            row.age = older(row.age, times.key_lifetime.unwrap_or(0) + 1);
        }
        for holder in self.holders.iter_mut().flatten() {
            holder.age = older(holder.age, times.lease);
            holder.earlier = note(holder.earlier);
        }
        for sending in &mut self.sendings {
            sending.age += 1;
        }
        for kept in self.keys.iter_mut().flatten() {
            kept.age = older(kept.age, times.keys_kept);
        }
        self.unlisted = self.unlisted.map(|age| age + 1).filter(|age| *age < times.list_lags);
    }

    /// The answer reaches the holder, if one still waits for it.
    pub fn answer(&mut self, to: Name, what: Answer) {
        for holder in self.holders.iter_mut().flatten() {
            if let Step::Await { name, answer: answer @ None } = &mut holder.step
                && *name == to
            {
                *answer = Some(what);
            }
        }
    }
}
