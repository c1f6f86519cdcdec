//! Connections of real clients: a slow body, an offer of another protocol, idle connections, clients that read nothing, and
//! many requests on one connection.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};
use serde_json::json;

use crate::app::{ACME, App, Client, one_item, send};
use crate::binary::{Replica, command};
use crate::support::{self, eventually};

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

/// The chunks divide the JSON so that each text with `upgrade` begins a chunk, and with it a line.
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
    // The kernel takes them all, and the server takes as many as it may have.
    let idle: Vec<_> = (0..300).map(|_| connect(&replica)).collect();
    // The last of them waits in the listener's queue, so all that the server accepts is accepted.
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", replica.id())).unwrap().count();
    eventually("the server accepts as many as it may", || descriptors() > 120).await;

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

/// This test takes some twenty seconds: the kernel keeps unread data for twenty seconds.
#[tokio::test]
async fn a_client_that_reads_nothing_is_let_go() {
    let database = support::fresh_database();
    let replica = Replica::start_logging(&database, "http://127.0.0.1:9", &[]);
    let ask = "GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: api\r\n\r\n".repeat(8);
    let mut streams: Vec<_> = (0..20).map(|_| connect(&replica)).collect();
    for stream in &mut streams {
        stream.write_all(ask.as_bytes()).unwrap();
    }
    let mut held = BTreeSet::new();
    eventually("the server has accepted all", || {
        held = accepted(&streams).intersection(&sockets(&replica)).cloned().collect();
        held.len() == streams.len()
    })
    .await;

    let since = Instant::now();
    while !held.is_disjoint(&sockets(&replica)) {
        let left = held.intersection(&sockets(&replica)).count();
        assert!(since.elapsed() < Duration::from_secs(60), "{left} connections are held");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    assert!(since.elapsed() > Duration::from_secs(10), "let go after {:?}", since.elapsed());
    replica.get("/v1/orders").await.expect(200);
}

/// Sends this request again and again on every connection, without reading, until for five seconds the server has taken nothing
/// and needed no more memory. It may end the connections. Returns how many bytes the connection took that took most.
async fn send_until_full(replica: &Replica, streams: &mut [TcpStream], ask: &str) -> usize {
    let asks = ask.repeat(100).into_bytes();
    let mut sent = vec![0; streams.len()];
    let (mut progress, mut memory) = (Instant::now(), 0);
    for stream in streams.iter() {
        stream.set_nonblocking(true).unwrap();
    }
    while progress.elapsed() < Duration::from_secs(5) {
        for (stream, sent) in streams.iter_mut().zip(&mut sent) {
            if let Ok(written) = stream.write(&asks[*sent % asks.len()..]) {
                *sent += written;
                progress = Instant::now();
            }
        }
        if most_memory(replica) > memory {
            (memory, progress) = (most_memory(replica), Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    sent.into_iter().max().unwrap_or_default()
}

/// actix goes on to the next request after an answer without a body, also if the client has read none of the answers. This test
/// takes a minute: it waits until nothing moves for five seconds, four times.
#[tokio::test(flavor = "multi_thread")]
async fn the_server_stops_reading_from_a_client_that_reads_no_answers() {
    let database = support::fresh_database();
    let replica = Replica::start_logging(&database, "http://127.0.0.1:9", &[("DEMO", "true"), ("RUST_LOG", "warn")]);
    let tag =
        replica.anonymous("GET", "/policies").send().await.unwrap().headers()["ETag"].to_str().unwrap().to_owned();
    let unchanged = format!("If-None-Match: {tag}\r\n");
    for (line, headers) in [
        ("OPTIONS /v1/orders", ""),
        ("OPTIONS /v1/orders", "Origin: http://localhost\r\nAccess-Control-Request-Method: POST\r\n"),
        ("GET /policies", &unchanged),
        ("GET /health/live", ""),
    ] {
        let stream = connect(&replica);
        // So that little fits between the two programs.
        set_socket_recv_buffer_size(&stream, 4096).unwrap();
        set_socket_send_buffer_size(&stream, 4096).unwrap();
        let ask = format!("{line} HTTP/1.1\r\nHost: api\r\n{headers}\r\n");
        let most = send_until_full(&replica, &mut [stream], &ask).await;
        assert!(most < 2_500_000, "{line} {headers}: {most} bytes");
    }
}

/// The most memory that the process has had, in megabytes.
fn most_memory(replica: &Replica) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", replica.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// Requests that the server has read wait for the answers before them, and each of them takes many times its own length.
#[tokio::test(flavor = "multi_thread")]
async fn clients_that_send_and_read_nothing_take_little_memory() {
    let database = support::fresh_database();
    let replica = Replica::start_logging(&database, "http://127.0.0.1:9", &[("RUST_LOG", "warn")]);
    replica.get("/v1/orders").await.expect(200);
    let before = most_memory(&replica);
    let mut streams: Vec<_> = (0..20).map(|_| connect(&replica)).collect();

    send_until_full(&replica, &mut streams, "GET /openapi.json HTTP/1.1\r\nHost: api\r\n\r\n").await;

    let grown = most_memory(&replica) - before;
    assert!(grown < 130, "{grown} MB");
}

/// The sockets of the server's process, such as `socket:[4711]`.
fn sockets(replica: &Replica) -> BTreeSet<String> {
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", replica.id())).unwrap();
    let targets = descriptors.filter_map(|descriptor| std::fs::read_link(descriptor.ok()?.path()).ok());
    targets.map(|target| target.to_string_lossy().into_owned()).collect()
}

/// The server's ends of these connections, by the kernel's table.
fn accepted(clients: &[TcpStream]) -> BTreeSet<String> {
    let ports: Vec<_> = clients.iter().map(|client| format!(":{:04X}", client.local_addr().unwrap().port())).collect();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
    // The columns: number, local address, remote address, .. and the tenth is the inode.
    rows.filter(|row| ports.iter().any(|port| row[2].ends_with(port)))
        .map(|row| format!("socket:[{}]", row[9]))
        .collect()
}

/// The server checks idle connections in steps, so a connection may live for up to twice the setting.
#[tokio::test]
async fn an_idle_connection_is_kept_as_long_as_the_setting_says() {
    let database = support::fresh_database();
    let replica = Replica::start_logging(&database, "http://127.0.0.1:9", &[("KEEP_ALIVE", "2")]);
    let mut stream = connect(&replica);
    // The server's time begins later, with its answer.
    let idle = Instant::now();
    stream.write_all(b"GET /health/live HTTP/1.1\r\nHost: api\r\n\r\n").unwrap();
    read_to(&mut stream, "\r\n\r\n");

    let ended = tokio::task::spawn_blocking(move || stream.read_to_end(&mut Vec::new())).await.unwrap();

    ended.unwrap();
    assert!((1900..4500).contains(&idle.elapsed().as_millis()), "kept for {:?}", idle.elapsed());
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
