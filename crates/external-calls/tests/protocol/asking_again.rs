// SPDX-License-Identifier: MIT OR Apache-2.0
//! A provider that asks for time gets no call until its Retry-After is over, and a client that asks again gets the 202 again.

use serde_json::json;

use crate::office::{Office, json_of};
use crate::provider::Does;

#[tokio::test]
async fn a_retry_after_is_heeded_with_no_quick_repeat_and_no_look() {
    for status in [429, 503] {
        let office = Office::open();
        let fine = office.unknown_payment("k", Does::AskToWait(status, 30)).await;

        assert_eq!((office.provider.sendings().len(), office.provider.looks()), (1, 0), "{status}");
        let after_it = "next_attempt_at > now() + interval '28 seconds'";
        assert_eq!(office.count(&format!("external_calls WHERE {after_it}")), 1, "{status}");
        office.let_leases_end();
        assert_eq!(office.run_once().await.resolved, 1);
        office.assert_paid_once("k", fine).await;
    }
}

#[tokio::test]
async fn a_retry_after_of_days_is_heeded_for_ten_minutes() {
    let office = Office::open();
    office.unknown_payment("k", Does::AskToWait(503, 1_000_000)).await;

    let ten_minutes = "now() + interval '9 minutes' AND now() + interval '11 minutes'";
    assert_eq!(office.count(&format!("external_calls WHERE next_attempt_at BETWEEN {ten_minutes}")), 1);
}

/// The pauses are 2 s, 4 s, 8 s, each plus up to a quarter.
#[tokio::test]
async fn the_pause_doubles_with_each_attempt() {
    let office = Office::open();
    office.unknown_payment("k", Does::Answer(429)).await;
    for (attempts, pause) in [(1, 2), (2, 4), (3, 8)] {
        // `unanswered_at` is the time at which the holder gave the lease back.
        let wait = format!("interval '{pause} seconds' AND interval '{pause} seconds' * 1.25");
        let due = format!("attempts = {attempts} AND next_attempt_at - unanswered_at BETWEEN {wait}");
        assert_eq!(office.count(&format!("external_calls WHERE {due}")), 1, "{attempts}");
        office.provider.script("k", [Does::Answer(429)]);
        office.let_leases_end();
        assert_eq!(office.run_once().await.taken, 1);
    }
}

#[tokio::test]
async fn a_202_that_is_asked_for_again_shows_the_resource_as_it_is_now() {
    let office = Office::open();
    let fine = office.unknown_payment("k", Does::Answer(429)).await;
    office.execute("UPDATE fines SET note = 'towed'");

    let again = office.pay("k", fine).await;

    assert_eq!((again.status, again.is_replay()), (202, true));
    assert_eq!(json_of(&again), json!({"fine": fine, "status": "paying", "note": "towed"}));
    assert_eq!(again.header("Location"), Some(format!("/fines/{fine}").as_str()));
    assert_eq!(office.provider.sendings().len(), 1, "the retry calls the provider");
}

#[tokio::test]
async fn the_retry_after_of_a_202_grows_with_the_wait_to_a_minute() {
    let office = Office::open();
    let fine = office.unknown_payment("k", Does::Answer(429)).await;
    for (row, expected) in [
        ("attempts = 1, next_attempt_at = now() + interval '2 seconds'", 1..=1),
        ("attempts = 2, next_attempt_at = now() + interval '4 seconds'", 3..=5),
        ("attempts = 3, next_attempt_at = now() + interval '20 seconds'", 18..=21),
        ("attempts = 9, next_attempt_at = now() + interval '8 minutes'", 60..=60),
        ("attempts = 9, next_attempt_at = now() - interval '8 minutes'", 1..=1),
        ("attempts = 20, next_attempt_at = now(), parked_at = now()", 60..=60),
    ] {
        office.execute(&format!("UPDATE external_calls SET {row}"));
        let again = office.pay("k", fine).await;
        let retry_after: u64 = again.header("Retry-After").unwrap().parse().unwrap();
        assert!(again.status == 202 && expected.contains(&retry_after), "{row}: {retry_after}");
    }
}

/// A gateway that fails and asks for no pause is not called every second.
#[tokio::test]
async fn a_retry_after_shorter_than_the_pause_does_not_shorten_it() {
    let office = Office::open();
    office.unknown_payment("k", Does::AskToWait(503, 0)).await;
    office.provider.script("k", [Does::AskToWait(503, 0)]);
    office.execute("UPDATE external_calls SET attempts = 3");
    office.let_leases_end();

    assert_eq!(office.run_once().await.resolved, 0);

    let pause = "attempts = 4 AND next_attempt_at > now() + interval '14 seconds'";
    assert_eq!(office.count(&format!("external_calls WHERE {pause}")), 1);
}

/// Without the look, the call would be sent until its key is forgotten, and a customer would wait for a day.
#[tokio::test]
async fn a_call_that_is_put_off_a_third_time_is_looked_up() {
    let office = Office::open();
    let fine = office.unknown_payment("k", Does::PayAndAnswer(409)).await;
    office.provider.script("k", [Does::Answer(409), Does::Answer(409)]);
    office.let_leases_end();
    assert_eq!((office.run_once().await.resolved, office.provider.looks()), (0, 0));
    office.let_leases_end();

    assert_eq!((office.run_once().await.resolved, office.provider.looks()), (1, 1));

    assert_eq!(office.provider.sendings().len(), 3);
    office.assert_paid_once("k", fine).await;
}
