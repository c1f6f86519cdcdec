//! Every problem tells the client what to do next. The advice depends on the problem's kind and the endpoint's policy.

use std::collections::BTreeSet;

use idempotency::Failures;
use idempotent_payments::http::problems::{self, INVALID_REQUEST, Kind, NOT_FOUND, Retry};
use idempotent_payments::server::{api, openapi};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::app::{Answer, App, Client, one_item, send};
use crate::support::execute;

/// The contract's table, written down independently: the advice for each kind under each policy.
fn by_contract(kind: Kind, failures: Failures) -> Retry {
    match (kind, failures) {
        (Kind::Transient | Kind::Broken, _) => Retry::Again,
        (Kind::Outcome | Kind::Reused, _) | (Kind::Final, Failures::CacheFailures { .. }) => Retry::NewKey,
        (Kind::Before, _) | (Kind::Final, Failures::SuccessOnly) => Retry::Fix,
        (Kind::Late, _) => Retry::Never,
    }
}

#[test]
fn every_problem_of_every_endpoint_is_documented_with_its_advice() {
    let mut walked = BTreeSet::new();
    let api = api();
    let document = openapi::document(&api);
    for endpoint in &api.endpoints {
        let Some(policy) = endpoint.policy else { continue };
        let (method, path) = policy.route.split_once(' ').unwrap();
        let responses = &document["paths"][path][method.to_lowercase()]["responses"];
        for (_, response) in responses.as_object().unwrap() {
            for told in response["x-problems"].as_array().into_iter().flatten() {
                let slug = told["type"].as_str().unwrap().strip_prefix("/problems/").unwrap();
                let problem = problems::ALL.iter().find(|problem| problem.slug == slug).unwrap();
                let mut expected = vec![json!(by_contract(problem.kind, policy.failures))];
                // The API checks the path's id and the shape of the body first, and does not store these refusals.
                let before = slug == NOT_FOUND.slug && path.contains("{id}") || slug == INVALID_REQUEST.slug;
                if before && expected != ["fix"] {
                    expected.push(json!("fix"));
                }
                // Only a decision of the body is stored.
                let decided = endpoint.decides.iter().any(|own| own.slug == slug);
                if !decided && problem.kind == Kind::Final {
                    expected = vec![json!("fix")];
                }
                assert_eq!(told["retry"], json!(expected), "{} {slug}", policy.route);
                let example = &response["content"]["application/problem+json"]["examples"][slug]["value"];
                assert_eq!(example["retry"], expected[0], "{} {slug}", policy.route);
                walked.insert(slug);
            }
        }
    }
    assert_eq!(
        walked.len(),
        problems::ALL.len() - 1,
        "all problems but precondition-failed, which only PUT has: {walked:?}"
    );
}

/// Sends a request twice with one key. If the policy stores the first answer, the second answer is a replay.
async fn twice(app: &Client, path: &str, body: Value) -> (Answer, Answer) {
    let key = Uuid::new_v4().to_string();
    (app.post(path, &key, body.clone()).await, app.post(path, &key, body).await)
}

/// [`Answer::problem`] compares the header with the member.
fn advises(answer: &Answer, slug: &str, retry: &str) {
    assert_eq!((answer.problem().as_str(), answer.json()["retry"].as_str()), (slug, Some(retry)), "{answer:?}");
}

#[tokio::test]
async fn a_stored_final_failure_advises_a_new_key_and_one_that_is_not_stored_advises_a_fix() {
    let app = App::start().await;
    let nobody = Uuid::nil();
    let order = app.order("o", "sticker", 1).await.expect(201).json()["id"].as_str().unwrap().to_owned();
    let grant = json!({"customer": "ada", "feature": "x", "units": 1});
    let entitlement = app.post("/v1/entitlements", "e", grant).await.expect(201).json();
    let entitlement = format!("/v1/entitlements/{}", entitlement["id"].as_str().unwrap());
    let paying = json!({"order_id": order, "payment_method": "pm_card_visa_chargeDeclined"});
    let kept = [
        ("/v1/charges".to_owned(), paying, "card-declined"),
        ("/v1/charges".to_owned(), json!({"order_id": nobody, "payment_method": "pm_card_visa"}), "not-found"),
        (format!("/v1/charges/{nobody}/refunds"), json!({}), "not-found"),
        (format!("/v1/entitlements/{nobody}/consume"), json!({"units": 1}), "not-found"),
        (format!("{entitlement}/consume"), json!({"units": 2}), "quota-exceeded"),
    ];
    for (path, body, slug) in kept {
        let (first, again) = twice(&app, &path, body).await;
        advises(&first, slug, "new-key");
        assert_eq!((again.reply(), again.is_replay()), (first.reply(), true), "{path}");
    }

    app.post(&format!("{entitlement}/revoke"), "r", json!({})).await.expect(200);
    app.post(&format!("/v1/orders/{order}/cancel"), "c", json!({})).await.expect(200);
    let past = json!({"customer": "ada", "feature": "x", "expires_at": "2020-01-01T00:00:00Z"});
    let free = [
        ("/v1/entitlements".to_owned(), past, "invalid-request"),
        ("/v1/orders".to_owned(), one_item("sticker", 11), "out-of-stock"),
        ("/v1/orders".to_owned(), one_item("unheard-of", 1), "unknown-product"),
        (format!("/v1/orders/{nobody}/cancel"), json!({}), "not-found"),
        (format!("/v1/orders/{order}/cancel"), json!({}), "order-not-cancelable"),
        (format!("/v1/entitlements/{nobody}/revoke"), json!({}), "not-found"),
        (format!("{entitlement}/revoke"), json!({}), "entitlement-inactive"),
    ];
    for (path, body, slug) in free {
        let (first, again) = twice(&app, &path, body).await;
        advises(&first, slug, "fix");
        assert!(!again.is_replay(), "{path}");
    }
    // Two problems, under the other policy.
    let (inactive, _) = twice(&app, &format!("{entitlement}/consume"), json!({"units": 1})).await;
    advises(&inactive, "entitlement-inactive", "new-key");
    let (unpayable, _) = twice(&app, "/v1/charges", json!({"order_id": order, "payment_method": "pm_card_visa"})).await;
    advises(&unpayable, "order-not-payable", "new-key");
}

#[tokio::test]
async fn a_failure_before_the_body_advises_a_fix_and_a_reused_key_advises_a_new_key() {
    let app = App::start_with_pool(2).await;
    app.order("used", "sticker", 1).await.expect(201);
    let charge = async |key: &str, body: Value| app.post("/v1/charges", key, body).await;

    advises(&charge("k", json!({})).await, "invalid-request", "fix");
    advises(&charge("", json!({})).await, "idempotency-key-invalid", "fix");
    advises(
        &charge("used", json!({"order_id": Uuid::nil(), "payment_method": "pm_card_visa"})).await,
        "idempotency-key-reused",
        "new-key",
    );
    advises(&app.post("/v1/charges/7/refunds", "k", json!({})).await, "not-found", "fix");
    advises(&app.get("/v1/nothing").await, "not-found", "fix");
    advises(&send(app.request("PATCH", "/v1/orders")).await, "method-not-allowed", "fix");
    advises(&send(app.anonymous("POST", "/v1/charges")).await, "unauthorized", "fix");
}

#[tokio::test]
async fn an_internal_error_advises_the_same_request_again_with_retry_after() {
    let app = App::start_with_pool(2).await;
    execute(&app.database, "ALTER TABLE events RENAME TO events_gone");

    let broken = app.order("key", "sticker", 1).await.expect_problem(500, "internal");

    advises(&broken, "internal", "again");
    assert_eq!(broken.header("Retry-After"), Some("1"));
    execute(&app.database, "ALTER TABLE events_gone RENAME TO events");
    app.order("key", "sticker", 1).await.expect(201);
}
