//! What was found, and what it means under the chosen profile.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use super::check::{Check, Experiment, Holds, Profile, Seen};

/// What a finding means under the profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The profile's rule holds.
    Pass,
    /// What the profile requires does not hold.
    Fail,
    /// What the profile only recommends does not hold.
    Warn,
    /// The profile says nothing: what was seen stands there for the reader.
    Note,
    /// Nothing was judged; `seen` says why.
    Skip,
}

/// One author's rule, judged.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    /// Who says so.
    pub by: Profile,
    /// What is right.
    pub right: &'static str,
    /// Whether the author requires it.
    pub required: bool,
    /// Whether it holds; none where nothing was judged.
    pub holds: Option<bool>,
}

/// One check's finding.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The heading under which the check stands.
    pub group: &'static str,
    /// The check's name.
    pub check: &'static str,
    /// What the finding means under the profile.
    pub status: Status,
    /// What was sent.
    pub sends: &'static str,
    /// What came back, or why nothing was judged.
    pub seen: String,
    /// What each author says is right.
    pub rules: Vec<Judged>,
    /// What to do, where the check fails or warns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<&'static str>,
}

/// All findings of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Method and URL, as they were given.
    pub target: String,
    /// Whose rules decide.
    pub profile: Profile,
    /// RFC 3339.
    pub started_at: String,
    /// The version of this program.
    pub version: &'static str,
    /// Whether effects were counted, or judged by the replies.
    pub effects: &'static str,
    /// How many requests were announced.
    pub requests_announced: usize,
    /// How many were sent.
    pub requests_sent: usize,
    /// In the order in which they were made.
    pub findings: Vec<Finding>,
}

impl Finding {
    /// Judges what was seen by the profile's rule.
    #[must_use]
    pub fn of(experiment: &Experiment, check: &Check, profile: Profile, seen: Seen) -> Self {
        let status = status(check, profile, seen.holds);
        let rules = check.rules.iter().map(|rule| Judged {
            by: rule.by,
            right: rule.right,
            required: rule.required,
            holds: seen.holds.map(|holds| holds.by(rule.by)),
        });
        Self {
            group: experiment.group,
            check: check.name,
            status,
            sends: experiment.sends,
            seen: seen.text,
            rules: rules.collect(),
            advice: matches!(status, Status::Fail | Status::Warn).then_some(check.advice),
        }
    }

    /// The rule that decided, under this profile.
    #[must_use]
    pub fn rule(&self, profile: Profile) -> Option<&Judged> {
        self.rules.iter().find(|rule| rule.by == profile)
    }
}

fn status(check: &Check, profile: Profile, holds: Option<Holds>) -> Status {
    let rule = check.rules.iter().find(|rule| rule.by == profile);
    match (rule, holds) {
        (_, None) => Status::Skip,
        (None, Some(_)) => Status::Note,
        (Some(_), Some(holds)) if holds.by(profile) => Status::Pass,
        (Some(rule), Some(_)) if rule.required => Status::Fail,
        (Some(_), Some(_)) => Status::Warn,
    }
}

impl Report {
    /// How many findings have this status.
    #[must_use]
    pub fn count(&self, status: Status) -> usize {
        self.findings.iter().filter(|finding| finding.status == status).count()
    }

    /// Whether something failed that the profile requires.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.count(Status::Fail) > 0
    }

    /// One line: how many passed, failed and so on.
    #[must_use]
    pub fn summary(&self) -> String {
        let name = |status| self.count(status);
        format!(
            "{} passed, {} failed, {} warned, {} noted, {} skipped; {} requests sent",
            name(Status::Pass),
            name(Status::Fail),
            name(Status::Warn),
            name(Status::Note),
            name(Status::Skip),
            self.requests_sent
        )
    }
}

/// A moment as RFC 3339 has it.
#[must_use]
pub fn rfc3339(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::Secs, true)
}
