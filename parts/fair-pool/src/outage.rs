// SPDX-License-Identifier: MIT OR Apache-2.0
//! The log lines of a failing database: for each cause one line when it begins, one a minute while it lasts, and one
//! when it is over, however many requests meet it.
//!
//! Guarantees: one cause never hides another. The memory is bounded: a few numbers for each cause.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};
use log::Level;
use parking_lot::Mutex;

use super::cause::{Cause, one_line};

/// The time between two log lines of a lasting cause. The reader must see that it lasts, and still find the other
/// lines.
const LINE_EVERY: Duration = Duration::from_secs(60);

/// After this time, other words for the same cause get a line: a server that refused connections may now say that it is
/// starting. Two addresses of one host that fail in turn get at most six lines a minute.
const NEWS_AFTER: Duration = Duration::from_secs(10);

/// A cause is over when nothing has met it for this long. Even a single client meets it again after six seconds: a
/// statement ends after five, and Retry-After is one. While a cause lasts, readiness checks every second, and waits for
/// at most three.
const QUIET_AFTER: Duration = Duration::from_secs(10);

/// The causes that last, and how many requests were refused for each.
#[derive(Debug, Default)]
pub struct Outages(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    lasting: BTreeMap<Cause, Since>,
    /// Since the start of the process.
    refused: BTreeMap<Cause, u64>,
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
}

/// A line for the log.
#[derive(Debug)]
pub(super) struct Line {
    pub level: Level,
    pub text: String,
    pub cause: Cause,
    /// The requests that were answered with 503 for it.
    pub requests: u64,
    /// How often work, a readiness check or an attempt to connect met it. Some of the work ran again and succeeded.
    pub times: u64,
    since: DateTime<Utc>,
}

impl Outages {
    /// The causes that last.
    #[must_use]
    pub fn on(&self) -> Vec<Cause> {
        self.0.lock().lasting.keys().copied().collect()
    }

    /// Counts a request that was answered with 503.
    pub fn count_refused(&self, cause: Cause) {
        let mut state = self.0.lock();
        *state.refused.entry(cause).or_default() += 1;
        if let Some(since) = state.lasting.get_mut(&cause) {
            since.requests += 1;
        }
    }

    /// How many requests were answered with 503 for this cause, since the start of the process.
    #[must_use]
    pub fn refused(&self, cause: Cause) -> u64 {
        self.0.lock().refused.get(&cause).copied().unwrap_or_default()
    }

    /// Counts a piece of work that met the cause. Returns its line if one is due now. [`Outages::tell_lock`] returns
    /// the line about locks.
    pub(super) fn met(&self, cause: Cause, now: Instant, words: impl FnOnce() -> String) -> Option<Line> {
        let mut state = self.0.lock();
        let since = state.lasting.entry(cause).or_insert_with(|| Since::new(now));
        since.last = now;
        since.times += 1;
        let is_due = since.is_due(now, LINE_EVERY);
        if is_due || cause == Cause::Unreachable {
            let words = one_line(&words());
            let is_news = words != since.words && since.is_due(now, NEWS_AFTER);
            if is_due || is_news {
                since.words = words;
                return (cause != Cause::LockTimeout).then(|| since.line_of_lasting(cause, now, None));
            }
        }
        None
    }

    /// Why work gets no connection at the moment, if so, and PostgreSQL's words for it.
    pub(super) fn away(&self) -> Option<(Cause, String)> {
        let state = self.0.lock();
        let (cause, since) = state.lasting.iter().find(|(cause, _)| cause.is_away())?;
        Some((*cause, since.words.clone()))
    }

    /// Whether the line about locks is due. The caller may first look up who holds them.
    pub(super) fn owes_lock(&self, now: Instant) -> bool {
        // If nobody has met a lock since the last line, nobody waits.
        self.0
            .lock()
            .lasting
            .get(&Cause::LockTimeout)
            .is_some_and(|since| since.is_due(now, LINE_EVERY) && since.told.is_none_or(|told| since.last > told))
    }

    /// The line about locks, with their holder if it is known.
    pub(super) fn tell_lock(&self, holder: Option<&str>, now: Instant) -> Option<Line> {
        let mut state = self.0.lock();
        Some(state.lasting.get_mut(&Cause::LockTimeout)?.line_of_lasting(Cause::LockTimeout, now, holder))
    }

    /// Ends the causes that are over, and returns their lines.
    pub(super) fn end(&self, now: Instant) -> Vec<Line> {
        let mut lines = vec![];
        self.0.lock().lasting.retain(|cause, since| {
            let lasts = now.duration_since(since.last) < QUIET_AFTER;
            if !lasts {
                let after = since.last.duration_since(since.began).as_secs_f64();
                // After a lost connection, the work has run again.
                let level = if *cause == Cause::ConnectionLost { Level::Info } else { Level::Warn };
                lines.push(since.line(*cause, level, format!("over after {after:.1} s: {}", cause.detail())));
            }
            lasts
        });
        lines
    }
}

impl Since {
    fn new(now: Instant) -> Self {
        let (began_at, words) = (Utc::now(), String::new());
        Self { began: now, began_at, last: now, told: None, words, times: 0, requests: 0 }
    }

    fn is_due(&self, now: Instant, after: Duration) -> bool {
        self.told.is_none_or(|told| now.duration_since(told) >= after)
    }

    fn line_of_lasting(&mut self, cause: Cause, now: Instant, holder: Option<&str>) -> Line {
        let lasts = self.told.replace(now).map(|_| format!(", for {} s now", now.duration_since(self.began).as_secs()));
        let holder = holder.map(|holder| format!("; {holder}"));
        let [lasts, holder] = [lasts, holder].map(Option::unwrap_or_default);
        self.line(cause, cause.level(), format!("{}{lasts}: {}{holder}", cause.detail(), self.words))
    }

    fn line(&self, cause: Cause, level: Level, text: String) -> Line {
        Line { level, text, cause, requests: self.requests, times: self.times, since: self.began_at }
    }
}

impl Line {
    /// Logs the line.
    pub fn tell(&self) {
        let (cause, since) = (self.cause.name(), self.since.to_rfc3339_opts(SecondsFormat::Millis, true));
        log::log!(self.level, cause, requests = self.requests, times = self.times, since = since.as_str(); "{}", self.text);
    }
}

#[cfg(test)]
mod tests;
