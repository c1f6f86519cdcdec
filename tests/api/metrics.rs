//! The metrics: they count the outcome of each key by route, and contain no value that a client chose.

use serde_json::json;

use crate::app::{App, Client, one_item, send};
use crate::support::execute;

async fn scraped(app: &Client) -> Vec<String> {
    let answer = send(app.anonymous("GET", "/metrics")).await.expect(200);
    answer.body.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
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
    let lines = scraped(&app).await;
    for line in ["resolver_resolved_total 1", "resolver_parked 1", "db_queue_length 0"] {
        assert!(lines.iter().any(|found| found == line), "{line} is not in {lines:#?}");
    }
    assert!(lines.iter().any(|line| line.starts_with("db_connections_busy ")));
}
