//! The findings, and their meaning under the chosen profile.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use super::check::{Check, Experiment, Holds, Need, Profile, Seen};

/// The meaning of a finding under the profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The profile's rule holds.
    Pass,
    /// A rule that the profile requires does not hold.
    Fail,
    /// A rule that the profile only recommends does not hold.
    Warn,
    /// The profile has no rule. The report shows what was seen.
    Note,
    /// Nothing was judged. `seen` says why.
    Skip,
}

/// One author's rule, judged.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    /// The author.
    pub by: Profile,
    /// What is right.
    pub right: &'static str,
    /// Whether the author requires it.
    pub required: bool,
    /// Whether the rule holds. `None` if nothing was judged.
    pub holds: Option<bool>,
}

/// One check's finding.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The heading of the check.
    pub group: &'static str,
    /// The check's name.
    pub check: &'static str,
    /// The meaning of the finding under the profile.
    pub status: Status,
    /// What was sent.
    pub sends: &'static str,
    /// What came back, or why nothing was judged.
    pub seen: String,
    /// Each author's rule.
    pub rules: Vec<Judged>,
    /// The option that would enable the check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub option: Option<&'static str>,
    /// What to do if the check fails or warns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<&'static str>,
}

/// All findings of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Method and URL, as they were given.
    pub target: String,
    /// The author whose rules decide.
    pub profile: Profile,
    /// The start of the run, in RFC 3339.
    pub started_at: String,
    /// The version of this program.
    pub version: &'static str,
    /// Whether effects were counted or judged by the replies, or why they were not counted.
    pub effects: &'static str,
    /// The number of announced requests.
    pub requests_announced: usize,
    /// The number of sent requests.
    pub requests_sent: usize,
    /// In the order of the run.
    pub findings: Vec<Finding>,
}

impl Finding {
    /// Judges, by the profile's rule, what was seen.
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
            option: seen.needs.and_then(Need::option),
            advice: matches!(status, Status::Fail | Status::Warn).then_some(check.advice),
        }
    }

    /// The rule that decides under this profile.
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
    /// The number of findings with this status.
    #[must_use]
    pub fn count(&self, status: Status) -> usize {
        self.findings.iter().filter(|finding| finding.status == status).count()
    }

    /// Whether a check failed.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.count(Status::Fail) > 0
    }

    /// Whether a check was judged. A run that skipped every check says nothing about the endpoint.
    #[must_use]
    pub fn judged(&self) -> bool {
        self.findings.iter().any(|finding| finding.status != Status::Skip)
    }

    /// The options that were not given, each with the checks that need it.
    #[must_use]
    pub fn unchecked(&self) -> Vec<(&'static str, Vec<&'static str>)> {
        let mut unchecked: Vec<(&'static str, Vec<&'static str>)> = Vec::new();
        for finding in &self.findings {
            let Some(option) = finding.option else { continue };
            match unchecked.iter_mut().find(|(known, _)| *known == option) {
                Some((_, checks)) => checks.push(finding.check),
                None => unchecked.push((option, vec![finding.check])),
            }
        }
        unchecked
    }

    /// One line with the number of findings of each status.
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

/// The moment in RFC 3339.
#[must_use]
pub fn rfc3339(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// The outcome of one endpoint.
pub struct Outcome {
    /// The endpoint's name in the configuration file.
    pub name: Option<String>,
    /// The report, or why the endpoint was not checked.
    pub report: Result<Report, String>,
}

pub(super) fn word(status: Status) -> (&'static str, u8) {
    match status {
        Status::Pass => ("pass", 32),
        Status::Fail => ("FAIL", 31),
        Status::Warn => ("warn", 33),
        Status::Note => ("note", 36),
        Status::Skip => ("skip", 90),
    }
}
