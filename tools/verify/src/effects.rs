//! Counts effects by `--count`. Some services show an effect some time after the answer, because the count is a search
//! index or a replica. So a count that is too small is read again, and a count that may still grow is given the longest
//! delay seen.

use std::time::Duration;

use tokio::time::Instant;

use super::answer::counted;
use super::session::{ATTEMPTS, Key, Session, Trouble, most_setups};
use super::target::{Intent, Target};

/// The pauses between the looks at a count that is too small, in milliseconds: 2 s in all. A service that shows its effects later
/// than that can't be counted in a run of some minutes.
const PAUSES: [u64; 6] = [50, 100, 200, 400, 800, 450];

/// The most requests of one [`Effects::settle`]: a look before each pause and one at the end, one for surplus effects,
/// and one after the control.
pub(super) const LOOKS: usize = PAUSES.len() + 3;

/// The most requests of a control: a request until its final answer, a count before it, and the looks after it.
pub(super) const CONTROL: usize = ATTEMPTS + LOOKS;

/// A surplus effect may take longer than the slowest one so far. Twice the time catches all but a count that varies a
/// lot.
const MARGIN: u32 = 2;

/// A number of effects, or why there is none.
pub type Counted = Result<u64, Uncounted>;

/// Why effects were not counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uncounted {
    /// There is no `--count`.
    NotAsked,
    /// The count does not show effects in time.
    Late(&'static str),
}

const NEVER: &str = "--count did not show the effect of the first request within 2 s, so effects are not counted";

const NO_LONGER: &str = "--count showed too few effects for 2 s, and did not show a new request's effect either";

/// The effects since [`Session::watch`].
pub struct Effects<'s> {
    session: &'s Session,
    intent: &'s Intent,
    before: Option<u64>,
}

impl Session {
    /// Counts the effects before. Later, [`Effects::settle`] returns the difference.
    pub async fn watch<'s>(&'s self, intent: &'s Intent) -> Result<Effects<'s>, Trouble> {
        self.wait_for_late_effects().await;
        Ok(Effects { session: self, intent, before: self.count(intent).await? })
    }

    /// Waits until the effects of all requests so far should show.
    async fn wait_for_late_effects(&self) {
        let longest =
            (self.counting.lag() * MARGIN).min(PAUSES.iter().map(|&pause| Duration::from_millis(pause)).sum());
        if let Some(sent) = self.last_sent() {
            tokio::time::sleep_until(sent + longest).await;
        }
    }

    /// The present number of effects. `None` without `--count`.
    async fn count(&self, intent: &Intent) -> Result<Option<u64>, Trouble> {
        let Some(url) = &intent.count else { return Ok(None) };
        let answer = self.look(&intent.reading(url.clone())).await?;
        if answer.status != 200 {
            return Err(Trouble::Count(format!("{url} answered {}", answer.status)));
        }
        let json = serde_json::from_slice(&answer.body).map_err(|error| Trouble::Count(error.to_string()))?;
        counted(&json, self.target.given.count_at.as_deref()).map(Some).map_err(Trouble::Count)
    }

    /// The control: whether the count shows the effect of a new request in time. If it does, an effect that it did not
    /// show is lost.
    async fn still_counts(&self) -> Result<bool, Trouble> {
        let control = async || {
            self.allow_more(CONTROL + most_setups(&self.target));
            let intent = self.intent().await?;
            let effects = self.watch(&intent).await?;
            self.outcome(&self.request(&intent, &Key::fresh())).await?;
            Ok(effects.look_until(1).await?.is_some_and(|seen| seen >= 1))
        };
        self.counting.control.get_or_try_init(control).await.copied()
    }
}

impl Effects<'_> {
    /// The endpoint whose effects are counted.
    pub fn target(&self) -> &Target {
        &self.session.target
    }

    /// Measures with the first request how late the count is. If the effect does not show, nothing is counted in this
    /// run.
    pub async fn learn_lag(&self) -> Result<(), Trouble> {
        if self.look_until(1).await? == Some(0) {
            self.session.counting.stop(NEVER);
        }
        Ok(())
    }

    /// The number of effects, once `expected` of them, and any surplus, have had time to show.
    pub async fn settle(&self, expected: u64) -> Result<Counted, Trouble> {
        if let Some(why) = self.session.counting.stopped() {
            return Ok(Err(Uncounted::Late(why)));
        }
        let Some(mut seen) = self.look_until(expected).await? else { return Ok(Err(Uncounted::NotAsked)) };
        if seen < expected {
            if !self.session.still_counts().await? {
                self.session.counting.stop(NO_LONGER);
                return Ok(Err(Uncounted::Late(NO_LONGER)));
            }
            if self.intent.count != self.session.target.plain().map_err(Trouble::Request)?.count {
                // The count covers only this request's effects, so the control's is not among them.
                seen = self.now().await?.unwrap_or(seen);
            }
        } else if seen == expected && !self.session.counting.lag().is_zero() {
            self.session.wait_for_late_effects().await;
            seen = self.now().await?.unwrap_or(seen);
        }
        Ok(Ok(seen))
    }

    /// Looks until the count shows `expected` effects, for two seconds.
    async fn look_until(&self, expected: u64) -> Result<Option<u64>, Trouble> {
        let Some(mut seen) = self.now().await? else { return Ok(None) };
        let start = Instant::now();
        for pause in PAUSES {
            if seen >= expected {
                break;
            }
            tokio::time::sleep(Duration::from_millis(pause)).await;
            seen = self.now().await?.unwrap_or(seen);
            if seen >= expected {
                self.session.counting.was_late_by(start.elapsed());
            }
        }
        Ok(Some(seen))
    }

    async fn now(&self) -> Result<Option<u64>, Trouble> {
        let now = self.session.count(self.intent).await?;
        Ok(now.zip(self.before).map(|(now, before)| now.saturating_sub(before)))
    }
}
