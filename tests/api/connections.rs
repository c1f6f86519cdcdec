//! Connections of real clients: a slow body, an offer of another protocol, idle connections, and many requests on one connection.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::app::{ACME, App, Client, one_item, send};
use crate::binary::{Replica, command};
use crate::support::{self, eventually};

pub fn connect(app: &Client) -> TcpStream {
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

/// Takes ten seconds: that is how long a body may take to arrive.
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
async fn a_client_that_is_still_sending_too_large_a_body_reads_the_answer_and_is_not_cut() {
    let app = App::start_with_pool(2).await;
    let mut stream = connect(&app);
    stream.write_all(head("key", 1 << 20, "").as_bytes()).unwrap();
    stream.write_all(&vec![b' '; 80 << 10]).unwrap();

    let answer = read_to(&mut stream, "\"status\":413");

    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    for _ in 0..4 {
        stream.write_all(&vec![b' '; 64 << 10]).unwrap();
    }
}

/// Java's client offers h2c with each first request. The server answers in HTTP/1.1 and closes the connection.
#[tokio::test]
async fn an_offer_of_another_protocol_gets_its_answer_and_a_closed_connection() {
    let app = App::start_with_pool(2).await;
    let body = one_item("sticker", 1).to_string();
    for (key, offer) in [
        ("java", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQBAAAAAAIAAAAA\r\n"),
        ("curl", "Connection: keep-alive, Upgrade\r\nupgrade: h2c\r\n"),
    ] {
        let mut stream = connect(&app);
        stream.write_all(format!("{}{body}", head(key, body.len(), offer)).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 201 ") && answer.contains("\"created_at\""), "{key}: {answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{key}: {answer}");
        assert!(app.order(key, "sticker", 1).await.expect(201).is_replay());
    }
}

/// The chunks divide the JSON so that each string with `upgrade` begins a chunk, and thus a line.
#[tokio::test]
async fn a_body_in_chunks_is_the_same_request_as_the_body_with_its_length() {
    let app = App::start_with_pool(2).await;
    let customer = "connection: upgrade, upgrade";
    let body = json!({"customer": customer, "items": [{"sku": "sticker", "quantity": 1}]}).to_string();
    let cuts: Vec<_> = body.match_indices("upgrade").map(|(at, _)| at).chain([body.len()]).collect();
    let begins = [0].into_iter().chain(cuts.iter().copied());
    let chunks: Vec<_> = begins.zip(&cuts).map(|(from, to)| &body[from..*to]).collect();
    let chunks: Vec<_> = chunks.iter().map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len())).collect();
    let length = format!("Content-Length: {}", body.len());
    let chunked = head("key", body.len(), "").replace(&length, "Transfer-Encoding: chunked");
    let mut stream = connect(&app);
    stream.write_all(format!("{chunked}{}0\r\n\r\n", chunks.concat()).as_bytes()).unwrap();

    let answer = read_to(&mut stream, "\"created_at\"");

    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    let whole = app.request("POST", "/v1/orders").header("Idempotency-Key", "key");
    let again = send(whole.header("Content-Type", "application/json").body(body)).await.expect(201);
    assert!(again.is_replay() && answer.ends_with(&again.body), "{answer} {again:?}");
    assert_eq!(again.json()["customer"], customer);
}

/// With 256 descriptors, clients may have 128 of them.
#[tokio::test]
async fn idle_connections_leave_descriptors_for_the_database() {
    let database = support::fresh_database();
    let replica = Replica::start_limited(&database, &command(&database, "http://127.0.0.1:9"), 256);
    let mut talking = connect(&replica);
    let ask = "GET /health/live HTTP/1.1\r\nHost: api\r\n\r\n";
    talking.write_all(ask.as_bytes()).unwrap();
    read_to(&mut talking, "live");
    // The kernel accepts them all, and the server as many as it may have.
    let idle: Vec<_> = (0..300).map(|_| connect(&replica)).collect();
    // The last of them waits in the listener's queue, so the server has accepted all that it will.
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", replica.id())).unwrap().count();
    eventually("the server accepts as many as it may have", || descriptors() > 120).await;

    let order = one_item("sticker", 1).to_string();
    for key in ["a", "b", "c"] {
        talking.write_all(format!("{}{order}", head(key, order.len(), "")).as_bytes()).unwrap();
        let answer = read_to(&mut talking, "\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    }

    assert!(descriptors() < 200, "{} descriptors", descriptors());
    drop(idle);
    replica.order("d", "sticker", 1).await.expect(201);
}

/// actix reads its clock twice a second, so a connection may end half a second early. It checks idle connections in steps, so one
/// may live for up to twice the setting.
#[tokio::test]
async fn an_idle_connection_is_kept_as_long_as_the_setting_says() {
    let database = support::fresh_database();
    let replica = Replica::start_logging(&database, "http://127.0.0.1:9", &[("KEEP_ALIVE", "2")]);
    let mut stream = connect(&replica);
    // The server starts counting later, at its answer.
    let idle = Instant::now();
    stream.write_all(b"GET /health/live HTTP/1.1\r\nHost: api\r\n\r\n").unwrap();
    read_to(&mut stream, "\r\n\r\n");

    let ended = tokio::task::spawn_blocking(move || stream.read_to_end(&mut Vec::new())).await.unwrap();

    ended.unwrap();
    assert!((1400..4500).contains(&idle.elapsed().as_millis()), "kept for {:?}", idle.elapsed());
}

/// By default, actix closes an idle connection after five seconds.
#[tokio::test]
async fn an_idle_connection_is_usable_after_more_than_five_seconds() {
    let database = support::fresh_database();
    let replica = Replica::start_logging(&database, "http://127.0.0.1:9", &[]);
    let mut stream = connect(&replica);
    for idle_for in [0, 7] {
        tokio::time::sleep(Duration::from_secs(idle_for)).await;
        stream.write_all(b"GET /health/live HTTP/1.1\r\nHost: api\r\n\r\n").unwrap();
        let answer = read_to(&mut stream, "\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
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
