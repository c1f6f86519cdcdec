//! The rules of the record, which can be switched off, and how large the world is.

/// Switches that turn rules off, to see what each is for. `Rules::ALL` is the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each one is a switch")]
pub struct Rules {
    /// The table's primary key refuses a second record of a key.
    pub primary_key: bool,
    /// The claim takes an advisory lock.
    pub advisory_lock: bool,
    /// The lock is only tried. Off: the claim waits for it.
    pub lock_is_tried: bool,
    /// The lock ends with its transaction. Off: a session's lock, which only the success path gives back.
    pub lock_ends_with_transaction: bool,
    /// Business writes and record commit in one transaction. Off: the writes commit first.
    pub one_transaction: bool,
    /// The record is written with its reply. Off: a placeholder is committed before the body, as many middlewares do.
    pub reply_comes_with_record: bool,
    /// An expired record is locked and read again before it is deleted.
    pub expired_record_is_locked: bool,
    /// The DELETE of an expired record states the expiry again.
    pub delete_states_expiry: bool,
    /// The sweeper's DELETE checks the expiry again.
    pub sweep_looks_again: bool,
    /// After a failed body the transaction looks for another one's record.
    pub failure_looks_again: bool,
    /// A 202 does not expire.
    pub provisional_never_expires: bool,
    /// The body runs in a savepoint under cache-failures.
    pub savepoint: bool,
    /// A record's fingerprint is compared with the request's.
    pub fingerprint: bool,
    /// A request knows its own record after a lost COMMIT answer.
    pub knows_own_record: bool,
    /// A follower with another body waits for its leader's record before it is refused. Off: it is refused as soon as the
    /// leader says that it holds the key.
    pub refusal_waits_for_record: bool,
    /// A follower does not take another request's failure for its own.
    pub failure_is_shared_by_equals: bool,
}

impl Rules {
    /// Every rule.
    pub const ALL: Self = Self {
        primary_key: true,
        advisory_lock: true,
        lock_is_tried: true,
        lock_ends_with_transaction: true,
        one_transaction: true,
        reply_comes_with_record: true,
        expired_record_is_locked: true,
        delete_states_expiry: true,
        sweep_looks_again: true,
        failure_looks_again: true,
        provisional_never_expires: true,
        savepoint: true,
        fingerprint: true,
        knows_own_record: true,
        refusal_waits_for_record: true,
        failure_is_shared_by_equals: true,
    };
}

/// How large the world is.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// For each request: its process (0 or 1) and its body (a letter). All requests have one key.
    pub requests: Vec<(usize, char)>,
    /// What the body does.
    pub body: Body,
    /// The policy's failures: success-only, or cache-failures.
    pub cache_failures: bool,
    /// The body's success is a 202, which an external call's outcome replaces.
    pub provisional: bool,
    /// At the start there is an expired record.
    pub starts_expired: bool,
    /// How often a record may expire.
    pub expiries: u8,
    /// How many connections may be lost, at whatever step.
    pub losses: u8,
    /// How many processes may be killed.
    pub kills: u8,
    /// How many clients may leave.
    pub leaves: u8,
    /// The most runs of one transaction: `MAX_RUNS`, 5 in the code.
    pub runs: u8,
}

/// What the business writes are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Creates something new, whatever exists already.
    Create,
    /// Locks a row and changes it once: the second time is a final failure.
    Cancel,
    /// Creates something new, or fails.
    MayFail,
}
