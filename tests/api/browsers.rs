//! Browsers: pages of other origins that call the API.

use serde_json::json;

use crate::app::{Answer, App, Client, SHOP, one_item, send};

/// The origin that may read the answer.
fn allowed(answer: &Answer) -> Option<&str> {
    answer.header("Access-Control-Allow-Origin")
}

async fn preflight(app: &Client, origin: &str, headers: &str) -> reqwest::Response {
    preflight_of(app, "POST", "/v1/orders", origin, headers).await
}

async fn preflight_of(app: &Client, method: &str, path: &str, origin: &str, headers: &str) -> reqwest::Response {
    let request = app.anonymous("OPTIONS", path).header("Origin", origin);
    let request = request.header("Access-Control-Request-Method", method);
    request.header("Access-Control-Request-Headers", headers).send().await.unwrap()
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_may_send_a_key_and_read_the_headers() {
    let app = App::start_with_pool(2).await;
    let asked_headers = "authorization,content-type,idempotency-key,if-match,x-request-id,traceparent,tracestate";
    for origin in [SHOP, "http://localhost:5173"] {
        let asked = preflight(&app, origin, asked_headers).await;
        assert_eq!(
            (
                asked.status().as_u16(),
                asked.headers().get("Access-Control-Allow-Origin").and_then(|value| value.to_str().ok())
            ),
            (200, Some(origin))
        );
        let from = |key: &str, sku: &str| {
            let request = app.request("POST", "/v1/orders").header("Origin", origin).header("Idempotency-Key", key);
            send(request.json(&one_item(sku, 1)))
        };

        let answers = [from(origin, "sticker").await.expect(201), from("k", "unheard-of").await.expect(422)];

        for answer in answers {
            assert_eq!(allowed(&answer), Some(origin), "{answer:?}");
            let exposed = answer.header("Access-Control-Expose-Headers").unwrap().to_ascii_lowercase();
            for name in [
                "idempotency-replayed",
                "idempotency-expires",
                "retry-advice",
                "location",
                "retry-after",
                "etag",
                "x-request-id",
            ] {
                assert!(exposed.contains(name), "{name} is not among {exposed}");
            }
        }
    }
}

#[tokio::test]
async fn a_page_of_another_origin_is_refused() {
    let app = App::start_with_pool(2).await;
    for origin in ["https://evil.example", "http://localhost.evil.example", "null"] {
        let asked = preflight(&app, origin, "authorization").await;
        assert_eq!(
            (asked.status().as_u16(), asked.headers().get("Access-Control-Allow-Origin")),
            (400, None),
            "{origin}"
        );
        let answer = send(app.request("GET", "/v1/orders").header("Origin", origin)).await.expect(200);
        assert_eq!(allowed(&answer), None, "{origin}");
    }
    let cookies = preflight(&app, SHOP, "cookie").await;
    assert_eq!(cookies.status().as_u16(), 400);
}

#[tokio::test]
async fn options_lists_the_methods_of_a_path() {
    let app = App::start_with_pool(1).await;
    let vectors = [
        ("/v1/orders", json!("GET, POST, HEAD, OPTIONS")),
        ("/v1/products/mug", json!("GET, PUT, HEAD, OPTIONS")),
        ("/v1/orders/7/cancel", json!("POST, OPTIONS")),
        ("/health/live", json!("GET, HEAD, OPTIONS")),
        ("/assets/base.css", json!("GET, HEAD, OPTIONS")),
    ];
    for (path, methods) in vectors {
        let answer = send(app.anonymous("OPTIONS", path)).await.expect(204);
        assert_eq!((json!(answer.header("Allow")), answer.body.as_str()), (methods, ""), "{path}");
    }
    send(app.anonymous("OPTIONS", "/v1/nothing")).await.expect_problem(404, "not-found");
}

#[tokio::test]
async fn a_page_may_put_a_product_with_if_match() {
    let app = App::start_with_pool(2).await;

    let asked = preflight_of(&app, "PUT", "/v1/products/mug", SHOP, "authorization,content-type,if-match").await;

    assert_eq!(asked.status().as_u16(), 200);
    let listed = |name: &str| asked.headers().get(name).unwrap().to_str().unwrap().to_ascii_lowercase();
    assert!(listed("Access-Control-Allow-Methods").contains("put"));
    assert!(listed("Access-Control-Allow-Headers").contains("if-match"));
}
