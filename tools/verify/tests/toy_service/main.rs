//! Tests of `idempotency-verify`: a right service passes every check, and each check fails on a service with its defect.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod binary;
mod defects;
mod toy;

use clap::Parser;
use idempotency_verify::{Args, Finding, Profile, Report, Status, Target};

/// The command line of `idempotency-verify`.
#[derive(Debug, Parser)]
struct CommandLine {
    #[command(flatten)]
    args: Args,
}

/// Runs a command line in this process.
async fn report(words: &[String]) -> Result<Report, String> {
    let words = std::iter::once("verify").chain(words.iter().map(String::as_str));
    let args = CommandLine::try_parse_from(words).map_err(|error| error.to_string())?.args;
    idempotency_verify::run(Target::of(&args)?, args.profile, &args.only).await
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
