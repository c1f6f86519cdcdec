//! The metrics: they count the outcome of each key by route, and contain no value that a client chose.

use std::time::Duration;

use serde_json::json;

use crate::app::{App, Client, one_item, send};
use crate::support::execute;

async fn scraped(app: &Client) -> Vec<String> {
    let answer = send(app.anonymous("GET", "/metrics")).await.expect(200);
    answer.body.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

/// Scrapes until this line appears: a background look at the database finds its number within seconds.
async fn scraped_with(app: &Client, line: &str) -> Vec<String> {
    let since = std::time::Instant::now();
    loop {
        let lines = scraped(app).await;
        if lines.iter().any(|found| found == line) {
            return lines;
        }
        assert!(since.elapsed() < Duration::from_secs(20), "{line} is not in {lines:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn the_outcome_of_each_key_is_counted_by_route() {
    let app = App::start().await;
    app.order("k", "sticker", 1).await.expect(201);
    app.order("k", "sticker", 1).await.expect(201);
    app.order("k", "sticker", 1).await.expect(201);
    app.order("k", "sticker", 2).await.expect_problem(422, "idempotency-key-reused");
    let lines = scraped(&app).await;
    for (outcome, n) in [("fresh", 1), ("replayed", 2), ("reused", 1)] {
        let line = format!("idempotency_requests_total{{outcome=\"{outcome}\",route=\"POST /v1/orders\"}} {n}");
        assert!(lines.contains(&line), "{line} is not in {lines:#?}");
    }
    let counted = "http_request_duration_seconds_count{method=\"POST\",route=\"/v1/orders\",status=\"201\"} 3";
    assert!(lines.iter().any(|line| line == counted), "{lines:#?}");
}

#[tokio::test]
async fn a_value_that_a_client_chooses_makes_no_series() {
    let app = App::start().await;
    let id = uuid::Uuid::new_v4();
    app.get(&format!("/v1/orders/{id}")).await.expect(404);
    app.get(&format!("/nothing/{id}")).await.expect(404);
    send(app.anonymous("ODDMETHOD", "/v1/orders")).await.expect(405);
    app.post("/v1/orders", "my-own-key", one_item("sticker", 1)).await.expect(201);
    let lines = scraped(&app).await;
    for chosen in [id.to_string().as_str(), "ODDMETHOD", "my-own-key"] {
        assert!(!lines.iter().any(|line| line.contains(chosen)), "{chosen} is in {lines:#?}");
    }
    assert!(lines.iter().any(|line| line.contains("route=\"/v1/orders/{id}\"")));
}

#[tokio::test]
async fn the_metrics_include_the_pool_and_the_resolver() {
    let app = App::start().await;
    let order = app.order("k", "sticker", 1).await.expect(201);
    let charge = json!({"order_id": order.json()["id"], "payment_method": "pm_card_visa"});
    app.post("/v1/charges", "c", charge).await.expect(201);
    execute(&app.database, "UPDATE external_calls SET resolved_at = NULL, next_attempt_at = now(), parked_at = now()");
    let lines = scraped_with(&app, "resolver_parked 1").await;
    for line in ["resolver_resolved_total 1", "resolver_backlog 0", "db_queue_length 0", "db_threads_given_up 0"] {
        assert!(lines.iter().any(|found| found == line), "{line} is not in {lines:#?}");
    }
    assert!(lines.iter().any(|line| line.starts_with("db_connections_busy ")));
}

#[tokio::test]
async fn the_metrics_include_the_age_of_the_backlog_and_of_what_is_to_be_swept() {
    let app = App::start_without_resolver(crate::support::fresh_database(), crate::gateways::away());
    let order = app.order("k", "sticker", 1).await.expect(201);
    let charge = json!({"order_id": order.json()["id"], "payment_method": "pm_card_visa"});
    app.post("/v1/charges", "c", charge).await.expect(202);
    execute(&app.database, "UPDATE external_calls SET created_at = now() - interval '1 hour'");
    execute(&app.database, "UPDATE idempotency_keys SET expires_at = now() - interval '2 hours' WHERE key = 'k'");

    let lines = scraped_with(&app, "resolver_backlog 1").await;

    for (name, hours) in [("resolver_backlog_oldest_seconds ", 1), ("sweeper_lag_seconds ", 2)] {
        let age: f64 = lines.iter().find_map(|line| line.strip_prefix(name)).unwrap().parse().unwrap();
        assert!((age - f64::from(hours * 3600)).abs() < 60.0, "{name}{age}");
    }
}

/// A database that accepts everything and never answers must not hold up a scrape.
#[tokio::test]
async fn a_scrape_does_not_wait_for_a_silent_database() {
    let (database, proxy) = (crate::support::fresh_database(), test_database::Proxy::start());
    let app = App::start_alone(proxy.url(&database), 4, crate::gateways::away());
    scraped_with(&app, "resolver_backlog 0").await;

    proxy.pause();
    let asked = tokio::spawn(send(app.request("GET", "/v1/orders")));
    let since = std::time::Instant::now();
    // At first the last look is still recent, then the series are missing. No scrape takes long in all that time.
    loop {
        let began = std::time::Instant::now();
        let lines = scraped(&app).await;
        assert!(began.elapsed() < Duration::from_millis(500), "a scrape took {:?}", began.elapsed());
        if !lines.iter().any(|line| line.starts_with("resolver_backlog ")) {
            assert!(lines.iter().any(|line| line.starts_with("resolver_unknown_total ")));
            break;
        }
        assert!(since.elapsed() < Duration::from_secs(45), "an old look passes for a new one: {lines:#?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    asked.await.unwrap().expect(503);
    assert!(scraped(&app).await.iter().any(|line| line.starts_with("db_threads_given_up ") && !line.ends_with(" 0")));
}
