//! Connections of real clients: a slow body, an offer of another protocol, and many requests on one connection.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::app::{ACME, App, Client, one_item};

fn connect(app: &Client) -> TcpStream {
    let stream = TcpStream::connect(app.base.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// The head of a request for an order. The body of this length follows.
fn head(key: &str, length: usize, more: &str) -> String {
    format!(
        "POST /v1/orders HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer {ACME}\r\nContent-Type: application/json\r\n\
         Idempotency-Key: {key}\r\nContent-Length: {length}\r\n{more}\r\n"
    )
}

/// Reads until the answer contains this text.
fn read_to(stream: &mut TcpStream, end: &str) -> String {
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&answer).contains(end) {
        let read = stream.read(&mut buffer).unwrap();
        assert_ne!(read, 0, "the connection ended after {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8(answer).unwrap()
}

/// This test takes ten seconds: a body may take ten seconds to arrive.
#[tokio::test]
async fn a_body_that_does_not_end_is_a_timeout_and_may_be_sent_again() {
    let app = App::start_with_pool(2).await;
    let before = app.rows();
    let body = one_item("sticker", 1).to_string();
    let mut slow = connect(&app);
    slow.write_all(head("key", body.len(), "").as_bytes()).unwrap();
    slow.write_all(&body.as_bytes()[..10]).unwrap();
    let started = Instant::now();

    let answer = tokio::task::spawn_blocking(move || read_to(&mut slow, "\"status\":408")).await.unwrap();

    assert!((9..15).contains(&started.elapsed().as_secs()), "after {:?}", started.elapsed());
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("retry-after: 1"), "{answer}");
    assert!(answer.contains("/problems/request-timeout") && answer.contains("\"retry\":\"again\""), "{answer}");
    assert_eq!(app.rows(), before);
    assert!(!app.order("key", "sticker", 1).await.expect(201).is_replay());
}

#[tokio::test]
async fn an_offer_of_another_protocol_is_answered_in_http_1_1_with_connection_close() {
    let app = App::start_with_pool(2).await;
    let body = one_item("sticker", 1).to_string();
    let offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQBAAAAAAIAAAAA\r\n";
    let mut stream = connect(&app);
    stream.write_all(format!("{}{body}", head("key", body.len(), offer)).as_bytes()).unwrap();

    let answer = read_to(&mut stream, "\"created_at\"");

    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
    assert!(app.order("key", "sticker", 1).await.expect(201).is_replay());
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    let app = App::start_with_pool(2).await;
    let body = one_item("sticker", 1).to_string();
    let mut stream = connect(&app);
    for key in ["a", "b", "a"] {
        stream.write_all(format!("{}{body}", head(key, body.len(), "")).as_bytes()).unwrap();
        let answer = read_to(&mut stream, "\"created_at\"");
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    }
}
