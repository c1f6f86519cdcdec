//! Idempotency keys at the sandbox gateway.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{Sandbox, capture_body, fresh_reference};

#[tokio::test]
async fn a_key_with_other_content_is_422_and_changes_nothing() {
    let sandbox = Sandbox::start();
    let reference = fresh_reference();
    let first = sandbox.capture(&reference, 500, "pm_card_visa").await;

    let refund = json!({ "reference": reference, "capture": reference, "amount": 500 });
    for (path, other) in [
        ("/captures", capture_body(&reference, 501, "pm_card_visa")),
        ("/captures", capture_body(&reference, 500, "pm_card_slow")),
        ("/captures", capture_body(&fresh_reference(), 500, "pm_card_visa")),
        ("/refunds", refund),
    ] {
        let refused = sandbox.post(path, &reference, &other).await;
        assert_eq!(refused.status, 422, "{path} {other}");
        assert!(refused.json()["error"].as_str().unwrap().contains("another call"), "{refused:?}");
    }

    assert_eq!(sandbox.capture(&reference, 500, "pm_card_visa").await, first);
    assert_eq!(sandbox.captured_outcomes(&reference).await, ["succeeded"]);
    assert!(sandbox.book("/refunds", &reference).await.is_empty());
}

#[tokio::test]
async fn the_content_is_compared_not_its_spelling() {
    let sandbox = Sandbox::start();
    let reference = fresh_reference();
    let first = sandbox.capture(&reference, 500, "pm_card_visa").await;

    let respelt = format!(
        "{{ \"payment_method\": \"pm_card_visa\", \"currency\": \"EUR\",\n \"amount\": 500, \"reference\": \"{reference}\" }}"
    );
    let request = sandbox.client.post(format!("{}/captures", sandbox.url())).header("Idempotency-Key", &reference);
    let response = request.header("Content-Type", "application/json").body(respelt).send().await.unwrap();
    assert_eq!(response.status(), 201);
    assert_eq!(response.text().await.unwrap(), first.body);
}

#[tokio::test]
async fn a_call_that_is_not_accepted_is_422_and_leaves_the_key_free() {
    let sandbox = Sandbox::start();
    let key = fresh_reference();
    let good = capture_body(&key, 500, "pm_card_visa");
    let with = |member: &str, value: Value| {
        let mut body = good.clone();
        body[member] = value;
        body
    };
    for body in [
        with("payment_method", json!("pm_card_unknown")),
        with("amount", json!(0)),
        with("amount", json!(-1)),
        with("amount", json!(1i64 << 53)),
        with("amount", json!("500")),
        with("currency", json!("EUX")),
        with("currency", json!("eur")),
        with("reference", json!("")),
        with("reference", json!("x".repeat(256))),
        with("reference", json!("nul\u{0}")),
        with("surplus", json!(true)),
        json!({}),
        json!([]),
    ] {
        assert_eq!(sandbox.post("/captures", &key, &body).await.status, 422, "{body}");
    }
    assert!(sandbox.captured_outcomes(&key).await.is_empty());
    assert_eq!(sandbox.post("/captures", &key, &good).await.status, 201);
}

#[tokio::test]
async fn a_key_that_is_missing_doubled_or_malformed_is_400() {
    let sandbox = Sandbox::start();
    let reference = fresh_reference();
    let long = "k".repeat(256);
    let cases: [&[&str]; 5] = [&[], &["one", "two"], &[""], &["with space"], &[&long]];
    for keys in cases {
        let mut request = sandbox.client.post(format!("{}/captures", sandbox.url()));
        for key in keys {
            request = request.header("Idempotency-Key", *key);
        }
        let response = request.json(&capture_body(&reference, 500, "pm_card_visa")).send().await.unwrap();
        assert_eq!(response.status(), 400, "{keys:?}");
    }
    assert!(sandbox.captured_outcomes(&reference).await.is_empty());
}

#[tokio::test]
async fn a_forgotten_key_captures_again_and_the_book_shows_both() {
    let ttl = Duration::from_secs(1);
    let sandbox = Sandbox::start_with(ttl, "127.0.0.1:0".parse().unwrap());
    let reference = fresh_reference();
    let first = sandbox.capture(&reference, 500, "pm_card_visa").await;
    assert_eq!(sandbox.capture(&reference, 500, "pm_card_visa").await, first, "the key is kept for a second");

    crate::until("the key is forgotten", async || sandbox.capture(&reference, 500, "pm_card_visa").await != first)
        .await;

    assert_eq!(sandbox.captured_outcomes(&reference).await, ["succeeded", "succeeded"]);
}

#[tokio::test]
async fn a_sandbox_that_starts_with_a_shorter_ttl_forgets_no_key_of_another() {
    let sandbox = Sandbox::start();
    let reference = fresh_reference();
    let first = sandbox.capture(&reference, 500, "pm_card_visa").await;

    let brief = Sandbox::start_with(Duration::ZERO, "127.0.0.1:0".parse().unwrap());
    assert_eq!(brief.capture(&reference, 500, "pm_card_visa").await, first);
    assert_eq!(sandbox.captured_outcomes(&reference).await, ["succeeded"]);
}

#[tokio::test]
async fn fifty_calls_of_one_key_at_once_capture_once() {
    let sandbox = Sandbox::start();
    let reference = fresh_reference();

    let answers = join_all((0..50).map(|_| sandbox.capture(&reference, 500, "pm_card_visa"))).await;

    let captured: Vec<_> = answers.iter().filter(|answer| answer.status == 201).collect();
    assert!(!captured.is_empty());
    assert!(captured.iter().all(|answer| *answer == captured[0]), "all captures have the same answer");
    assert!(answers.iter().all(|answer| answer.status == 201 || answer.status == 409), "{answers:?}");
    assert_eq!(sandbox.captured_outcomes(&reference).await, ["succeeded"]);
}

#[tokio::test]
async fn fifty_calls_of_one_key_to_two_processes_capture_once() {
    // Two servers share only the tables, like two processes.
    let sandboxes = [Sandbox::start(), Sandbox::start()];
    for _ in 0..10 {
        let reference = fresh_reference();
        let calls = (0..50).map(|n| sandboxes[n % 2].capture(&reference, 500, "pm_card_visa"));
        let answers = join_all(calls).await;

        assert!(answers.iter().all(|answer| answer.status == 201 || answer.status == 409), "{answers:?}");
        assert!(answers.iter().any(|answer| answer.status == 201));
        assert_eq!(sandboxes[0].captured_outcomes(&reference).await, ["succeeded"]);
    }
}

#[tokio::test]
async fn sandboxes_that_start_while_others_work_disturb_no_call() {
    let sandbox = Sandbox::start();
    let references: Vec<String> = (0..400).map(|_| fresh_reference()).collect();
    let calls = async {
        for some in references.chunks(4) {
            let answers = join_all(some.iter().map(|reference| sandbox.capture(reference, 500, "pm_card_visa"))).await;
            assert!(answers.iter().all(|answer| answer.status == 201), "{answers:?}");
        }
    };
    // On separate threads, because the start of a sandbox blocks.
    let starts = join_all((0..12).map(|_| tokio::task::spawn_blocking(Sandbox::start)));
    let (started, ()) = tokio::join!(starts, calls);
    for started in started {
        let reference = fresh_reference();
        assert_eq!(started.unwrap().capture(&reference, 500, "pm_card_visa").await.status, 201);
    }
}

#[tokio::test]
async fn the_audit_without_a_reference_is_the_whole_book_oldest_first() {
    let sandbox = Sandbox::start();
    let references = [fresh_reference(), fresh_reference()];
    for reference in &references {
        sandbox.capture(reference, 500, "pm_card_visa").await;
    }
    let url = format!("{}/captures", sandbox.url());
    let book: Vec<Value> = sandbox.client.get(url).send().await.unwrap().json().await.unwrap();
    let place = |reference: &str| book.iter().position(|entry| entry["reference"] == *reference).unwrap();
    assert!(place(&references[0]) < place(&references[1]));
}

#[tokio::test]
async fn health_answers() {
    let sandbox = Sandbox::start();
    let response = sandbox.client.get(format!("{}/health", sandbox.url())).send().await.unwrap();
    assert!(response.status().is_success());
}
