//! API keys: who may call the API.

use std::time::{Duration, Instant};

use idempotent_payments::http::auth::create_account;

use crate::app::{ACME, App, GLOBEX, send};
use crate::support::{connect, count, execute};

#[tokio::test]
async fn a_new_account_can_call_with_the_key_it_was_shown() {
    let app = App::start_with_pool(2).await;

    let (_, key) = create_account(&mut connect(&app.database), "initech").unwrap();

    assert!(key.starts_with("sk_"));
    let products = send(app.request_as(&key, "GET", "/v1/products")).await.expect(200).json();
    assert_eq!(products["data"].as_array().unwrap().len(), 0);
    let readable =
        format!("api_keys WHERE encode(hash, 'escape') LIKE '%{key}%' OR encode(hash, 'hex') LIKE '%{key}%'");
    assert_eq!(count(&app.database, &readable), 0);
    assert_eq!(count(&app.database, &format!("api_keys WHERE hash = sha256('{key}')")), 1);
}

#[tokio::test]
async fn a_request_without_a_valid_bearer_key_is_unauthorized() {
    let app = App::start_with_pool(2).await;
    let before = app.rows();
    let headers = ["", "Bearer", "Bearer ", "Bearer sk_unknown", "Basic c2tfZGVtb19hY21l", ACME, "Bearer \u{fc}"];

    let without = send(app.anonymous("GET", "/v1/orders")).await.expect_problem(401, "unauthorized");
    assert_eq!(without.header("WWW-Authenticate"), Some("Bearer"));
    for header in headers {
        let answer = send(app.anonymous("POST", "/v1/orders").header("Authorization", header)).await;
        let answer = answer.expect_problem(401, "unauthorized");
        assert_eq!(answer.header("WWW-Authenticate"), Some("Bearer"), "{header}");
    }

    assert_eq!(app.rows(), before);
}

#[tokio::test]
async fn the_scheme_bearer_may_be_in_any_case() {
    let app = App::start_with_pool(2).await;

    for scheme in ["bearer", "BEARER"] {
        let request = app.anonymous("GET", "/v1/orders").header("Authorization", format!("{scheme} {ACME}"));
        send(request).await.expect(200);
    }
}

#[tokio::test]
async fn a_revoked_key_stops_working() {
    let app = App::start_with_pool(2).await;
    app.get("/v1/orders").await.expect(200);

    execute(&app.database, "UPDATE api_keys SET revoked_at = now() WHERE hash = sha256('sk_demo_acme')");

    // A server that has not seen the API key recently refuses it at once. The other account's API key still works.
    let fresh = App::start_on(app.database.clone(), 2).await;
    fresh.get("/v1/orders").await.expect_problem(401, "unauthorized");
    send(fresh.request_as(GLOBEX, "GET", "/v1/orders")).await.expect(200);
    // A server that has seen the API key accepts it for up to ten more seconds.
    let revoked = Instant::now();
    while app.get("/v1/orders").await.status != 401 {
        assert!(revoked.elapsed() < Duration::from_secs(15), "the key still works");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_refused_key_works_as_soon_as_it_exists() {
    let app = App::start_with_pool(2).await;
    send(app.request_as("sk_later", "GET", "/v1/orders")).await.expect_problem(401, "unauthorized");

    let hash = "INSERT INTO api_keys (hash, account_id) SELECT sha256('sk_later'), account_id FROM accounts LIMIT 1";
    execute(&app.database, hash);

    send(app.request_as("sk_later", "GET", "/v1/orders")).await.expect(200);
}
