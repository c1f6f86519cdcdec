//! `payments verify`, held to its own word: it passes what is right, and each check fails for its defect.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is how a failure is told")]

#[expect(dead_code, reason = "the API's tests need more of a client than these do")]
#[path = "../api/app.rs"]
mod app;
#[expect(dead_code, reason = "the API's tests look into the database, these do not")]
#[path = "../support/mod.rs"]
mod support;

mod binary;
mod defects;
mod this_api;
mod toy;

use clap::Parser;
use idempotent_payments::verify::{self, Args, Finding, Profile, Report, Status, Target};

fn prepare_template(url: &str) {
    idempotent_payments::db::migrate(url).unwrap();
    idempotent_payments::demo::seed(&mut support::connect(url)).unwrap();
}

/// A command line, as `payments verify` reads it.
#[derive(Debug, Parser)]
struct CommandLine {
    #[command(flatten)]
    args: Args,
}

/// Runs what the command line says, in this process.
async fn report(words: &[String]) -> Result<Report, String> {
    let words = std::iter::once("verify").chain(words.iter().map(String::as_str));
    let args = CommandLine::try_parse_from(words).map_err(|error| error.to_string())?.args;
    verify::run(Target::of(&args)?, args.profile, &args.only).await
}

/// The finding of one check.
fn finding<'r>(report: &'r Report, check: &str) -> &'r Finding {
    report.findings.iter().find(|finding| finding.check == check).unwrap()
}

/// Names and texts of the findings that have one of these statuses.
fn with_status(report: &Report, status: Status) -> Vec<(&str, &str)> {
    let findings = report.findings.iter().filter(|finding| finding.status == status);
    findings.map(|finding| (finding.check, finding.seen.as_str())).collect()
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(ToOwned::to_owned).into()
}

/// Whether the profile says something about a check.
fn has_rule(finding: &Finding, profile: Profile) -> bool {
    finding.rule(profile).is_some()
}
