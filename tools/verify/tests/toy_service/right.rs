//! Services that are right, each in its own way: the command finds nothing.

use std::time::Duration;

use idempotency_verify::{Report, Status, checks};

use crate::faults::LAG;
use crate::toy::{Defect, Manner, Toy};
use crate::{command_line, finding, report, toys, with_status, words};

/// Later than the command waits for an effect.
const TOO_LATE: Duration = Duration::from_secs(3600);

async fn run(manner: Manner, more: &[&str]) -> Report {
    let (toy, replica) = toys(Defect::None, manner);
    let promise = if manner.stores_failures { "stored" } else { "free" };
    let line = command_line(&toy, &replica, &[&["--failures", promise], more].concat());
    let seen = report(&line).await.unwrap();
    assert!(seen.requests_sent <= seen.requests_announced, "{}", seen.summary());
    seen
}

async fn passes_every_check(manner: Manner) -> Report {
    let seen = run(manner, &["--profile", "this"]).await;
    for status in [Status::Fail, Status::Warn, Status::Note, Status::Skip] {
        assert_eq!(with_status(&seen, status), [], "{status:?} of {manner:?}");
    }
    assert_eq!(seen.findings.len(), checks().count());
    assert!(seen.unchecked().is_empty());
    seen
}

#[tokio::test]
async fn a_service_that_is_right_passes_every_check_with_failures_stored_or_not() {
    let stores = |stores_failures| Manner { stores_failures, ..Manner::default() };
    tokio::join!(passes_every_check(stores(true)), passes_every_check(stores(false)));
}

#[tokio::test]
async fn a_service_whose_count_is_late_passes_every_check() {
    passes_every_check(Manner { lag: LAG, ..Manner::default() }).await;
}

#[tokio::test]
async fn a_service_whose_first_answer_is_a_202_passes_every_check() {
    passes_every_check(Manner { is_provisional: true, ..Manner::default() }).await;
}

#[tokio::test]
async fn a_service_whose_first_answer_is_a_202_and_whose_count_is_late_passes_every_check() {
    passes_every_check(Manner { is_provisional: true, lag: LAG, ..Manner::default() }).await;
}

#[tokio::test]
async fn a_service_whose_only_answer_is_a_202_passes_every_check() {
    let seen = passes_every_check(Manner { accepts_only: true, ..Manner::default() }).await;
    // The first request was sent eight times. After that the command knows that nothing follows a 202.
    let others = passes_every_check(Manner::default()).await;
    assert_eq!(seen.requests_sent, others.requests_sent + 7);
}

#[tokio::test]
async fn a_count_that_is_too_late_skips_what_needs_it_with_the_reason() {
    let seen = run(Manner { lag: TOO_LATE, ..Manner::default() }, &["--profile", "this"]).await;
    assert!(!seen.failed(), "{:#?}", with_status(&seen, Status::Fail));
    let skipped = with_status(&seen, Status::Skip);
    let checks: Vec<_> = skipped.iter().map(|(check, _)| *check).collect();
    assert_eq!(checks, ["leave-fin-one-effect", "leave-rst-one-effect", "failure-no-effect", "server-error-effect"]);
    for (_, why) in skipped {
        assert!(why.contains("did not show the effect of the first request within 2 s"), "{why}");
    }
}

#[tokio::test]
async fn a_count_that_gets_stuck_skips_what_needs_it_with_the_reason() {
    // The first request and the two groups create three things. The clients that leave create the fourth.
    let more = ["--profile", "this", "--only", "replays,leaving"];
    let seen = run(Manner { shows: Some(3), ..Manner::default() }, &more).await;
    assert!(!seen.failed(), "{:#?}", with_status(&seen, Status::Fail));
    let skipped = with_status(&seen, Status::Skip);
    let checks: Vec<_> = skipped.iter().map(|(check, _)| *check).collect();
    assert_eq!(checks, ["leave-fin-one-effect", "leave-rst-one-effect"]);
    assert!(skipped.iter().all(|(_, why)| why.contains("did not show a new request's effect either")), "{skipped:?}");
}

#[tokio::test]
async fn an_account_without_a_right_to_the_resource_is_skipped() {
    let toy = Toy::start(Defect::None);
    let mut line = words(["POST", &format!("{}/accounts/one/things", toy.base), "--only", "accounts"]);
    line.extend(words(["--header", "Authorization: Bearer one", "--other-header", "Authorization: Bearer two"]));
    line.extend(words(["--body", r#"{"customer":"ada"}"#, "--profile", "this"]));
    let seen = report(&line).await.unwrap();
    let finding = finding(&seen, "accounts-apart");
    assert_eq!(finding.status, Status::Skip, "{finding:?}");
    assert!(finding.seen.contains("gets 404 here, also under another key"), "{finding:?}");
}

#[tokio::test]
async fn a_place_that_refuses_every_key_is_no_other_endpoint() {
    let toy = Toy::start(Defect::None);
    for (option, place, check) in
        [("--other-path", "/nowhere", "other-path"), ("--other-method", "PUT", "other-method")]
    {
        let mut line = words(["POST", &format!("{}/things", toy.base), "--only", check, option, place]);
        line.extend(words(["--body", r#"{"customer":"ada"}"#, "--profile", "this"]));
        let seen = report(&line).await.unwrap();
        let finding = finding(&seen, check);
        assert_eq!(finding.status, Status::Skip, "{finding:?}");
        assert_eq!(finding.seen, "it gets 404 there, also under another key");
    }
}

#[tokio::test]
async fn a_body_that_is_json_only_when_it_is_filled_is_json() {
    let toy = Toy::start(Defect::None);
    let mut line = words(["POST", &format!("{}/things", toy.base), "--only", "same-json-other-order"]);
    line.extend(words(["--body", r#"{"customer":"ada","cents":1{n}}"#, "--profile", "this"]));
    let seen = report(&line).await.unwrap();
    assert_eq!(finding(&seen, "same-json-other-order").status, Status::Pass, "{seen:?}");
    assert_eq!(toy.content_types(), ["application/json"]);
}

/// Each ticket is good for one thing, so no check passes that asks for two things with one ticket.
#[tokio::test]
async fn an_endpoint_that_needs_something_made_first_passes_every_check() {
    let (toy, replica) = toys(Defect::None, Manner::default());
    let mut line = words(["POST", &format!("{}/things", toy.base), "--header", "Authorization: Bearer one"]);
    // The second step uses the first one's answer.
    line.extend(words(["--setup", "POST /tickets", "--setup", r#"POST /tickets {"instead":"{setup.id}"}"#]));
    let body =
        |quantity: u32| format!(r#"{{"customer":"{{setup.id}}","ticket":"{{setup.id}}","quantity":{quantity}}}"#);
    line.extend(words(["--body", &body(1), "--other-body", &body(2), "--failing-body", &body(101)]));
    line.extend(words(["--count", "GET /things?customer={ticket}", "--replica", &replica.base, "--failures", "free"]));
    line.extend(words(["--other-path", "/others", "--other-method", "PATCH", "--change", "POST {location}/see"]));
    line.extend(words(["--failing-header", "X-Fail: 1", "--profile", "this"]));
    let seen = report(&line).await.unwrap();
    let skipped: Vec<_> = with_status(&seen, Status::Skip).into_iter().map(|(check, _)| check).collect();
    assert_eq!(skipped, ["accounts-apart"], "{seen:#?}");
    assert_eq!(with_status(&seen, Status::Pass).len() + 1, seen.findings.len(), "{seen:#?}");
    assert!(seen.requests_sent <= seen.requests_announced, "{}", seen.summary());
}

#[tokio::test]
async fn a_setup_that_fails_is_named() {
    let toy = Toy::start(Defect::None);
    for (setup, body, why) in [
        ("POST /nowhere", r#"{"customer":"ada"}"#, "--setup POST /nowhere: the answer was 404; nothing was checked"),
        ("POST /tickets", r#"{"customer":"{setup.name}"}"#, "{setup.name}: the answer has no such member"),
        ("POST http://127.0.0.1:1/", "{}", "at another host than the endpoint"),
    ] {
        let line = words(["POST", &format!("{}/things", toy.base), "--body", body, "--setup", setup]);
        let error = report(&line).await.unwrap_err();
        assert!(error.contains(why), "{setup}: {error}");
    }
    let line = words(["POST", &format!("{}/things", toy.base), "--body", r#"{"customer":"{setup.id}"}"#]);
    let error = report(&line).await.unwrap_err();
    assert!(error.contains("{setup.id}"), "{error}");
}

#[tokio::test]
async fn the_summary_names_each_missing_option_with_its_checks() {
    let toy = Toy::start(Defect::None);
    let line =
        words(["POST", &format!("{}/things", toy.base), "--body", r#"{"customer":"ada"}"#, "--only", "fingerprints"]);
    let seen = report(&line).await.unwrap();
    let names = |option| seen.unchecked().into_iter().find(|(other, _)| *other == option).map(|(_, checks)| checks);
    assert_eq!(names("--other-path PATH"), Some(vec!["other-path"]));
    assert_eq!(names("--other-body BODY"), Some(vec!["other-body", "other-body-keeps-the-first"]));
}

#[tokio::test]
async fn a_change_that_changes_nothing_is_no_check() {
    let toy = Toy::start(Defect::ReplyRebuilt);
    for (change, why) in [
        ("POST /nowhere", "was answered 404"),
        ("GET {location}", "the object at Location is the same as before"),
        ("POST /things/{reply.number}/see", "{reply.number}: the answer has no such member"),
        ("POST http://127.0.0.1:1/things", "at another host than the endpoint"),
    ] {
        let mut line = words(["POST", &format!("{}/things", toy.base), "--only", "replay-after-change"]);
        line.extend(words(["--body", r#"{"customer":"ada"}"#, "--change", change]));
        let seen = report(&line).await.unwrap();
        let finding = finding(&seen, "replay-after-change");
        assert_eq!(finding.status, Status::Skip, "{change}: {finding:?}");
        assert!(finding.seen.contains(why), "{change}: {finding:?}");
    }
}
