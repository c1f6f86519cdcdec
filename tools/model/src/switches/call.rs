//! The rules of the external call, and what they rely on.

use super::Breaks::{self, Nothing, Property};
use super::Switch;
use crate::call::{Assumptions, Bounds, Call, Check, Rules, Times, names};

const SMALL: Bounds = Bounds {
    workers: 2,
    max_attempts: 3,
    resumes: 0,
    crashes: 1,
    copies: 0,
    sendings: 2,
    quick_repeats: 0,
    hints: false,
    restores: 0,
    declines: false,
    refuses: true,
    stores_errors: false,
};

type Case = (&'static str, Breaks, Bounds, Times, fn(&mut Call));

fn switches(cases: Vec<Case>) -> Vec<Switch<Call>> {
    let switch = |(rule, breaks, bounds, times, off): Case| {
        let on = Call { bounds, times, assumptions: Assumptions::ALL, rules: Rules::ALL, only: None };
        let mut without = on.clone();
        off(&mut without);
        if let Breaks::Property(name, _) = breaks {
            without.only = Some(name);
        }
        Switch { rule, breaks, on, off: without }
    };
    cases.into_iter().map(switch).collect()
}

/// The rules.
#[must_use]
pub fn call() -> Vec<Switch<Call>> {
    switches([recording(), refusals(), forgotten_keys(), leases(), references()].concat())
}

const KEYS: Times = Times::DEFAULT;
const NO_KEYS: Times = Times::WITHOUT_KEYS;
const REPEATS: Bounds = Bounds { quick_repeats: 1, ..SMALL };

/// The second transaction.
fn recording() -> Vec<Case> {
    vec![
        (
            "The second transaction compares the attempt with its lease's (the fence).",
            Property(names::BOOKS_AGREE, "A holder that slept records an old refusal"),
            SMALL,
            KEYS,
            |model| model.rules.fence = false,
        ),
        (
            "The fence locks the row.",
            Property(names::BOOKS_AGREE, "Between the fence and COMMIT another holder takes the money"),
            SMALL,
            KEYS,
            |model| model.rules.fence_locks = false,
        ),
        (
            "A call that is resolved is not resolved again.",
            Property(names::APPLIED_ONCE, "The answer to COMMIT is lost, and the outcome is applied again"),
            SMALL,
            KEYS,
            |model| model.rules.resolved_once = false,
        ),
    ]
}

/// When a refusal counts.
fn refusals() -> Vec<Case> {
    vec![
        (
            "A refusal does not count while an earlier sending may still arrive.",
            Property(names::BOOKS_AGREE, "A refusal counts at once"),
            SMALL,
            KEYS,
            |model| model.rules.refusal_waits = false,
        ),
        (
            "A refusal counts only after all that a proxy may hold a sending.",
            Property(names::BOOKS_AGREE, "A refusal counts as soon as the lease is over"),
            SMALL,
            KEYS,
            |model| model.rules.refusal_counts_proxies = false,
        ),
        (
            "A refusal does not count if another sending of the same lease went unanswered.",
            Property(names::BOOKS_AGREE, "The repeat is refused, the first sending takes the money"),
            REPEATS,
            KEYS,
            |model| model.rules.refusal_minds_own_lease = false,
        ),
        (
            "A refusal counts only if the provider's books have nothing.",
            Property(names::BOOKS_AGREE, "A refusal is believed without a look"),
            SMALL,
            KEYS,
            |model| model.rules.refusal_is_looked_up = false,
        ),
        (
            "A lease notes its sending as unanswered before it sends.",
            Property(names::BOOKS_AGREE, "The holder dies, and its sending is not known"),
            SMALL,
            KEYS,
            |model| model.rules.written_ahead = false,
        ),
        (
            "A lease whose sendings were answered restores the note of an earlier one.",
            Property(names::BOOKS_AGREE, "An answer clears the note of another sending"),
            SMALL,
            KEYS,
            |model| model.rules.earlier_note_restored = false,
        ),
        (
            "A holder that was suspended does not send.",
            Property(names::BOOKS_AGREE, "A holder that slept sends"),
            SMALL,
            KEYS,
            |model| model.rules.check = Check::Never,
        ),
        (
            "The holder checks its lease before each sending.",
            Property(names::BOOKS_AGREE, "A holder that slept after its check sends"),
            SMALL,
            KEYS,
            |model| model.rules.check = Check::AtStart,
        ),
    ]
}

/// What happens when the provider no longer knows the key.
fn forgotten_keys() -> Vec<Case> {
    vec![
        (
            "When the provider may have forgotten the key, the holder looks before it sends.",
            Property(names::MONEY_ONCE, "The provider has forgotten the key"),
            SMALL,
            KEYS,
            |model| model.rules.looks_first = false,
        ),
        (
            "KEY_LIFETIME is shorter than the time for which the provider keeps keys.",
            Property(names::MONEY_ONCE, "The key is forgotten while the sending is on its way"),
            SMALL,
            KEYS,
            |model| model.times.key_lifetime = Some(model.times.keys_kept - 1),
        ),
        (
            "When the key may be forgotten and the look fails, nothing is sent.",
            Property(names::MONEY_ONCE, "An incomplete list counts as empty"),
            SMALL,
            KEYS,
            |model| model.rules.failed_look_stops = false,
        ),
        (
            "When the provider keeps no keys, nothing is sent while an earlier sending may still arrive.",
            Property(names::MONEY_ONCE, "The books are empty, and the earlier sending arrives"),
            SMALL,
            NO_KEYS,
            |model| model.rules.old_sendings_end_first = false,
        ),
        (
            "When the provider forgets keys, nothing is sent while an earlier sending may still arrive.",
            Nothing("whichever sending arrives first leaves its key for the other"),
            Bounds { resumes: 1, ..SMALL },
            KEYS,
            |model| model.rules.old_sendings_end_first = false,
        ),
        (
            "A provider that keeps no keys gets no quick repeat.",
            Property(names::MONEY_ONCE, "A proxy answers 5xx, and the repeat is a second capture"),
            REPEATS,
            NO_KEYS,
            |model| model.rules.no_repeat_without_keys = false,
        ),
    ]
}

/// Who works on a call.
fn leases() -> Vec<Case> {
    vec![
        (
            "Nobody takes a lease before the last one has ended.",
            Nothing("the fence and the notes are enough; the lease saves sendings and attempts"),
            Bounds { workers: 3, ..SMALL },
            KEYS,
            |model| model.rules.lease_keeps_others_away = false,
        ),
        (
            "Nobody takes a lease before the last one has ended, when the provider keeps no keys.",
            Nothing("as above"),
            Bounds { workers: 3, ..SMALL },
            NO_KEYS,
            |model| model.rules.lease_keeps_others_away = false,
        ),
        (
            "A webhook ends no lease.",
            Nothing("as above: it costs an attempt"),
            Bounds { hints: true, ..SMALL },
            KEYS,
            |model| model.rules.hint_leaves_lease = false,
        ),
    ]
}

/// Which calls are one call.
fn references() -> Vec<Case> {
    vec![
        (
            "A key that made a call never makes another one.",
            Property(names::MONEY_ONCE, "The record has expired, and the late retry is a second capture"),
            Bounds { max_attempts: 2, ..SMALL },
            KEYS,
            |model| model.rules.one_call_a_key = false,
        ),
        (
            "The reference comes from the client's key.",
            Property(names::MONEY_ONCE, "The database is restored, and the retry has a new reference"),
            Bounds { max_attempts: 2, restores: 1, ..SMALL },
            KEYS,
            |model| model.rules.reference_from_key = false,
        ),
    ]
}

/// What the code relies on, stated like a rule.
#[must_use]
pub fn assumptions() -> Vec<Switch<Call>> {
    let restores = Bounds { max_attempts: 2, restores: 1, ..SMALL };
    switches(vec![
        (
            "A sending takes effect within 60 s or never, proxies and the provider's own work included.",
            Property(names::BOOKS_AGREE, "A sending takes effect later than refusal_counts_after expects"),
            SMALL,
            KEYS,
            |model| model.times.hold += 1,
        ),
        (
            "The provider's list shows a capture at once.",
            Property(names::BOOKS_AGREE, "The list lags"),
            SMALL,
            KEYS,
            |model| model.times.list_lags = 2,
        ),
        (
            "The list shows a capture at once; it is not enough that refusal_counts_after holds the lag.",
            Property(names::BOOKS_AGREE, "The list lags, and the outcome could not be recorded"),
            SMALL,
            KEYS,
            |model| (model.times.list_lags, model.times.refusal_counts_after) = (2, 3),
        ),
        (
            "The list shows a capture at once, or refusal_counts_after holds the lag and unrecorded outcomes are noted.",
            Nothing("a lag that is counted in both places does no harm"),
            SMALL,
            KEYS,
            |model| {
                (model.times.list_lags, model.times.refusal_counts_after) = (2, 3);
                model.rules.unrecorded_is_noted = true;
            },
        ),
        (
            "A refusal answers all copies of a sending.",
            Property(names::BOOKS_AGREE, "One copy is refused, the other one takes the money"),
            Bounds { copies: 1, ..SMALL },
            KEYS,
            |model| model.assumptions.refusal_ends_copies = false,
        ),
        (
            "A restored database is used once the old sendings are over.",
            Property(names::BOOKS_AGREE, "The backup does not know of the sending that is on its way"),
            restores,
            KEYS,
            |model| model.assumptions.restore_waits = false,
        ),
        (
            "A restored database is used while the provider still knows the keys of what was lost.",
            Property(names::MONEY_ONCE, "The backup is older than the provider's keys"),
            restores,
            KEYS,
            |model| model.assumptions.restored_in_time = false,
        ),
    ])
}
