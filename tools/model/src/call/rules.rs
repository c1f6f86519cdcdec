//! The rules of the external call, which can be switched off; what they rely on; how large the world is, and how long things
//! take in it.

/// Switches that turn rules off, to see what each is for. `Rules::ALL` is the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each one is a switch")]
pub struct Rules {
    /// The second transaction compares the row's attempt with its lease's.
    pub fence: bool,
    /// It does so under the row's lock.
    pub fence_locks: bool,
    /// A call that is resolved is not resolved again.
    pub resolved_once: bool,
    /// A refusal does not count while an earlier sending may still arrive.
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
    /// Then it does not send while an earlier sending may still arrive.
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
    /// The call's reference is derived from the client's key. Off: each row gets a new one.
    pub reference_from_key: bool,
    /// A holder that can't record the outcome it knows notes its sending as unanswered. Not a rule of the code: only a
    /// lagging list needs it.
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
    /// A backup is restored only when the sendings of the stopped processes have arrived or are gone.
    pub restore_waits: bool,
    /// A restored database is in use before the provider forgets the keys of what the backup lost.
    pub restored_in_time: bool,
}

impl Assumptions {
    /// All that the code relies on.
    pub const ALL: Self = Self { refusal_ends_copies: true, restore_waits: true, restored_in_time: true };
}

/// Durations in ticks. Only their order matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// `Limits::lease`, 15 s. A sending begins in the first tick of it: `Limits::find_outcome` needs the rest.
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
    /// The pause after a lease without an outcome. It begins at 2 s, so it may be shorter than a tick.
    pub pause: u8,
}

impl Times {
    /// A provider that keeps keys, and a tick of about 15 s to an hour: only the order matters.
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
#[expect(clippy::struct_excessive_bools, reason = "each one is a switch of the provider")]
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
