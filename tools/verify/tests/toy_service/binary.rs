//! The command itself: its questions, its output and its exit status.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::toy::{Defect, Toy};

pub async fn verify(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_idempotency-verify"));
    command.args(words).stdin(Stdio::null());
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

pub fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

pub fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

const BODY: [&str; 4] = ["--body", r#"{"customer":"ada","quantity":1}"#, "--profile", "this"];

/// Runs two checks on a toy. `more` has further options.
async fn run(toy: &Toy, more: &[&str]) -> Output {
    let url = format!("{}/things", toy.base);
    verify(&[&["POST", &url, "--only", "replay-marker,key-required"], &BODY[..], more].concat()).await
}

#[tokio::test]
async fn the_exit_status_is_1_if_a_check_failed_and_else_0() {
    let passed = run(&Toy::start(Defect::None), &[]).await;
    assert_eq!(passed.status.code(), Some(0), "{passed:?}");
    let failed = run(&Toy::start(Defect::MarkerMissing), &[]).await;
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    let text = out(&failed);
    for part in
        ["FAIL  replay-marker", "advice: ", "right, by this project: ", "pass  key-required", "1 passed, 1 failed"]
    {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
}

#[tokio::test]
async fn a_check_that_the_command_line_excepts_does_not_fail_the_run() {
    let toy = Toy::start(Defect::MarkerMissing);
    let report = async |more: &[&str]| {
        let output = run(&toy, &[more, &["--format", "json"]].concat()).await;
        let report: Value = serde_json::from_str(out(&output)).unwrap();
        let findings = report["findings"].as_array().unwrap();
        let checks: Vec<_> = findings.iter().map(|finding| finding["check"].as_str().unwrap().to_owned()).collect();
        (output.status.code(), checks)
    };
    assert_eq!(report(&["--except", "replay-marker"]).await, (Some(0), vec!["key-required".to_owned()]));
    assert_eq!(report(&["--except", "keys"]).await, (Some(1), vec!["replay-marker".to_owned()]));
    assert_eq!(report(&["--except", "keys,replay-marker"]).await, (Some(2), vec![]));
}

#[tokio::test]
async fn a_run_that_skips_every_check_has_checked_nothing() {
    let toy = Toy::start(Defect::None);
    let url = format!("{}/things", toy.base);
    // The endpoint accepts this body, so it is no failure, and failures can't be checked.
    let taken = ["--failing-body", r#"{"customer":"ada"}"#];
    let output = verify(&[&["POST", &url, "--only", "failures"], &BODY[..], &taken].concat()).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(out(&output).contains("0 passed, 0 failed"), "{}", out(&output));
    assert!(err(&output).contains("every check was skipped, so nothing was checked"), "{}", err(&output));
}

#[tokio::test]
async fn the_maximum_of_requests_is_announced_beside_the_report() {
    let output = run(&Toy::start(Defect::None), &["--format", "json"]).await;
    let report: Value = serde_json::from_str(out(&output)).unwrap();
    let announced = report["requests_announced"].as_u64().unwrap();
    assert!(err(&output).contains(&format!("at most {announced} requests")), "{}", err(&output));
    assert!(report["requests_sent"].as_u64().unwrap() <= announced);
    assert_eq!(report["findings"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn junit_has_a_failure_with_the_advice() {
    let output = run(&Toy::start(Defect::MarkerMissing), &["--format", "junit"]).await;
    let xml = out(&output);
    for part in ["<?xml", "tests=\"2\"", "failures=\"1\"", "name=\"replay-marker\"", "<failure", "advice: "] {
        assert!(xml.contains(part), "{part} is missing in {xml}");
    }
}

#[tokio::test]
async fn another_machine_gets_no_request_without_a_yes() {
    // RFC 5737 reserves this address for documentation, so no machine has it.
    let output = verify(&["POST", "http://192.0.2.1/orders", "--timeout", "1"]).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(err(&output).contains("192.0.2.1 is not this machine"), "{}", err(&output));
}

#[tokio::test]
async fn wrong_usage_exits_with_2_and_sends_nothing() {
    let toy = Toy::start(Defect::None);
    let url = format!("{}/things", toy.base);
    let cases: [(&[&str], &str); 8] = [
        (&["POST"], "<URL>"),
        (&["POST", &url, "--only", "everything"], "everything"),
        (&["POST", &url, "--except", "nothing-of-this-name"], "nothing-of-this-name"),
        (&["POST", &url, "--header", "no-colon"], "no-colon"),
        (&["POST", &url, "--count", "GET http://127.0.0.1/{who}"], "{who}"),
        (&["POST", "ftp://127.0.0.1/"], "http://"),
        (&["POST", &url, "--body", "{}", "--vary", "customer"], "no such member"),
        (&["POST", &url, "--body", r#"{"nights":2}"#, "--vary", "nights"], "write {n} in the body"),
    ];
    for (words, part) in cases {
        let output = verify(words).await;
        assert_eq!(output.status.code(), Some(2), "{words:?}: {output:?}");
        assert!(err(&output).contains(part), "{words:?}: {}", err(&output));
    }
}

#[tokio::test]
async fn a_service_that_refuses_the_request_itself_is_not_judged() {
    let toy = Toy::start(Defect::None);
    let url = format!("{}/nowhere", toy.base);
    let output = verify(&[&["POST", &url], &BODY[..]].concat()).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(err(&output).contains("answered 404, so nothing was checked"), "{}", err(&output));
}

#[tokio::test]
async fn the_list_names_every_check_and_needs_no_service() {
    let output = verify(&["--list"]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for (_, check) in idempotency_verify::checks() {
        assert!(out(&output).contains(check.name), "{} is missing", check.name);
    }
}

#[tokio::test]
async fn the_help_begins_with_its_own_options_and_ends_with_help() {
    let help = verify(&["--help"]).await;
    let text = out(&help);
    let first = text.lines().find(|line| line.trim_start().starts_with('-')).unwrap();
    assert!(first.contains("--header"), "{text}");
    let last = text.lines().rfind(|line| line.trim_start().starts_with('-')).unwrap();
    assert!(last.contains("--version"), "{text}");
}

#[tokio::test]
async fn the_missing_option_that_finds_a_write_outside_the_transaction_is_marked() {
    let toy = Toy::start(Defect::None);
    let url = format!("{}/things", toy.base);
    let run =
        async |more: &[&str]| verify(&[&["POST", &url, "--only", "failures,replays"], &BODY[..], more].concat()).await;
    let without = run(&[]).await;
    let lines: Vec<_> = out(&without).lines().collect();
    let option = lines.iter().position(|line| line.trim_start().starts_with("--failing-header")).unwrap();
    assert!(lines[option + 1].contains("important: "), "{}", out(&without));
    assert_eq!(out(&without).matches("important: ").count(), 1, "{}", out(&without));
    let with = run(&["--failing-header", "X-Fail: 1"]).await;
    assert!(!out(&with).contains("important: "), "{}", out(&with));
}

#[tokio::test]
async fn what_another_author_calls_wrong_is_named_at_the_end() {
    let toy = Toy::start(Defect::PathNotCompared);
    let url = format!("{}/things", toy.base);
    let more =
        ["--other-path", "/others", "--only", "other-path", "--profile", "draft", "--body", r#"{"customer":"ada"}"#];
    let output = verify(&[&["POST", &url], &more[..]].concat()).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = out(&output);
    assert!(text.contains("the draft has no rule for these"), "{text}");
    assert!(text.contains("other-path: Stripe, this project"), "{text}");
}
