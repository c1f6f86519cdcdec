//! Clients that read nothing: the server lets them go, and they cost it little meanwhile.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};

use crate::binary::Replica;
use crate::connections::connect;
use crate::support::{self, eventually};

/// Takes some twenty seconds: that is how long the kernel keeps unread data.
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

/// Sends this request again and again on every connection, without reading, until for five seconds the server has
/// accepted nothing and needed no more memory. It may end the connections. Returns the most bytes that any connection
/// accepted.
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

/// After an answer without a body, actix goes on to the next request even if the client has read none of the answers.
/// Takes a minute: it waits four times until nothing has moved for five seconds.
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
        // Small, so that little fits between the two programs.
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

/// Requests that the server has read wait for the answers before them, and each takes many times its own length in
/// memory.
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
    // The columns: number, local address, remote address, ..; the tenth is the inode.
    rows.filter(|row| ports.iter().any(|port| row[2].ends_with(port)))
        .map(|row| format!("socket:[{}]", row[9]))
        .collect()
}
