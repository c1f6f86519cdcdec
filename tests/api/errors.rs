//! Every answer that is not a success is a problem document, whichever part of the API refuses the request.

use std::sync::Arc;

use diesel::connection::{Connection, SimpleConnection};
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use idempotency::Address;
use idempotent_payments::http::problems;
use serde_json::json;
use uuid::Uuid;

use crate::app::{ACME, App, GLOBEX, one_item, send};
use crate::support::{connect, execute};

#[tokio::test]
async fn a_problem_names_the_request_that_met_it() {
    let app = App::start_with_pool(2).await;

    let answer = app.get("/v1/nothing").await.expect_problem(404, "not-found");

    assert_eq!(answer.json()["instance"], format!("urn:uuid:{}", answer.header("X-Request-Id").unwrap()));
}

#[tokio::test]
async fn a_405_lists_the_methods_of_the_path() {
    let app = App::start_with_pool(2).await;
    let vectors = [
        ("PATCH", "/v1/orders", ["GET", "HEAD", "OPTIONS", "POST"].as_slice()),
        ("DELETE", "/v1/products/sticker", &["GET", "HEAD", "OPTIONS", "PUT"]),
        ("GET", "/v1/orders/019a0000-0000-7000-8000-000000000000/cancel", &["OPTIONS", "POST"]),
        ("POST", "/v1/products", &["GET", "HEAD", "OPTIONS"]),
        ("POST", "/health/live", &["GET", "HEAD", "OPTIONS"]),
        ("POST", "/problems/internal", &["GET", "HEAD", "OPTIONS"]),
        ("POST", "/assets/base.css", &["GET", "HEAD", "OPTIONS"]),
    ];

    for (method, path, allowed) in vectors {
        let answer = send(app.request(method, path)).await.expect_problem(405, "method-not-allowed");
        let mut allow: Vec<_> = answer.header("Allow").unwrap_or_default().split(',').map(str::trim).collect();
        allow.sort_unstable();
        assert_eq!(allow, allowed, "{method} {path}");
    }
}

#[tokio::test]
async fn head_answers_as_get_without_a_body() {
    let app = App::start_with_pool(2).await;

    let pages = ["/", "/docs", "/docs/swagger-ui.css", "/problems/internal", "/policies", "/assets/base.css"];
    for path in ["/v1/orders", "/v1/products/sticker", "/health/live", "/openapi.json"].into_iter().chain(pages) {
        let (got, asked) = (send(app.request("GET", path)).await, send(app.request("HEAD", path)).await.expect(200));
        assert_eq!((asked.body.as_str(), asked.header("Content-Type")), ("", got.header("Content-Type")), "{path}");
        assert_eq!(asked.header("X-Content-Type-Options"), Some("nosniff"), "{path}");
    }
}

#[tokio::test]
async fn checks_come_in_the_order_of_the_contract() {
    let app = App::start_with_pool(2).await;
    let before = app.rows();
    // Each request has one fault fewer than the one before.
    let (large, bad) = ("[".repeat(64 * 1024 + 1), "[");
    let text = |request: reqwest::RequestBuilder| request.header("Content-Type", "text/plain");
    let json = |request: reqwest::RequestBuilder| request.header("Content-Type", "application/json");
    let post = || app.request("POST", "/v1/orders");
    let anonymous = |method, path| text(app.anonymous(method, path)).body(large.clone());

    send(anonymous("POST", "/v1/nothing")).await.expect_problem(404, "not-found");
    send(anonymous("PATCH", "/v1/orders")).await.expect_problem(405, "method-not-allowed");
    send(anonymous("POST", "/v1/orders")).await.expect_problem(401, "unauthorized");
    send(text(post()).body(large.clone())).await.expect_problem(413, "payload-too-large");
    send(text(post()).body(bad)).await.expect_problem(415, "unsupported-media-type");
    send(json(post()).body(bad)).await.expect_problem(400, "idempotency-key-missing");
    let keyed = || json(post().header("Idempotency-Key", "key"));
    send(keyed().body(bad)).await.expect_problem(400, "malformed-request");
    send(keyed().body("[]")).await.expect_problem(422, "invalid-request");
    app.order("key", "unheard-of", 1).await.expect_problem(422, "unknown-product");

    assert_eq!(app.rows(), before);
    app.order("key", "sticker", 1).await.expect(201);
}

#[tokio::test]
async fn authorization_that_is_sent_twice_is_refused() {
    let app = App::start_with_pool(2).await;
    let once = || app.request("GET", "/v1/orders");

    send(once()).await.expect(200);
    for other in [ACME, GLOBEX, "unheard-of"] {
        let twice = once().header("Authorization", format!("Bearer {other}"));
        send(twice).await.expect_problem(401, "unauthorized");
    }
}

#[tokio::test]
async fn an_endpoint_that_reads_no_parameters_refuses_them_and_names_at_most_twenty() {
    let app = App::start_with_pool(2).await;
    let many: Vec<_> = (0..30).map(|number| format!("p{number:02}=1")).collect();

    for path in ["/v1/policies?x=1", "/v1/orders/019a0000-0000-7000-8000-000000000000?x"] {
        let answer = app.get(path).await.expect_problem(422, "invalid-request");
        assert_eq!(answer.pointers(), ["/x"], "{path}");
    }
    let answer = app.get(&format!("/v1/policies?{}", many.join("&"))).await.expect_problem(422, "invalid-request");
    assert_eq!(answer.pointers().len(), 20);
    app.get("/v1/policies?").await.expect(200);
}

#[tokio::test]
async fn a_body_is_limited_to_64_kib() {
    let app = App::start_with_pool(2).await;
    let padded = |length: usize| {
        let order = one_item("sticker", 1).to_string();
        let body = format!("{order}{}", " ".repeat(length - order.len()));
        let request = app.request("POST", "/v1/orders").header("Idempotency-Key", "key");
        send(request.header("Content-Type", "application/json").body(body))
    };

    padded(64 * 1024 + 1).await.expect_problem(413, "payload-too-large");
    padded(1024 * 1024).await.expect_problem(413, "payload-too-large");
    padded(64 * 1024).await.expect(201);
}

#[tokio::test]
async fn a_body_must_say_that_it_is_json() {
    let app = App::start_with_pool(2).await;
    let order = |content_types: &[&str]| {
        let mut request = app.request("POST", "/v1/orders").header("Idempotency-Key", "key");
        for content_type in content_types {
            request = request.header("Content-Type", *content_type);
        }
        send(request.body(one_item("sticker", 1).to_string()))
    };

    let packed = app.request("POST", "/v1/orders").header("Idempotency-Key", "key").header("Content-Encoding", "gzip");
    let packed = send(packed.json(&one_item("sticker", 1))).await.expect_problem(415, "unsupported-media-type");
    assert!(packed.body.contains("must not be compressed"), "{packed:?}");
    for wrong in [&[] as &[&str], &["text/plain"], &["application/jsonx"], &["application/json", "text/plain"]] {
        order(wrong).await.expect_problem(415, "unsupported-media-type");
    }
    for right in ["application/json; charset=utf-8", "Application/JSON", "application/vnd.acme+json"] {
        order(&[right]).await.expect(201);
    }
}

/// Takes five seconds: that is how long a duplicate waits.
#[tokio::test]
async fn a_key_that_is_held_for_too_long_is_in_flight() {
    let app = App::start_with_pool(2).await;
    let acme: Uuid = "01990000-0000-7000-8000-000000000001".parse().unwrap();
    let address = Address { account_id: acme, scope: "account".into(), key: "key".into() };
    let lock = i64::from_be_bytes(address.digest()[..8].try_into().unwrap());
    let mut other = connect(&app.database);
    diesel::sql_query("SELECT pg_advisory_lock($1)").bind::<BigInt, _>(lock).execute(&mut other).unwrap();

    let answers = app.at_once(3, |app, _| async move { app.order("key", "sticker", 1).await }).await;

    for answer in answers {
        let answer = answer.expect_problem(409, "idempotency-request-in-flight");
        assert_eq!(answer.header("Retry-After"), Some("1"));
        assert_eq!(answer.header("Idempotency-Expires"), None);
    }
    drop(other);
    app.order("key", "sticker", 1).await.expect(201);
}

#[tokio::test]
async fn an_internal_error_shows_no_cause_and_stores_nothing() {
    let app = App::start_with_pool(2).await;
    let before = app.rows();
    execute(&app.database, "ALTER TABLE events RENAME TO events_gone");

    app.order("key", "sticker", 1).await.expect_problem(500, "internal");
    app.get("/v1/orders/019a0000-0000-7000-8000-000000000000").await.expect_problem(404, "not-found");

    execute(&app.database, "ALTER TABLE events_gone RENAME TO events");
    assert_eq!(app.rows(), before);
    assert!(!app.order("key", "sticker", 1).await.expect(201).is_replay());
}

#[tokio::test]
async fn an_overloaded_server_refuses_at_once() {
    let app = App::start_with_pool(1).await;
    app.get("/v1/orders").await.expect(200);
    let mut other = connect(&app.database);
    other.begin_test_transaction().unwrap();
    other.batch_execute("SELECT FROM products WHERE sku = 'sticker' FOR UPDATE").unwrap();

    let refusal = Arc::new(tokio::sync::Notify::new());
    let storm = app.at_once(100, |app, number| {
        let refusal = Arc::clone(&refusal);
        async move {
            let answer = app.order(&format!("key-{number}"), "sticker", 1).await;
            if answer.status == 503 {
                refusal.notify_one();
            }
            answer
        }
    });
    // The test holds the lock until the API refuses a request, which it does only when the queue is full.
    let (answers, ()) = tokio::join!(storm, async {
        refusal.notified().await;
        drop(other);
    });

    let (refused, served): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 503);
    // 33: one order runs, and the account may use half of the queue's 64 places.
    assert!(!refused.is_empty() && served.len() >= 33, "{} refused", refused.len());
    for answer in refused {
        let answer = answer.expect_problem(503, "overloaded");
        assert_eq!(answer.header("Retry-After"), Some("1"));
    }
    assert_eq!(served.iter().filter(|answer| answer.status == 201).count(), 10);
}

#[tokio::test]
async fn every_problem_has_a_page() {
    let app = App::start_with_pool(1).await;

    for problem in problems::ALL {
        let page = send(app.anonymous("GET", &format!("/problems/{}", problem.slug))).await.expect(200);
        assert_eq!(page.header("Content-Type"), Some("text/html; charset=utf-8"));
        for text in [problem.title, problem.meaning, problem.remedy, &problem.status.to_string()] {
            assert!(page.body.contains(text), "{} lacks {text:?}", problem.slug);
        }
    }
    send(app.anonymous("GET", "/problems/unheard-of")).await.expect_problem(404, "not-found");
}

#[tokio::test]
async fn the_problems_are_those_of_the_contract() {
    let contract = json!({
        "idempotency-key-missing": 400, "idempotency-key-invalid": 400, "malformed-request": 400, "unauthorized": 401,
        "card-declined": 402, "gateway-failed": 402, "not-found": 404, "method-not-allowed": 405, "request-timeout": 408, "out-of-stock": 409,
        "order-not-payable": 409, "order-not-cancelable": 409, "refund-exceeds-charge": 409,
        "charge-not-refundable": 409, "quota-exceeded": 409, "entitlement-inactive": 409,
        "payment-in-progress": 409, "idempotency-request-in-flight": 409, "idempotency-key-expired": 409,
        "precondition-failed": 412, "payload-too-large": 413, "unsupported-media-type": 415, "idempotency-key-reused": 422, "invalid-request": 422,
        "unknown-product": 422, "mixed-currencies": 422, "internal": 500, "overloaded": 503,
        "database-unavailable": 503,
    });

    let ours: serde_json::Map<_, _> =
        problems::ALL.iter().map(|problem| (problem.slug.to_owned(), json!(problem.status))).collect();

    assert_eq!(json!(ours), contract);
}
