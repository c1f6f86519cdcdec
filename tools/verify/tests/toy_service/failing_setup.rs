//! `--failing-setup`: the failures of an endpoint that has no failing body. Each ticket is good for one thing, so a second request with it
//! fails.

use idempotency_verify::Status;

use crate::toy::{Defect, Manner, Toy};
use crate::{finding, report, toys, with_status, words};

const FAILURES: [&str; 4] = ["failure-repeated", "failure-key", "failure-promise", "failure-no-effect"];

fn manner(stores_failures: bool) -> Manner {
    Manner { stores_failures, ..Manner::default() }
}

/// The command line of the failures whose promise is `promise`.
fn line(toy: &Toy, promise: &str) -> Vec<String> {
    let things = format!("{}/things", toy.base);
    let body = r#"{"customer":"{setup.id}","ticket":"{setup.id}"}"#;
    let mut line = words(["POST", &things, "--header", "Authorization: Bearer one", "--setup", "POST /tickets"]);
    line.extend(words(["--body", body, "--failing-setup", &format!("POST /things {body}")]));
    line.extend(words(["--count", "GET /things?customer={ticket}", "--failures", promise, "--watch", "0"]));
    line.extend(words(["--profile", "this", "--only", &FAILURES.join(",")]));
    line
}

#[tokio::test]
async fn a_service_that_is_right_passes_every_check_of_a_failure() {
    for (stores, promise, key) in [(true, "stored", "kept"), (false, "free", "free")] {
        let (toy, _replica) = toys(Defect::None, manner(stores));
        let seen = report(&line(&toy, promise)).await.unwrap();
        let passed: Vec<_> = with_status(&seen, Status::Pass).into_iter().map(|(check, _)| check).collect();
        assert_eq!(passed, FAILURES, "{seen:#?}");
        assert!(finding(&seen, "failure-key").seen.starts_with(key), "{seen:#?}");
        assert!(seen.requests_sent <= seen.requests_announced, "{}", seen.summary());
    }
}

#[tokio::test]
async fn each_failing_setup_is_sent_and_announced() {
    let toy = Toy::start(Defect::None);
    let one = line(&toy, "free");
    let two = [&one[..], &words(["--failing-setup", "POST /tickets"])].concat();
    let (one, two) = (report(&one).await.unwrap(), report(&two).await.unwrap());
    assert_eq!(with_status(&two, Status::Pass).len(), FAILURES.len(), "{two:#?}");
    assert_eq!(two.requests_sent, one.requests_sent + 1);
    // Each may be sent eight times until its answer is final.
    assert_eq!(two.requests_announced, one.requests_announced + 8);
}

#[tokio::test]
async fn each_fault_of_a_failure_is_found() {
    for (defect, stores, promise, check) in [
        (Defect::FailureReplayedAs422, true, "stored", "failure-repeated"),
        (Defect::FailureMarkedButFree, false, "free", "failure-key"),
        (Defect::FailureMadeAgainButKept, true, "stored", "failure-key"),
        (Defect::FailureStored, false, "free", "failure-promise"),
        (Defect::None, false, "stored", "failure-promise"),
        (Defect::FailureLeavesEffect, false, "free", "failure-no-effect"),
    ] {
        let (toy, _replica) = toys(defect, manner(stores));
        let seen = report(&line(&toy, promise)).await.unwrap();
        assert_eq!(finding(&seen, check).status, Status::Fail, "{defect:?}: {seen:#?}");
    }
}

#[tokio::test]
async fn what_no_client_can_see_is_skipped() {
    for stores in [true, false] {
        let (toy, _replica) = toys(Defect::MarkerMissing, manner(stores));
        let seen = report(&line(&toy, "free")).await.unwrap();
        let skipped: Vec<_> = with_status(&seen, Status::Skip).into_iter().map(|(check, _)| check).collect();
        assert_eq!(skipped, ["failure-key", "failure-promise"], "{seen:#?}");
    }
}

#[tokio::test]
async fn a_failing_setup_that_fails_nothing_or_fails_itself_is_named() {
    let toy = Toy::start(Defect::None);
    for (step, why) in [
        ("POST /tickets", "the request after --failing-setup was answered 201, which is no 4xx"),
        ("POST /nowhere", "--failing-setup POST /nowhere: the answer was 404"),
    ] {
        let mut line = line(&toy, "free");
        let place = line.iter().position(|word| word == "--failing-setup").unwrap();
        line[place + 1] = step.to_owned();
        let seen = report(&line).await.unwrap();
        let skipped = with_status(&seen, Status::Skip);
        assert_eq!(skipped, FAILURES.map(|check| (check, why)), "{seen:#?}");
    }
}
