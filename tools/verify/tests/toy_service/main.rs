//! Tests of `idempotency-verify`: a right service passes every check, and each check fails on a service with its defect.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod binary;
mod defects;
mod failing_setup;
mod faults;
mod files;
mod right;
mod toy;

use std::sync::Arc;

use clap::Parser as _;
use idempotency_verify::{Args, Finding, Profile, Report, Status, Target};

use toy::{Books, Defect, Manner, Toy};

/// Runs a command line in this process.
async fn report(words: &[String]) -> Result<Report, String> {
    let words = std::iter::once("verify").chain(words.iter().map(String::as_str));
    let args = Args::try_parse_from(words).map_err(|error| error.to_string())?;
    idempotency_verify::run(Target::of(&args)?, &args).await
}

/// The complete command line for a toy and its replica.
fn command_line(toy: &Toy, replica: &Toy, more: &[&str]) -> Vec<String> {
    let base = &toy.base;
    let mut line =
        words(["POST", &format!("{base}/things"), "--header", "Authorization: Bearer one", "--vary", "customer"]);
    line.extend(words(["--body", r#"{"customer":"ada","quantity":1}"#]));
    line.extend(words(["--other-body", r#"{"customer":"ada","quantity":2}"#]));
    line.extend(words(["--failing-body", r#"{"customer":"ada","quantity":101}"#]));
    line.extend(words(["--count", &format!("GET {base}/things?customer={{customer}}"), "--replica", &replica.base]));
    line.extend(words(["--other-path", "/others", "--other-method", "PATCH", "--change", "POST {location}/see"]));
    line.extend(words(["--other-header", "Authorization: Bearer two", "--failing-header", "X-Fail: 1"]));
    line.extend(more.iter().map(|&word| word.to_owned()));
    line
}

/// A toy and its replica. They share their books.
fn toys(defect: Defect, manner: Manner) -> (Toy, Toy) {
    let books = Arc::new(Books::default());
    let start = || Toy::replica(defect, manner, Arc::clone(&books));
    (start(), start())
}

/// The finding of one check.
fn finding<'r>(report: &'r Report, check: &str) -> &'r Finding {
    report.findings.iter().find(|finding| finding.check == check).unwrap()
}

/// The names and texts of the findings with this status.
fn with_status(report: &Report, status: Status) -> Vec<(&str, &str)> {
    let findings = report.findings.iter().filter(|finding| finding.status == status);
    findings.map(|finding| (finding.check, finding.seen.as_str())).collect()
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(ToOwned::to_owned).into()
}

/// Whether the profile has a rule for the finding's check.
fn has_rule(finding: &Finding, profile: Profile) -> bool {
    finding.rule(profile).is_some()
}
