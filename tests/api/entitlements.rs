//! Entitlements are consumed exactly, and each endpoint keeps its policy.

use diesel::connection::SimpleConnection;
use serde_json::{Value, json};

use crate::app::{Answer, App, Client, GLOBEX, send};
use crate::support::{connect, eventually, execute};

async fn granted(app: &Client, units: Value) -> String {
    let body = json!({"customer": "ada", "feature": "api_credits", "units": units});
    let answer = app.post("/v1/entitlements", "grant", body).await.expect(201);
    answer.header("Location").unwrap().to_owned()
}

async fn consume(app: &Client, entitlement: &str, key: &str, units: i64) -> Answer {
    app.post(&format!("{entitlement}/consume"), key, json!({"units": units})).await
}

/// Lets the record of a key expire now.
fn expire_record(app: &Client, key: &str) {
    execute(&app.database, &format!("UPDATE idempotency_keys SET expires_at = now() WHERE key = '{key}'"));
}

#[tokio::test]
async fn fifty_requests_of_30_units_on_1000_use_exactly_990() {
    let app = App::start_with_pool(8).await;
    let path = granted(&app, json!(1000)).await;

    let answers = app.patient().at_once(50, {
        let path = path.clone();
        move |app, number| {
            let path = path.clone();
            async move { consume(&app, &path, &format!("key-{number}"), 30).await }
        }
    });
    let answers = answers.await;

    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 33);
    let refused: Vec<_> = answers.into_iter().filter(|answer| answer.status != 200).collect();
    assert_eq!(refused.len(), 17);
    for answer in refused {
        assert_eq!(answer.expect_problem(409, "quota-exceeded").json()["available"], 10);
    }
    assert_eq!(app.get(&path).await.json()["units_used"], 990);
    assert_eq!(app.count("events WHERE type = 'entitlement.consumed'"), 33);
}

#[tokio::test]
async fn duplicates_of_one_consumption_consume_once() {
    let app = App::start_with_pool(8).await;
    let path = granted(&app, json!(1000)).await;

    let answers = app.patient().at_once(20, {
        let path = path.clone();
        move |app, _| {
            let path = path.clone();
            async move { consume(&app, &path, "one-key", 30).await.expect(200) }
        }
    });

    assert_eq!(answers.await.iter().filter(|answer| !answer.is_replay()).count(), 1);
    assert_eq!(app.get(&path).await.json()["units_used"], 30);
}

#[tokio::test]
async fn a_quota_failure_is_replayed_for_a_minute_and_then_the_request_runs_again() {
    let app = App::start().await;
    let path = granted(&app, json!(10)).await;
    let first = consume(&app, &path, "k", 11).await;
    assert_eq!(first.problem(), "quota-exceeded");
    let left = app.count("idempotency_keys WHERE key = 'k' AND expires_at - created_at = interval '60 s'");
    assert_eq!(left, 1, "the failure is stored for 60 s");

    // The customer gets more units, but the stored failure stays.
    execute(&app.database, "UPDATE entitlements SET units = 11");
    let replay = consume(&app, &path, "k", 11).await;
    assert!(replay.is_replay());
    assert_eq!(replay.reply(), first.reply());
    assert_eq!(replay.header("Idempotency-Expires"), first.header("Idempotency-Expires"));
    assert_ne!(replay.header("X-Request-Id"), first.header("X-Request-Id"));
    assert_eq!(app.get(&path).await.json()["units_used"], 0);

    expire_record(&app, "k");
    let again = consume(&app, &path, "k", 11).await.expect(200);
    assert!(!again.is_replay());
    assert_eq!(again.json()["units_used"], 11);
}

#[tokio::test]
async fn a_quota_failure_leaves_nothing_but_its_reply() {
    let app = App::start().await;
    let path = granted(&app, json!(10)).await;
    let events = app.count("events");

    consume(&app, &path, "k", 11).await.expect_problem(409, "quota-exceeded");

    assert_eq!(app.count("events"), events);
    assert_eq!(app.count("idempotency_keys WHERE key = 'k' AND status = 409"), 1);
}

#[tokio::test]
async fn an_expired_or_revoked_entitlement_is_not_consumed() {
    let app = App::start().await;
    let path = granted(&app, json!(10)).await;

    execute(&app.database, "UPDATE entitlements SET expires_at = now()");
    consume(&app, &path, "expired", 1).await.expect_problem(409, "entitlement-inactive");

    execute(&app.database, "UPDATE entitlements SET expires_at = NULL, revoked_at = now()");
    consume(&app, &path, "revoked", 1).await.expect_problem(409, "entitlement-inactive");

    assert_eq!(app.get(&path).await.json()["units_used"], 0);
}

#[tokio::test]
async fn a_second_revocation_is_refused_and_a_retried_one_is_replayed() {
    let app = App::start().await;
    let path = format!("{}/revoke", granted(&app, Value::Null).await);

    let first = app.post(&path, "k", json!({})).await.expect(200);
    assert!(first.json()["revoked_at"].is_string());
    let replay = app.post(&path, "k", json!({})).await;
    assert_eq!((replay.reply(), replay.is_replay()), (first.reply(), true));
    let other = app.post(&path, "other", json!({})).await.expect_problem(409, "entitlement-inactive");
    assert_eq!(other.header("Idempotency-Expires"), None, "success-only stores no failure");

    assert_eq!(app.count("events WHERE type = 'entitlement.revoked'"), 1);
}

#[tokio::test]
async fn an_unlimited_entitlement_counts_up_to_the_largest_exact_json_integer() {
    let app = App::start().await;
    let path = granted(&app, Value::Null).await;
    assert_eq!(consume(&app, &path, "a", 70).await.expect(200).json()["units_used"], 70);

    execute(&app.database, "UPDATE entitlements SET units_used = 9007199254740990");
    consume(&app, &path, "b", 2).await.expect_problem(409, "quota-exceeded");
    consume(&app, &path, "c", 1).await.expect(200);
    assert_eq!(app.get(&path).await.json()["units_used"], 9_007_199_254_740_991_i64);
}

#[tokio::test]
async fn a_grant_must_end_in_the_future() {
    let app = App::start().await;
    let until = |time: &str| json!({"customer": "ada", "feature": "pro", "expires_at": time});
    for wrong in ["2001-01-01T00:00:00Z", "2099-01-01", "tomorrow", "9999-12-31T23:59:59-01:00"] {
        let answer = app.post("/v1/entitlements", "k", until(wrong)).await.expect_problem(422, "invalid-request");
        assert_eq!(answer.pointers(), ["/expires_at"], "{wrong}");
    }
    assert_eq!(app.count("entitlements"), 0);

    // The key is free, because nothing of a refused request is stored.
    let first = app.post("/v1/entitlements", "k", until("2099-01-01T02:00:00+02:00")).await.expect(201);
    assert_eq!(first.json()["expires_at"], "2099-01-01T00:00:00Z");
}

/// Must fail if the API checks "must be in the future" before the key: the retry is the same request, but its time is
/// past.
#[tokio::test]
async fn a_grant_is_replayed_even_after_its_end() {
    let app = App::start().await;
    let soon = chrono::Utc::now() + chrono::TimeDelta::seconds(2);
    let grant = json!({"customer": "ada", "feature": "pro", "expires_at": soon});
    let first = app.post("/v1/entitlements", "k", grant.clone()).await.expect(201);
    eventually("the grant has ended by the database's clock", || {
        app.count("entitlements WHERE expires_at < now()") == 1
    })
    .await;

    let replay = app.post("/v1/entitlements", "k", grant.clone()).await;

    assert_eq!((replay.reply(), replay.is_replay()), (first.reply(), true));
    app.post("/v1/entitlements", "another", grant).await.expect_problem(422, "invalid-request");
}

/// No code of the API makes these changes, but the database must still refuse them.
#[tokio::test]
async fn the_database_itself_refuses_more_use_than_there_are_units() {
    let app = App::start().await;
    granted(&app, json!(10)).await;
    let changes = [
        ("UPDATE entitlements SET units_used = 11", "entitlements_used_within_units"),
        ("UPDATE entitlements SET units_used = 5; UPDATE entitlements SET units = 4", "entitlements_used_within_units"),
        ("UPDATE entitlements SET units_used = -1", "entitlements_units_used_check"),
        ("UPDATE entitlements SET units = 0", "entitlements_units_check"),
    ];

    for (change, constraint) in changes {
        let refused = connect(&app.database).batch_execute(change).unwrap_err().to_string();
        assert!(refused.contains(constraint), "{change}: {refused}");
    }
    execute(&app.database, "UPDATE entitlements SET units_used = 10");
}

#[tokio::test]
async fn units_out_of_range_are_named_by_pointer() {
    let app = App::start().await;
    let path = granted(&app, json!(10)).await;
    for units in [json!(0), json!(-1), json!(10_000_000_000_001_i64), json!("3"), json!(1.5), Value::Null] {
        let answer = app.post(&format!("{path}/consume"), "k", json!({"units": units})).await;
        assert_eq!(answer.expect_problem(422, "invalid-request").pointers(), ["/units"]);
    }
}

#[tokio::test]
async fn a_list_is_filtered_by_customer_and_feature_and_paged_newest_first() {
    let app = App::start().await;
    for (number, (customer, feature)) in
        [("ada", "pro"), ("ada", "api"), ("bob", "pro"), ("ada", "pro")].into_iter().enumerate()
    {
        let body = json!({"customer": customer, "feature": feature, "units": number + 1});
        app.post("/v1/entitlements", &format!("k{number}"), body).await.expect(201);
    }
    let units = async |query: &str| -> Vec<i64> {
        let page = app.get(&format!("/v1/entitlements{query}")).await.expect(200).json();
        page["data"].as_array().unwrap().iter().map(|item| item["units"].as_i64().unwrap()).collect()
    };
    assert_eq!(units("").await, [4, 3, 2, 1]);
    assert_eq!(units("?customer=ada").await, [4, 2, 1]);
    assert_eq!(units("?feature=pro").await, [4, 3, 1]);
    assert_eq!(units("?customer=ada&feature=pro").await, [4, 1]);

    let first = app.get("/v1/entitlements?customer=ada&limit=2").await.json();
    assert_eq!((first["data"][1]["units"].as_i64(), first["has_more"].as_bool()), (Some(2), Some(true)));
    let after = first["data"][1]["id"].as_str().unwrap();
    assert_eq!(units(&format!("?customer=ada&limit=2&after={after}")).await, [1]);

    let wrong = app.get("/v1/entitlements?feature=no%20slug").await.expect_problem(422, "invalid-request");
    assert_eq!(wrong.pointers(), ["/feature"]);
}

/// Must fail if the list does not filter by account, or if a revocation writes before it checks the account.
#[tokio::test]
async fn an_entitlement_of_another_account_is_not_found() {
    let app = App::start().await;
    let path = granted(&app, json!(10)).await;
    let before = app.get(&path).await.expect(200).json();
    let events = app.count("events");
    for action in ["consume", "revoke"] {
        let body = if action == "consume" { json!({"units": 1}) } else { json!({}) };
        let answer = app.post_as(GLOBEX, &format!("{path}/{action}"), "k", body).await;
        answer.expect_problem(404, "not-found");
    }
    send(app.request_as(GLOBEX, "GET", &path)).await.expect_problem(404, "not-found");
    for query in ["", "?customer=ada", "?feature=api_credits", "?customer=ada&feature=api_credits"] {
        let list = send(app.request_as(GLOBEX, "GET", &format!("/v1/entitlements{query}"))).await.expect(200);
        assert_eq!(list.json(), json!({"data": [], "has_more": false}), "{query}");
    }

    assert_eq!(app.get(&path).await.json(), before);
    assert!(before["revoked_at"].is_null() && before["units_used"] == 0);
    assert_eq!(app.count("events"), events);
}
