//! Runs the checker on a model, and reports what it found.

use std::fmt::Debug;
use std::hash::Hash;
use std::time::{Duration, Instant};

use stateright::{Checker as _, Model};

/// Where the checker stops, unless it sees every state first.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The checker's threads.
    pub threads: usize,
    /// The time for one world.
    pub time: Duration,
    /// How many steps it follows, including those to a known state. The frontier of ten million steps takes some
    /// gigabytes.
    pub steps: usize,
}

impl Limits {
    /// For the small worlds, which take seconds each.
    pub const SMALL: Self = Self { threads: 1, time: Duration::from_secs(120), steps: 20_000_000 };
}

/// What the checker found in one world.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Different states. The checker identifies a state by 64 bits of its hash.
    pub states: usize,
    /// The number of states on the longest of the shortest paths.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// False if a limit came first.
    pub complete: bool,
    /// The properties that do not hold.
    pub broken: Vec<&'static str>,
}

/// Visits every state that the model can reach, within the limits.
pub fn check<M>(model: M, limits: Limits) -> Checked
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync + 'static,
{
    let begin = Instant::now();
    let checker = model.checker().threads(limits.threads).timeout(limits.time).target_state_count(limits.steps);
    let checker = checker.spawn_bfs().join();
    let took = begin.elapsed();
    let mut broken: Vec<_> = checker.discoveries().into_keys().collect();
    broken.sort_unstable();
    let complete = took < limits.time && checker.state_count() < limits.steps;
    Checked { states: checker.unique_state_count(), depth: checker.max_depth(), took, complete, broken }
}
