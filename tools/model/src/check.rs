//! Runs the checker on a model, and says what it found.

use std::fmt::Debug;
use std::hash::Hash;
use std::time::{Duration, Instant};

use stateright::{Checker as _, Model};

/// Where the checker stops, if it has not seen every state before.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Threads that look.
    pub threads: usize,
    /// For one world.
    pub time: Duration,
    /// Steps looked at. A step that leads to a known state counts too. The frontier of ten million steps takes some
    /// gigabytes.
    pub steps: usize,
}

impl Limits {
    /// For the small worlds, each of which takes seconds.
    pub const SMALL: Self = Self { threads: 1, time: Duration::from_secs(120), steps: 20_000_000 };
}

/// What the checker found in one world.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Different states. The checker knows a state by 64 bits of its hash.
    pub states: usize,
    /// The states on the longest of the shortest ways to a state.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// False: a limit came first.
    pub complete: bool,
    /// The properties that do not hold.
    pub broken: Vec<&'static str>,
}

/// Looks at every state that the model can reach, within the limits.
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
