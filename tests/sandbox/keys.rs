//! Idempotency keys and API keys at the sandbox gateway.

use std::time::Duration;

use futures_util::future::join_all;

use crate::{Form, KEY, Sandbox, fresh_reference, payment_form, refund_form, with};

#[tokio::test]
async fn a_key_with_other_parameters_is_an_idempotency_error_and_changes_nothing() {
    let sandbox = Sandbox::start();
    let reference = fresh_reference();
    let first = sandbox.pay(&reference, 500, "pm_card_visa").await;

    let form = payment_form(&reference, 500, "pm_card_visa");
    for (path, other) in [
        ("/v1/payment_intents", with(&form, "amount", "501")),
        ("/v1/payment_intents", with(&form, "payment_method", "pm_card_slow")),
        ("/v1/payment_intents", with(&form, "metadata[reference]", "another")),
        ("/v1/payment_intents", with(&form, "metadata[more]", "x")),
        ("/v1/refunds", refund_form(&reference, &first.id(), 500)),
    ] {
        let refused = sandbox.post(path, &reference, &other).await;
        assert_eq!(
            (refused.status, refused.error()),
            (400, ("idempotency_error".to_owned(), None)),
            "{path} {other:?}"
        );
    }

    assert_eq!(sandbox.pay(&reference, 500, "pm_card_visa").await, first);
    assert_eq!(sandbox.statuses(&reference).await, ["succeeded"]);
    assert!(sandbox.book("/v1/refunds", &reference).await.is_empty());
}

#[tokio::test]
async fn parameters_are_compared_not_their_order_or_spelling() {
    let sandbox = Sandbox::start();
    let reference = fresh_reference();
    let first = sandbox.pay(&reference, 500, "pm_card_visa").await;

    let mut respelt = payment_form(&reference, 500, "pm_card_visa");
    respelt.reverse();
    // Stripe's own libraries number the entries of a list.
    respelt
        .iter_mut()
        .filter(|(name, _)| *name == "payment_method_types[]")
        .for_each(|p| p.0 = "payment_method_types[0]");

    assert_eq!(sandbox.post("/v1/payment_intents", &reference, &respelt).await, first);
}

#[tokio::test]
async fn parameters_that_are_not_accepted_are_400_and_leave_the_key_free() {
    let sandbox = Sandbox::start();
    let key = fresh_reference();
    let good = payment_form(&key, 500, "pm_card_visa");
    let without = |name: &str| -> Form { good.iter().filter(|(known, _)| *known != name).cloned().collect() };
    let twice: Form = good.iter().cloned().chain([("amount", "500".to_owned())]).collect();
    let long = "x".repeat(501);
    for (form, code) in [
        (with(&good, "payment_method", "pm_card_unknown"), Some("resource_missing")),
        (with(&good, "amount", "0"), Some("parameter_invalid_integer")),
        (with(&good, "amount", "-1"), Some("parameter_invalid_integer")),
        (with(&good, "amount", "9007199254740992"), Some("amount_too_large")),
        (with(&good, "amount", "5.00"), Some("parameter_invalid_integer")),
        (with(&good, "currency", "eux"), None),
        (with(&good, "confirm", "false"), None),
        (with(&good, "confirm", "yes"), None),
        (with(&good, "metadata[reference]", &long), None),
        (with(&good, "surplus", "true"), Some("parameter_unknown")),
        (without("amount"), Some("parameter_missing")),
        (without("currency"), Some("parameter_missing")),
        (without("payment_method"), Some("parameter_missing")),
        (twice, None),
    ] {
        let refused = sandbox.post("/v1/payment_intents", &key, &form).await;
        let (kind, said) = refused.error();
        assert_eq!((refused.status, kind.as_str(), said.as_deref()), (400, "invalid_request_error", code), "{form:?}");
    }
    assert!(sandbox.statuses(&key).await.is_empty());
    assert_eq!(sandbox.post("/v1/payment_intents", &key, &good).await.status, 200);
}

#[tokio::test]
async fn a_key_that_is_doubled_or_malformed_is_400_and_without_a_key_each_request_counts() {
    let sandbox = Sandbox::start();
    let reference = fresh_reference();
    let long = "k".repeat(256);
    let send = async |keys: &[&str]| {
        let mut request = sandbox.client.post(format!("{}/v1/payment_intents", sandbox.url())).bearer_auth(KEY);
        for key in keys {
            request = request.header("Idempotency-Key", *key);
        }
        request.form(&payment_form(&reference, 500, "pm_card_visa")).send().await.unwrap().status().as_u16()
    };
    for keys in [&["one", "two"][..], &[""], &["with space"], &[&long]] {
        assert_eq!(send(keys).await, 400, "{keys:?}");
    }
    assert!(sandbox.statuses(&reference).await.is_empty());
    assert_eq!((send(&[]).await, send(&[]).await), (200, 200));
    assert_eq!(sandbox.statuses(&reference).await, ["succeeded", "succeeded"]);
}

#[tokio::test]
async fn only_a_test_key_is_let_in_as_bearer_or_as_user() {
    let sandbox = Sandbox::start();
    let list = || sandbox.client.get(format!("{}/v1/payment_intents", sandbox.url()));
    for (request, status) in [
        (list(), 401),
        (list().bearer_auth("sk_live_x"), 401),
        (list().bearer_auth("pk_test_x"), 401),
        (list().basic_auth("sk_live_x", None::<&str>), 401),
        (list().bearer_auth("sk_test_x"), 200),
        (list().basic_auth("sk_test_x", None::<&str>), 200),
    ] {
        let answer = crate::answer(request).await.unwrap();
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(status == 200 || answer.error().0 == "invalid_request_error");
    }
}

#[tokio::test]
async fn a_forgotten_key_pays_again_and_the_book_shows_both() {
    let ttl = Duration::from_secs(1);
    let sandbox = Sandbox::start_with(ttl, "127.0.0.1:0".parse().unwrap());
    let reference = fresh_reference();
    let first = sandbox.pay(&reference, 500, "pm_card_visa").await;
    assert_eq!(sandbox.pay(&reference, 500, "pm_card_visa").await, first, "the key is kept for a second");

    crate::until("the key is forgotten", async || sandbox.pay(&reference, 500, "pm_card_visa").await != first).await;

    assert_eq!(sandbox.statuses(&reference).await, ["succeeded", "succeeded"]);
}

#[tokio::test]
async fn a_sandbox_that_starts_with_a_shorter_ttl_forgets_no_key_of_another() {
    let sandbox = Sandbox::start();
    let reference = fresh_reference();
    let first = sandbox.pay(&reference, 500, "pm_card_visa").await;

    let brief = Sandbox::start_with(Duration::ZERO, "127.0.0.1:0".parse().unwrap());
    assert_eq!(brief.pay(&reference, 500, "pm_card_visa").await, first);
    assert_eq!(sandbox.statuses(&reference).await, ["succeeded"]);
}

#[tokio::test]
async fn fifty_calls_of_one_key_at_once_capture_once() {
    let sandbox = Sandbox::start();
    let reference = fresh_reference();

    let answers = join_all((0..50).map(|_| sandbox.pay(&reference, 500, "pm_card_visa"))).await;

    let captured: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert!(!captured.is_empty());
    assert!(captured.iter().all(|answer| *answer == captured[0]), "all captures have the same answer");
    assert!(answers.iter().all(|answer| answer.status == 200 || answer.status == 409), "{answers:?}");
    assert_eq!(sandbox.statuses(&reference).await, ["succeeded"]);
}

#[tokio::test]
async fn fifty_calls_of_one_key_to_two_processes_capture_once() {
    // Two servers share only the tables, like two processes.
    let sandboxes = [Sandbox::start(), Sandbox::start()];
    for _ in 0..10 {
        let reference = fresh_reference();
        let calls = (0..50).map(|n| sandboxes[n % 2].pay(&reference, 500, "pm_card_visa"));
        let answers = join_all(calls).await;

        assert!(answers.iter().all(|answer| answer.status == 200 || answer.status == 409), "{answers:?}");
        assert!(answers.iter().any(|answer| answer.status == 200));
        assert_eq!(sandboxes[0].statuses(&reference).await, ["succeeded"]);
    }
}

#[tokio::test]
async fn sandboxes_that_start_while_others_work_disturb_no_call() {
    let sandbox = Sandbox::start();
    let references: Vec<String> = (0..400).map(|_| fresh_reference()).collect();
    let calls = async {
        for some in references.chunks(4) {
            let answers = join_all(some.iter().map(|reference| sandbox.pay(reference, 500, "pm_card_visa"))).await;
            assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
        }
    };
    // On separate threads, because the start of a sandbox blocks.
    let starts = join_all((0..12).map(|_| tokio::task::spawn_blocking(Sandbox::start)));
    let (started, ()) = tokio::join!(starts, calls);
    for started in started {
        let reference = fresh_reference();
        assert_eq!(started.unwrap().pay(&reference, 500, "pm_card_visa").await.status, 200);
    }
}

#[tokio::test]
async fn health_answers() {
    let sandbox = Sandbox::start();
    let response = sandbox.client.get(format!("{}/health", sandbox.url())).send().await.unwrap();
    assert!(response.status().is_success());
}
