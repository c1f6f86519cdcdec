//! The rules of the record.

use super::Breaks::{self, Nothing, Property};
use super::Switch;
use crate::record::{self, Body, Record, names};
use crate::scenarios::requests;

type Case = (&'static str, Breaks, record::Bounds, fn(&mut record::Rules));

fn small() -> record::Bounds {
    record::Bounds {
        requests: requests("aab"),
        body: Body::Create,
        cache_failures: false,
        provisional: false,
        starts_expired: false,
        expiries: 0,
        losses: 1,
        kills: 0,
        leaves: 0,
        runs: 3,
    }
}

fn calm() -> record::Bounds {
    record::Bounds { losses: 0, ..small() }
}

fn one() -> record::Bounds {
    record::Bounds { requests: requests("a"), ..small() }
}

fn expired() -> record::Bounds {
    record::Bounds { starts_expired: true, expiries: 2, ..small() }
}

fn may_fail() -> record::Bounds {
    record::Bounds { body: Body::MayFail, ..small() }
}

/// The rules.
#[must_use]
pub fn record() -> Vec<Switch<Record>> {
    let with = |bounds, rules, only| Record { bounds, rules, only };
    let switch = |(rule, breaks, bounds, off): Case| {
        let mut rules = record::Rules::ALL;
        off(&mut rules);
        let only = match breaks {
            Property(name, _) => Some(name),
            Nothing(_) => None,
        };
        Switch { rule, breaks, on: with(bounds.clone(), record::Rules::ALL, None), off: with(bounds, rules, only) }
    };
    [claiming(), expiry(), answers()].concat().into_iter().map(switch).collect()
}

/// Claim, lock and COMMIT.
fn claiming() -> Vec<Case> {
    vec![
        (
            "The primary key refuses a second record.",
            Property(names::ONE_EFFECT, "A snapshot older than its lock: two records, two effects"),
            calm(),
            |rules| rules.primary_key = false,
        ),
        (
            "An advisory lock stands beside the primary key.",
            Property(names::NO_WAIT_INSIDE, "Duplicates wait inside the database"),
            calm(),
            |rules| rules.advisory_lock = false,
        ),
        (
            "The lock is tried, not waited for.",
            Property(names::NO_WAIT_INSIDE, "Each duplicate holds a connection while it waits"),
            calm(),
            |rules| rules.lock_is_tried = false,
        ),
        (
            "The lock ends with its transaction.",
            Property(names::AT_REST, "A failed body leaves the key locked"),
            record::Bounds { body: Body::MayFail, ..one() },
            |rules| rules.lock_ends_with_transaction = false,
        ),
        (
            "Record and writes commit together.",
            Property(
                names::ONE_EFFECT,
                "The writes commit, the connection is lost before the record: the retry writes again",
            ),
            one(),
            |rules| rules.one_transaction = false,
        ),
        (
            "No record without its reply.",
            Property(names::AT_REST, "A placeholder before the body: the process dies, and the key is stuck"),
            record::Bounds { kills: 1, losses: 0, ..one() },
            |rules| rules.reply_comes_with_record = false,
        ),
    ]
}

/// The end of a record.
fn expiry() -> Vec<Case> {
    vec![
        (
            "The sweeper's DELETE looks at the expiry again.",
            Property(names::ONE_EFFECT, "The sweeper deletes the record that replaced the expired one"),
            expired(),
            |rules| rules.sweep_looks_again = false,
        ),
        (
            "An expired record is locked and read again, or the DELETE states the expiry.",
            Property(names::ONE_EFFECT, "The claim's old snapshot deletes the new record"),
            expired(),
            |rules| (rules.expired_record_is_locked, rules.delete_states_expiry) = (false, false),
        ),
        (
            "An expired record is locked and read again.",
            Nothing("the DELETE states the expiry again, and the primary key refuses the record"),
            expired(),
            |rules| rules.expired_record_is_locked = false,
        ),
        (
            "The DELETE of an expired record states the expiry.",
            Nothing("the record is locked and was read again"),
            expired(),
            |rules| rules.delete_states_expiry = false,
        ),
    ]
}

/// What a request is answered.
fn answers() -> Vec<Case> {
    vec![
        (
            "A failed body looks for another transaction's record.",
            Property(
                names::OWN_FAILURE,
                "A retry is told that the order is canceled already, by its own first sending",
            ),
            record::Bounds { body: Body::Cancel, ..small() },
            |rules| rules.failure_looks_again = false,
        ),
        (
            "A 202 does not expire.",
            Property(names::ONE_EFFECT, "A 202 expires before its outcome is known, and the retry begins again"),
            record::Bounds { provisional: true, expiries: 1, ..calm() },
            |rules| rules.provisional_never_expires = false,
        ),
        (
            "Under cache-failures the body runs in a savepoint.",
            Property(names::FAILURE_WITHOUT_EFFECT, "A stored failure whose writes stay"),
            record::Bounds { cache_failures: true, ..may_fail() },
            |rules| rules.savepoint = false,
        ),
        (
            "A fingerprint is compared before a replay.",
            Property(names::OTHERS_ARE_REFUSED, "Another request gets the first one's reply"),
            small(),
            |rules| rules.fingerprint = false,
        ),
        (
            "A request knows its own record.",
            Property(names::MARKER, "After a lost COMMIT answer, the request calls itself a replay"),
            small(),
            |rules| rules.knows_own_record = false,
        ),
        (
            "Followers with another body don't share the leader's failure.",
            Property(names::OWN_FAILURE, "A request gets the failure of another request"),
            record::Bounds { requests: vec![(0, 'a'), (0, 'b')], ..may_fail() },
            |rules| rules.failure_is_shared_by_equals = false,
        ),
        (
            "A follower with another body waits for its leader's record before it is refused.",
            Property(names::OWN_IS_NOT_REFUSED, "A retry is refused under its own key"),
            record::Bounds { requests: vec![(0, 'b'), (1, 'a'), (0, 'a')], losses: 0, ..small() },
            |rules| rules.refusal_waits_for_record = false,
        ),
    ]
}
