//! The log lines of a failing database: for each cause one line when it begins, one line a minute while it lasts, and one line
//! when it is over, for any number of requests.
//!
//! Guarantees: one cause never hides another. The memory is bounded: a few numbers for each cause.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};
use log::Level;

use super::cause::{Cause, shown};
use crate::process::logging;

/// The time between two log lines of a lasting cause. The reader must see that it lasts, and still find the other lines.
const LINE_EVERY: Duration = Duration::from_secs(60);

/// Other words for the same cause are news after this time: a server that refused connections now says that it is starting. Two
/// addresses of one host that fail by turns make six lines a minute.
const NEWS_AFTER: Duration = Duration::from_secs(10);

/// After a proof that a cause is over, it must stay away for this long. So a server that accepts every second connection does not
/// end its outage each time.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// A cause that nothing but a request meets is over when none has met it for this long. A client alone meets it again after six
/// seconds: a statement ends after five, and Retry-After is one.
const QUIET_AFTER: Duration = Duration::from_secs(10);

const CAUSES: usize = Cause::ALL.len();

/// What fails now, and how many requests it has refused.
#[derive(Debug, Default)]
pub(super) struct Outages {
    lasting: Mutex<[Option<Since>; CAUSES]>,
    /// How many causes last. Work that succeeds looks only at this.
    on: AtomicUsize,
    /// Since the start of the process.
    refused: [AtomicU64; CAUSES],
}

#[derive(Debug)]
struct Since {
    began: Instant,
    began_at: DateTime<Utc>,
    last: Instant,
    told: Option<Instant>,
    /// PostgreSQL's words.
    words: String,
    times: u64,
    requests: u64,
    /// The first sign after `last` that it is over.
    proven: Option<Instant>,
}

/// A line for the log.
#[derive(Debug)]
pub(super) struct Line {
    pub level: Level,
    pub text: String,
    pub cause: Cause,
    /// The requests that were answered with 503 for it.
    pub requests: u64,
    /// The pieces of work that met it. Some of them ran again and succeeded.
    pub times: u64,
    since: DateTime<Utc>,
}

impl Outages {
    /// Counts a piece of work that met the cause. The line is due now; that of a lock is told by [`Outages::tell_lock`].
    pub fn met(&self, cause: Cause, now: Instant, words: impl FnOnce() -> String) -> Option<Line> {
        let mut lasting = self.lock();
        let since = lasting[cause as usize].get_or_insert_with(|| {
            self.on.fetch_add(1, Ordering::Relaxed);
            Since::new(now)
        });
        (since.last, since.proven) = (now, None);
        since.times += 1;
        let is_due = since.is_due(now, LINE_EVERY);
        if is_due || cause == Cause::Unreachable {
            let words = shown(&words());
            let is_news = words != since.words && since.is_due(now, NEWS_AFTER);
            if is_due || is_news {
                since.words = words;
                return (cause != Cause::LockTimeout).then(|| since.line_of_lasting(cause, now, None));
            }
        }
        None
    }

    /// Counts a request that was answered with 503.
    pub fn refused(&self, cause: Cause) {
        self.refused[cause as usize].fetch_add(1, Ordering::Relaxed);
        if let Some(since) = &mut self.lock()[cause as usize] {
            since.requests += 1;
        }
    }

    /// How many requests each cause has refused since the start of the process.
    pub fn all_refused(&self) -> [(Cause, u64); CAUSES] {
        Cause::ALL.map(|cause| (cause, self.refused[cause as usize].load(Ordering::Relaxed)))
    }

    /// A sign that these causes are over.
    pub fn prove_over(&self, causes: &[Cause], now: Instant) {
        if self.on.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut lasting = self.lock();
        for cause in causes {
            if let Some(since) = &mut lasting[*cause as usize] {
                since.proven.get_or_insert(now);
            }
        }
    }

    /// The causes that last.
    pub fn on(&self) -> Vec<Cause> {
        if self.on.load(Ordering::Relaxed) == 0 {
            return vec![];
        }
        let lasting = self.lock();
        Cause::ALL.into_iter().filter(|cause| lasting[*cause as usize].is_some()).collect()
    }

    /// Why there is no connection for work, if that lasts, with PostgreSQL's words.
    pub fn away(&self) -> Option<(Cause, String)> {
        let cause = self.on().into_iter().find(|cause| cause.is_away())?;
        self.lock()[cause as usize].as_ref().map(|since| (cause, since.words.clone()))
    }

    /// Whether the line about locks is due. Before it is written, somebody may look who holds them.
    pub fn owes_lock(&self, now: Instant) -> bool {
        let lasting = self.lock();
        // If nobody has met a lock since the last line, nobody waits.
        lasting[Cause::LockTimeout as usize]
            .as_ref()
            .is_some_and(|since| since.is_due(now, LINE_EVERY) && since.told.is_none_or(|told| since.last > told))
    }

    /// The line about locks, with who holds them, if that is known.
    pub fn tell_lock(&self, holder: Option<&str>, now: Instant) -> Option<Line> {
        let mut lasting = self.lock();
        Some(lasting[Cause::LockTimeout as usize].as_mut()?.line_of_lasting(Cause::LockTimeout, now, holder))
    }

    /// Ends what is over.
    pub fn end(&self, now: Instant) -> Vec<Line> {
        let mut lasting = self.lock();
        let mut lines = vec![];
        for cause in Cause::ALL {
            let since = &mut lasting[cause as usize];
            if since.as_ref().is_some_and(|since| since.is_over(cause, now))
                && let Some(since) = since.take()
            {
                self.on.fetch_sub(1, Ordering::Relaxed);
                lines.push(since.last_line(cause));
            }
        }
        lines
    }

    fn lock(&self) -> MutexGuard<'_, [Option<Since>; CAUSES]> {
        // Counting does not panic, so the counts are right even if the lock is poisoned.
        self.lasting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Since {
    fn new(now: Instant) -> Self {
        let words = String::new();
        let began_at = Utc::now();
        Self { began: now, began_at, last: now, told: None, words, times: 0, requests: 0, proven: None }
    }

    fn is_due(&self, now: Instant, after: Duration) -> bool {
        self.told.is_none_or(|told| now.duration_since(told) >= after)
    }

    fn is_over(&self, cause: Cause, now: Instant) -> bool {
        let quiet_for = now.duration_since(self.last);
        if cause.is_probed() { self.proven.is_some() && quiet_for >= SETTLED_AFTER } else { quiet_for >= QUIET_AFTER }
    }

    fn line_of_lasting(&mut self, cause: Cause, now: Instant, holder: Option<&str>) -> Line {
        let lasts = self.told.replace(now).map(|_| format!(", for {} s now", now.duration_since(self.began).as_secs()));
        let holder = holder.map(|holder| format!("; {holder}"));
        let [lasts, holder] = [lasts, holder].map(Option::unwrap_or_default);
        let text = format!("{}{lasts}: {}{holder}", cause.begins(), self.words);
        self.line(cause, cause.level(), text)
    }

    fn last_line(self, cause: Cause) -> Line {
        let end = self.proven.filter(|_| cause.is_probed()).unwrap_or(self.last);
        let text = format!("{}, after {:.1} s", cause.ends(), end.duration_since(self.began).as_secs_f64());
        let level = if cause == Cause::ConnectionLost { Level::Info } else { Level::Warn };
        self.line(cause, level, text)
    }

    fn line(&self, cause: Cause, level: Level, text: String) -> Line {
        Line { level, text, cause, requests: self.requests, times: self.times, since: self.began_at }
    }
}

impl Line {
    /// Writes the line.
    pub fn tell(&self) {
        let since = self.since.to_rfc3339_opts(SecondsFormat::Millis, true);
        let mut fields = vec![("cause", self.cause.name().into()), ("requests", self.requests.into())];
        fields.extend([("times", self.times.into()), ("since", since.as_str().into())]);
        logging::line(self.level, module_path!(), &self.text, &fields);
    }
}

#[cfg(test)]
mod tests;
