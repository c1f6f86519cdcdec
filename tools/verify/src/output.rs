//! Writes findings as a table for people, as JSON, and as `JUnit` XML for CI.

use std::fmt::Write;

use quick_junit::{NonSuccessKind, Report as Document, TestCase, TestCaseStatus, TestSuite};

use super::args::Format;
use super::check::{Check, Experiment};
use super::report::{Finding, Report, Status};

/// Writes a report.
///
/// # Errors
/// If the report can't be serialized, which is a defect.
pub fn write(report: &Report, format: Format, colors: bool) -> Result<String, Box<dyn std::error::Error>> {
    match format {
        Format::Text => Ok(text(report, colors)?),
        Format::Json => Ok(serde_json::to_string_pretty(report)? + "\n"),
        Format::Junit => Ok(junit(report).to_string()? + "\n"),
    }
}

fn text(report: &Report, colors: bool) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    let width = report.findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    let mut group = "";
    for finding in &report.findings {
        if finding.group != group {
            group = finding.group;
            writeln!(out, "\n{group}")?;
        }
        let (word, color) = word(finding.status);
        let word = if colors { format!("\x1b[{color}m{word}\x1b[0m") } else { word.to_owned() };
        writeln!(out, "  {word}  {:width$}  {}", finding.check, finding.seen)?;
        if matches!(finding.status, Status::Fail | Status::Warn) {
            explain(&mut out, report, finding)?;
        }
    }
    writeln!(out, "\nprofile {}: {}", profile(report), report.summary())?;
    Ok(out)
}

/// Explains a finding: what was sent, what is right for which author, and what to do.
fn explain(out: &mut String, report: &Report, finding: &Finding) -> std::fmt::Result {
    writeln!(out, "        sent: {}", finding.sends)?;
    if let Some(rule) = finding.rule(report.profile) {
        writeln!(out, "        right, by {}: {}", rule.by.author(), rule.right)?;
    }
    let others = finding.rules.iter().filter(|rule| rule.by != report.profile && rule.holds == Some(true));
    for rule in others {
        writeln!(out, "        but right by {}: {}", rule.by.author(), rule.right)?;
    }
    writeln!(out, "        advice: {}", finding.advice.unwrap_or_default())
}

fn word(status: Status) -> (&'static str, u8) {
    match status {
        Status::Pass => ("pass", 32),
        Status::Fail => ("FAIL", 31),
        Status::Warn => ("warn", 33),
        Status::Note => ("note", 36),
        Status::Skip => ("skip", 90),
    }
}

fn profile(report: &Report) -> String {
    format!("{:?}", report.profile).to_lowercase()
}

fn junit(report: &Report) -> Document {
    let mut document = Document::new(format!("idempotency-verify {} (profile {})", report.target, profile(report)));
    let mut groups: Vec<&str> = report.findings.iter().map(|finding| finding.group).collect();
    groups.dedup();
    for group in groups {
        let mut suite = TestSuite::new(group);
        let of_group = report.findings.iter().filter(|finding| finding.group == group);
        suite.add_test_cases(of_group.map(|finding| test_case(report, finding)));
        document.add_test_suite(suite);
    }
    document
}

/// A warning and a note are successes with an output: CI must not fail for what the profile does not require.
fn test_case(report: &Report, finding: &Finding) -> TestCase {
    let mut status = match finding.status {
        Status::Fail => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Status::Skip => TestCaseStatus::skipped(),
        Status::Pass | Status::Warn | Status::Note => TestCaseStatus::success(),
    };
    match finding.status {
        Status::Fail => {
            let right = finding.rule(report.profile).map_or("", |rule| rule.right);
            status.set_message(finding.seen.clone());
            status.set_type(format!("{} requires", finding.rule(report.profile).map_or("", |rule| rule.by.author())));
            let advice = finding.advice.unwrap_or_default();
            status.set_description(format!("sent: {}\nright: {right}\nadvice: {advice}", finding.sends));
        }
        Status::Skip => {
            status.set_message(finding.seen.clone());
        }
        Status::Pass | Status::Warn | Status::Note => {}
    }
    let mut case = TestCase::new(finding.check, status);
    case.set_classname(format!("payments.verify.{}", finding.group));
    if matches!(finding.status, Status::Pass | Status::Warn | Status::Note) {
        case.set_system_out(format!("{}: {}", word(finding.status).0, finding.seen));
    }
    case
}

/// All checks, for `--list`.
///
/// # Errors
/// None: writing to a string does not fail.
pub fn list<'a>(checks: impl Iterator<Item = (&'a Experiment, &'a Check)>) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    let mut last: Option<&Experiment> = None;
    for (experiment, check) in checks {
        if last.is_none_or(|last| !std::ptr::eq(last, experiment)) {
            let needs: Vec<_> = experiment.needs.iter().map(|need| need.text()).collect();
            let needs = if needs.is_empty() { String::new() } else { format!("; {}", needs.join(", ")) };
            writeln!(
                out,
                "\n{}: {} ({} requests at most{needs})",
                experiment.group, experiment.sends, experiment.requests
            )?;
            last = Some(experiment);
        }
        writeln!(out, "  {}", check.name)?;
        for rule in check.rules {
            let by = if rule.required { "" } else { ", only recommended" };
            writeln!(out, "      {}{by}: {}", rule.by.author(), rule.right)?;
        }
    }
    Ok(out)
}
