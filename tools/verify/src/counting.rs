//! What a run knows about the count of `--count`: how late it is, and whether it is usable.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::OnceCell;

/// What the run has learned about the count.
#[derive(Default)]
pub struct Counting {
    /// The longest time that an effect took to show, in milliseconds.
    lag: AtomicU64,
    /// Why effects are not counted, although they should be.
    stopped: OnceLock<&'static str>,
    /// Whether the count showed a new request's effect in time. Tested once per run, when a count shows too few
    /// effects.
    pub(super) control: OnceCell<bool>,
}

impl Counting {
    /// The longest time that an effect took to show.
    pub fn lag(&self) -> Duration {
        Duration::from_millis(self.lag.load(Ordering::Relaxed))
    }

    /// An effect took this long to show.
    pub fn was_late_by(&self, time: Duration) {
        self.lag.fetch_max(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Stops counting effects, for this reason.
    pub fn stop(&self, why: &'static str) {
        let _ = self.stopped.set(why);
    }

    /// Why effects are not counted, although they should be.
    pub fn stopped(&self) -> Option<&'static str> {
        self.stopped.get().copied()
    }
}
