//! Requests that a well-behaved HTTP client does not send: they are written byte by byte.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::app::{ACME, App};

/// Sends bytes and reads until the server closes the connection, for at most `within`.
fn exchange(app: &App, parts: &[Vec<u8>], within: Duration) -> String {
    let mut stream = TcpStream::connect(app.base.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(within)).unwrap();
    for part in parts {
        // The server may already have answered and closed.
        if stream.write_all(part).is_err() {
            break;
        }
    }
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&buffer[..read]),
            Err(error) if answer.is_empty() => panic!("no answer within {within:?}: {error}"),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn the_limit_of_a_body_counts_its_chunks_together() {
    let app = App::start_with_pool(2).await;
    let head = format!(
        "POST /v1/orders HTTP/1.1\r\nHost: test\r\nConnection: close\r\nAuthorization: Bearer {ACME}\r\n\
         Idempotency-Key: k\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let chunk = |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    let order = br#"{"customer":"ada","items":[{"sku":"pro-monthly","quantity":1}]}"#;
    // White space means nothing in JSON, so only its size refuses the body.
    let send = |spaces: usize| {
        let mut parts = vec![head.clone().into_bytes()];
        parts.extend((0..spaces).map(|_| chunk(&[b' '; 8192])));
        parts.extend([chunk(order), chunk(b"")]);
        exchange(&app, &parts, Duration::from_secs(20))
    };

    let (long, right) = (send(9), send(7));

    assert!(long.starts_with("HTTP/1.1 413 "), "{long}");
    assert!(right.starts_with("HTTP/1.1 201 "), "{right}");
}

#[tokio::test]
async fn a_head_that_never_ends_loses_its_connection() {
    let app = App::start_with_pool(2).await;
    let began = Instant::now();

    let mut stream = TcpStream::connect(app.base.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\n").unwrap();
    let mut answer = Vec::new();
    // The server closes, with or without an answer.
    stream.read_to_end(&mut answer).unwrap();

    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
}
