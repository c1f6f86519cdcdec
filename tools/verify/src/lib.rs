//! `idempotency-verify`: a black-box check of the keyed endpoints of any HTTP service.
//!
//! Guarantees: a run sends no more requests than it announced, and none to another machine without a yes. Each check
//! judges one claim, and reports what was sent, what is right for which author, and what was seen. No check knows this
//! project's paths or objects.
//!
//! Not guaranteed: that a service that passes is right. The next fifty duplicates may hit a race that the first fifty
//! missed, and crashes can't be tested from outside.

mod accounts;
mod answer;
mod args;
mod changes;
mod check;
mod command;
mod config;
mod counting;
mod duplicates;
mod effects;
mod failures;
mod fill;
mod fingerprints;
mod junit;
mod key;
mod keys;
mod leaving;
mod output;
mod problems;
mod replays;
mod report;
mod run;
mod send;
mod session;
mod step;
mod target;
mod words;

pub use args::{Args, Endpoint, Format, Header, RunOptions};
pub use check::{Check, Experiment, Need, Profile};
pub use command::main;
pub use report::{Finding, Report, Status};
pub use run::run;
pub use step::Step;
pub use target::Target;

/// Every experiment, in the order in which they run.
pub fn experiments() -> impl Iterator<Item = &'static Experiment> {
    let groups = [
        keys::ALL,
        replays::ALL,
        changes::ALL,
        fingerprints::ALL,
        duplicates::ALL,
        leaving::ALL,
        failures::ALL,
        accounts::ALL,
        problems::ALL,
    ];
    groups.into_iter().flatten()
}

/// Every check, with its experiment.
pub fn checks() -> impl Iterator<Item = (&'static Experiment, &'static Check)> {
    experiments().flat_map(|experiment| experiment.checks.iter().map(move |check| (experiment, check)))
}
