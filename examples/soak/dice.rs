//! Randomness from a seed: the same seed gives the same load and the same faults. How they meet is up to the machine.

use std::hash::{DefaultHasher, Hash, Hasher};

use fastrand::Rng;

/// The seed of a run.
#[derive(Clone, Copy, Debug)]
pub struct Seed(pub u64);

impl Seed {
    /// Dice for this name alone, so that the order in which tasks throw them makes no difference.
    pub fn dice(self, name: &str) -> Dice {
        // Its keys are fixed, so it is the same in every run.
        let mut hash = DefaultHasher::new();
        (self.0, name).hash(&mut hash);
        Dice(Rng::with_seed(hash.finish()))
    }
}

pub struct Dice(Rng);

impl Dice {
    pub fn chance(&mut self, percent: u32) -> bool {
        self.0.u32(..100) < percent
    }

    /// A number from `from` to `to`.
    pub fn number(&mut self, from: u64, to: u64) -> u64 {
        self.0.u64(from..=to)
    }

    /// One of these, by weight.
    pub fn pick<T: Copy>(&mut self, weighted: &[(T, u32)]) -> T {
        let weights: u32 = weighted.iter().map(|(_, weight)| weight).sum();
        let mut point = self.0.u32(..weights);
        for (what, weight) in weighted {
            if point < *weight {
                return *what;
            }
            point -= weight;
        }
        weighted[0].0
    }
}
