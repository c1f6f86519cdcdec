//! Writes findings as `JUnit` XML for CI.

use quick_junit::{NonSuccessKind, Report as Document, TestCase, TestCaseStatus, TestSuite};

use super::report::{Finding, Outcome, Report, Status, word};

/// One document: a suite for each group of checks, and for each endpoint of a file.
pub fn document(outcomes: &[Outcome]) -> Document {
    let title = match outcomes {
        [Outcome { name: None, report: Ok(report) }] => {
            format!("{} (profile {})", report.target, report.profile.name())
        }
        several => format!("{} endpoints", several.len()),
    };
    let mut document = Document::new(format!("idempotency-verify {title}"));
    for Outcome { name, report } in outcomes {
        let name = name.as_deref().unwrap_or_default();
        match report {
            Ok(report) => document.add_test_suites(suites(name, report)),
            Err(error) => document.add_test_suite(not_checked(name, error)),
        };
    }
    document
}

/// Puts the endpoint's name before a group's or a check's: CI servers merge tests of the same name.
fn of(endpoint: &str, separator: &str, name: &str) -> String {
    if endpoint.is_empty() { name.to_owned() } else { format!("{endpoint}{separator}{name}") }
}

fn suites(endpoint: &str, report: &Report) -> Vec<TestSuite> {
    let mut groups: Vec<&str> = report.findings.iter().map(|finding| finding.group).collect();
    groups.dedup();
    let suite = |group: &str| {
        let mut suite = TestSuite::new(of(endpoint, ": ", group));
        let of_group = report.findings.iter().filter(|finding| finding.group == group);
        suite.add_test_cases(of_group.map(|finding| test_case(endpoint, report, finding)));
        suite
    };
    groups.into_iter().map(suite).collect()
}

/// An endpoint that did not answer its request with a 2xx is an error of the run.
fn not_checked(endpoint: &str, error: &str) -> TestSuite {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
    status.set_message(error).set_type("not checked");
    let mut suite = TestSuite::new(of(endpoint, ": ", "the request"));
    suite.add_test_case(TestCase::new("the-request-itself", status));
    suite
}

/// A warning or a note is a success with output: CI must not fail for what the profile does not require.
fn test_case(endpoint: &str, report: &Report, finding: &Finding) -> TestCase {
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
    case.set_classname(format!("idempotency-verify.{}", of(endpoint, ".", finding.group)));
    if matches!(finding.status, Status::Pass | Status::Warn | Status::Note) {
        case.set_system_out(format!("{}: {}", word(finding.status).0, finding.seen));
    }
    case
}
