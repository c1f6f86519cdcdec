//! The bounded worlds in which every property must hold.

use std::sync::OnceLock;

use crate::call::{self, Assumptions, Call, Times};
use crate::check::{Checked, Limits, check};
use crate::record::{self, Body, Record};

/// A world with a name.
#[derive(Clone, Debug)]
pub struct Scenario<M> {
    /// What happens in it.
    pub name: &'static str,
    /// The model, with every rule.
    pub model: M,
}

/// How large the worlds are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// For every test run.
    Small,
    /// For people who have an hour.
    Large,
}

/// Requests of one key: a letter is a body. The two processes take turns.
#[must_use]
pub fn requests(bodies: &str) -> Vec<(usize, char)> {
    bodies.chars().enumerate().map(|(i, body)| (i % 2, body)).collect()
}

/// The record's worlds.
#[must_use]
pub fn record(size: Size) -> Vec<Scenario<Record>> {
    let large = size == Size::Large;
    let base = record::Bounds {
        requests: requests(if large { "aabab" } else { "aaba" }),
        body: Body::Create,
        cache_failures: false,
        provisional: false,
        starts_expired: false,
        expiries: 0,
        losses: if large { 2 } else { 1 },
        kills: 0,
        leaves: 0,
        runs: if large { 3 } else { 2 },
    };
    // A takeover has more steps, and a client may leave at each of them: fewer requests, or fewer losses.
    let three = record::Bounds { requests: requests(if large { "aaba" } else { "aab" }), ..base.clone() };
    let calm = record::Bounds { losses: 1, ..base.clone() };
    let provisional = record::Bounds { provisional: true, losses: 1, ..three.clone() };
    let worlds = [
        ("requests that make something new", base.clone()),
        ("requests that change something once", record::Bounds { body: Body::Cancel, ..base.clone() }),
        (
            "requests that change something once, cache-failures",
            record::Bounds { body: Body::Cancel, cache_failures: true, ..base.clone() },
        ),
        ("bodies that may fail, success-only", record::Bounds { body: Body::MayFail, ..base.clone() }),
        (
            "bodies that may fail, cache-failures",
            record::Bounds { body: Body::MayFail, cache_failures: true, ..base.clone() },
        ),
        ("a 202 that is resolved later", record::Bounds { expiries: 1, ..provisional.clone() }),
        ("an expired record, and the sweeper", record::Bounds { starts_expired: true, expiries: 2, ..three.clone() }),
        (
            "an expired record, and bodies that may fail",
            record::Bounds {
                body: Body::MayFail,
                cache_failures: true,
                starts_expired: true,
                expiries: 2,
                ..three.clone()
            },
        ),
        ("a process is killed", record::Bounds { kills: 1, ..base.clone() }),
        ("a client leaves", record::Bounds { leaves: 1, ..calm }),
        ("a client leaves, a process is killed, a 202", record::Bounds { kills: 1, leaves: 1, ..provisional }),
    ];
    let model = |bounds| Record { bounds, rules: record::Rules::ALL, only: None };
    worlds.into_iter().map(|(name, bounds)| Scenario { name, model: model(bounds) }).collect()
}

/// The external call's worlds.
#[must_use]
pub fn call(size: Size) -> Vec<Scenario<Call>> {
    let large = size == Size::Large;
    let base = call::Bounds {
        workers: 2,
        max_attempts: if large { 5 } else { 3 },
        resumes: 0,
        crashes: 1,
        copies: 0,
        sendings: if large { 3 } else { 2 },
        quick_repeats: 0,
        hints: false,
        restores: 0,
        declines: false,
        refuses: true,
        stores_errors: false,
    };
    let no_keys = Times::WITHOUT_KEYS;
    let hints = Times { pause: 1, ..Times::DEFAULT };
    let worlds = [
        ("a handler and a resolver", Times::DEFAULT, base),
        (
            "a handler and two resolvers",
            Times::DEFAULT,
            call::Bounds { workers: 3, crashes: u8::from(large), max_attempts: if large { 4 } else { 3 }, ..base },
        ),
        (
            "declines, and 500s that the provider stores",
            Times::DEFAULT,
            call::Bounds { declines: true, stores_errors: true, ..base },
        ),
        (
            "quick repeats, and a network that copies",
            Times::DEFAULT,
            call::Bounds { quick_repeats: 1, copies: 1, crashes: 0, ..base },
        ),
        ("webhooks at any time", hints, call::Bounds { hints: true, ..base }),
        (
            "an operator who resumes what is parked",
            Times::DEFAULT,
            call::Bounds { max_attempts: base.max_attempts - 1, resumes: 2, ..base },
        ),
        (
            "a provider that keeps no keys",
            no_keys,
            call::Bounds { resumes: 1, workers: 3, max_attempts: if large { 4 } else { 3 }, ..base },
        ),
        (
            "a restored database",
            Times::DEFAULT,
            call::Bounds { restores: 1, max_attempts: base.max_attempts - 1, ..base },
        ),
    ];
    let world = |(name, times, bounds)| {
        let (assumptions, rules) = (Assumptions::ALL, call::Rules::ALL);
        Scenario { name, model: Call { bounds, times, assumptions, rules, only: None } }
    };
    worlds.into_iter().map(world).collect()
}

/// What the checker finds in the small worlds. It runs once per process.
pub fn small() -> &'static [(String, Checked)] {
    static CHECKED: OnceLock<Vec<(String, Checked)>> = OnceLock::new();
    CHECKED.get_or_init(|| {
        let record = record(Size::Small).into_iter();
        let record = record.map(|world| (format!("record: {}", world.name), check(world.model, Limits::SMALL)));
        let call = call(Size::Small).into_iter();
        let call = call.map(|world| (format!("call: {}", world.name), check(world.model, Limits::SMALL)));
        record.chain(call).collect()
    })
}
