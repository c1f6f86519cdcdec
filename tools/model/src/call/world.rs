//! The state of the external call's world, its bounds, what the code relies on, and the rules that can be switched off.

use super::Call;

/// What is switched off to see what a rule is for. `Rules::ALL` is the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The second transaction compares the attempt with its lease's.
    pub fence: bool,
    /// It does so under the row's lock.
    pub fence_locks: bool,
    /// A call that is resolved is not resolved again.
    pub resolved_once: bool,
    /// A refusal does not count while an earlier sending may be under way.
    pub refusal_waits: bool,
    /// It waits for all that a proxy may hold a sending, not only for the lease. Off: only for the lease.
    pub refusal_counts_proxies: bool,
    /// A refusal does not count if another sending of the same lease went unanswered.
    pub refusal_minds_own_lease: bool,
    /// A refusal counts only if the books have nothing.
    pub refusal_is_looked_up: bool,
    /// The lease notes its sending as unanswered before it sends.
    pub written_ahead: bool,
    /// If all sendings of a lease were answered, it restores the note of an earlier one. Off: it clears the note.
    pub earlier_note_restored: bool,
    /// Where a holder checks that its lease has time left.
    pub check: Check,
    /// When the provider may have forgotten the key, the holder looks before it sends.
    pub looks_first: bool,
    /// Then it does not send while an earlier sending may be under way.
    pub old_sendings_end_first: bool,
    /// Then it does not send if the look failed.
    pub failed_look_stops: bool,
    /// A provider that keeps no keys gets no quick repeat.
    pub no_repeat_without_keys: bool,
    /// Nobody takes a lease before the last one has ended.
    pub lease_keeps_others_away: bool,
    /// A webhook ends no lease.
    pub hint_leaves_lease: bool,
    /// A key that made a call never makes another one.
    pub one_call_a_key: bool,
    /// The call's reference comes from the client's key. Off: it is made anew with the row.
    pub reference_from_key: bool,
    /// If a holder can't record the outcome that it knows, it notes its sending as unanswered. Not a rule of the code: only a
    /// list that lags needs it.
    pub unrecorded_is_noted: bool,
}

/// Where a holder checks that its lease has time left for its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Nowhere.
    Never,
    /// Once, before the holder begins.
    AtStart,
    /// Before each sending.
    EachSending,
}

impl Rules {
    /// Every rule.
    pub const ALL: Self = Self {
        fence: true,
        fence_locks: true,
        resolved_once: true,
        refusal_waits: true,
        refusal_counts_proxies: true,
        refusal_minds_own_lease: true,
        refusal_is_looked_up: true,
        written_ahead: true,
        earlier_note_restored: true,
        check: Check::EachSending,
        looks_first: true,
        old_sendings_end_first: true,
        failed_look_stops: true,
        no_repeat_without_keys: true,
        lease_keeps_others_away: true,
        hint_leaves_lease: true,
        one_call_a_key: true,
        reference_from_key: true,
        unrecorded_is_noted: false,
    };
}

/// What the code relies on, and can't check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assumptions {
    /// A refusal answers all copies of its sending: none of them takes effect later.
    pub refusal_ends_copies: bool,
    /// A backup is restored when the sendings of the stopped processes have arrived or are gone.
    pub restore_waits: bool,
    /// A restored database is in use before the provider forgets the keys of what the backup lost.
    pub restored_in_time: bool,
}

impl Assumptions {
    /// All that the code relies on.
    pub const ALL: Self = Self { refusal_ends_copies: true, restore_waits: true, restored_in_time: true };
}

/// Durations, in ticks. Only their order matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// `Limits::lease`, 15 s. A sending begins in the first tick of it: `Limits::learn` needs the rest.
    pub lease: u8,
    /// How long the network holds a sending: 60 s.
    pub hold: u8,
    /// `Limits::refusal_counts_after`, 75 s.
    pub refusal_counts_after: u8,
    /// `KEY_LIFETIME`, 23 h. None: the provider keeps no keys.
    pub key_lifetime: Option<u8>,
    /// How long the provider keeps a key at least: 24 h.
    pub keys_kept: u8,
    /// For how many ticks a capture is missing in the provider's list, its own tick included.
    pub list_lags: u8,
    /// The pause after a lease without an outcome. It begins with 2 s, so it may be shorter than any tick.
    pub pause: u8,
}

impl Times {
    /// A provider that keeps keys, and a tick of about 15 s to an hour: only the order counts.
    pub const DEFAULT: Self = Self {
        lease: 1,
        hold: 1,
        refusal_counts_after: 2,
        key_lifetime: Some(2),
        keys_kept: 4,
        list_lags: 0,
        pause: 0,
    };
    /// A provider that keeps no keys.
    pub const WITHOUT_KEYS: Self = Self { key_lifetime: None, keys_kept: 0, ..Self::DEFAULT };
}

/// How large the world is.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The handler and the resolvers.
    pub workers: usize,
    /// `Limits::max_attempts`, 20 in the code.
    pub max_attempts: u8,
    /// How often an operator resumes.
    pub resumes: u8,
    /// How many workers are killed.
    pub crashes: u8,
    /// How many copies the network makes.
    pub copies: u8,
    /// How many sendings are on their way at once.
    pub sendings: usize,
    /// `Limits::quick_repeats`, 2 in the code.
    pub quick_repeats: u8,
    /// Whether webhooks come.
    pub hints: bool,
    /// How often a backup is restored.
    pub restores: u8,
    /// Whether the provider may decline.
    pub declines: bool,
    /// Whether the provider may refuse.
    pub refuses: bool,
    /// Whether the provider may answer 500 and store that.
    pub stores_errors: bool,
}

/// The row in `external_calls`, and the charge that it is about. Ages are counted in ticks, up to the age from which they
/// make no difference.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct Row {
    pub reference: usize,
    /// The fence.
    pub attempts: u8,
    /// `next_attempt_at`: ticks until somebody may take a lease.
    pub due_in: u8,
    /// Whether `due_in` is the end of a lease (else it is the end of a pause).
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
    Await { name: Name, answer: Option<Answer> },
    LookAfter { refused: bool },
    Record(Charge),
    /// The second transaction has locked the row, and has passed the fence.
    Locked(Charge),
    GiveBack { unanswered: bool },
}

/// Names a sending.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// Attempts are counted anew after a restore and in a new row.
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
    /// In order, since the network keeps none.
    pub sendings: Vec<Sending>,
    /// The provider's keys, by reference.
    pub keys: [Option<Kept>; 2],
    /// The provider's books, by reference: how often money moved, and whether the call was declined.
    pub captures: [u8; 2],
    pub declined: [bool; 2],
    /// A capture that the list does not show yet, as an age.
    pub unlisted: Option<u8>,
    pub forgot: bool,
    /// None: from before the call.
    pub backup: Option<Row>,
    pub crashes: u8,
    pub resumes: u8,
    pub copies: u8,
    pub restores: u8,
    pub retries: u8,
}

impl Row {
    /// As the first transaction commits it, with the first lease taken.
    pub fn first(times: &Times) -> Self {
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
        world.begin(Row::first(&model.times));
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
