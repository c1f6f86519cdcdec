//! Writes findings as a table for people, and as JSON. [`super::junit`] writes them for CI.

use std::fmt::Write;

use serde_json::{Value, json};

use super::args::Format;
use super::check::{Check, Experiment, Need};
use super::junit;
use super::report::{Finding, Outcome, Report, Status, word};

/// Writes the reports.
///
/// # Errors
/// A report can't be serialized, which is a defect.
pub fn write(outcomes: &[Outcome], format: Format, colors: bool) -> Result<String, Box<dyn std::error::Error>> {
    match format {
        Format::Text => Ok(texts(outcomes, colors)?),
        Format::Json => Ok(serde_json::to_string_pretty(&json(outcomes)?)? + "\n"),
        Format::Junit => Ok(junit::document(outcomes).to_string()? + "\n"),
    }
}

/// One report of the command line's endpoint, or the reports of a file's endpoints with their names.
fn json(outcomes: &[Outcome]) -> serde_json::Result<Value> {
    if let [Outcome { name: None, report: Ok(report) }] = outcomes {
        return serde_json::to_value(report);
    }
    let named = |outcome: &Outcome| {
        Ok(match &outcome.report {
            Ok(report) => json!({"name": outcome.name, "report": serde_json::to_value(report)?}),
            Err(error) => json!({"name": outcome.name, "error": error}),
        })
    };
    let endpoints: serde_json::Result<Vec<Value>> = outcomes.iter().map(named).collect();
    Ok(json!({"endpoints": endpoints?}))
}

fn texts(outcomes: &[Outcome], colors: bool) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    for Outcome { name, report } in outcomes {
        if let Some(name) = name {
            writeln!(out, "\n=== {name}")?;
        }
        match report {
            Ok(report) => text(&mut out, report, colors)?,
            Err(error) => writeln!(out, "\nnot checked: {error}")?,
        }
    }
    Ok(out)
}

fn text(out: &mut String, report: &Report, colors: bool) -> std::fmt::Result {
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
            explain(out, report, finding)?;
        }
    }
    unchecked(out, report)?;
    noted(out, report)?;
    writeln!(out, "\nprofile {}: {}", report.profile.name(), report.summary())
}

/// The checks that were skipped for lack of an option, and the option that enables them.
fn unchecked(out: &mut String, report: &Report) -> std::fmt::Result {
    let unchecked = report.unchecked();
    let width = unchecked.iter().map(|(option, _)| option.len()).max().unwrap_or(0);
    if !unchecked.is_empty() {
        writeln!(out, "\nnot checked, and the option that would check it")?;
    }
    for (option, checks) in unchecked {
        writeln!(out, "  {option:width$}  {}", checks.join(", "))?;
        if Need::FailingHeader.option() == Some(option) {
            writeln!(
                out,
                "  {:width$}  important: without it, a write outside the record's transaction may leave no trace",
                ""
            )?;
        }
    }
    Ok(())
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

/// The checks for which the profile has no rule, but which fail by another author's.
fn noted(out: &mut String, report: &Report) -> std::fmt::Result {
    let wrong = report.findings.iter().filter(|finding| finding.status == Status::Note);
    let wrong = wrong.filter_map(|finding| {
        let authors = finding.rules.iter().filter(|rule| rule.holds == Some(false)).map(|rule| rule.by.author());
        let authors = authors.collect::<Vec<_>>().join(", ");
        (!authors.is_empty()).then_some((finding.check, authors))
    });
    for (number, (check, authors)) in wrong.enumerate() {
        if number == 0 {
            writeln!(out, "\n{} has no rule for these, and others call them wrong", report.profile.author())?;
        }
        writeln!(out, "  {check}: {authors}")?;
    }
    Ok(())
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
