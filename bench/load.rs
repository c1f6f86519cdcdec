//! A load program that sends a fresh key with each request, and tells throughput and latencies as one line of JSON.
//!
//! It speaks just enough HTTP/1.1 to cost little beside the server it measures: keep-alive connections, one request under
//! way on each, `Content-Length` bodies. Only to 127.0.0.1; bounded by `--seconds`.
//!
//! ```sh
//! cargo run --release --example load -- orders --port 8080 --connections 32 --seconds 5
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

#[derive(Parser)]
struct Options {
    /// What to send
    work: Work,
    #[arg(long, default_value_t = 8080)]
    port: u16,
    #[arg(long, default_value_t = 32)]
    connections: usize,
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// What the keys of replays begin with; a second run with the same one makes nothing any more
    #[arg(long, default_value_t = fresh())]
    keys: String,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Work {
    /// A fresh order of two items, each with its own key
    Orders,
    /// The same without a key (needs a server with the feature `bench`)
    Keyless,
    /// Replays: each connection makes an order, and sends it again and again
    Replays,
    /// A fresh order and its charge; what is counted is charges
    Charges,
    /// One order, read
    Reads,
    /// Duplicates of one slow charge, once a connection
    Storm,
}

/// What one connection saw.
#[derive(Default)]
struct Seen {
    statuses: BTreeMap<u16, u64>,
    latencies: Vec<u32>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let deadline = Instant::now() + Duration::from_secs_f64(options.seconds);
    let shared = prepare(&options).await?;
    let started = Instant::now();
    let local = tokio::task::LocalSet::new();
    let tasks: Vec<_> = (0..options.connections)
        .map(|number| {
            let own_key = format!("{}-{number}", options.keys);
            local.spawn_local(connection(options.work, options.port, shared.clone(), own_key, deadline))
        })
        .collect();
    let mut seen = Seen::default();
    local
        .run_until(async {
            for task in tasks {
                let part = task.await??;
                seen.latencies.extend(part.latencies);
                for (status, count) in part.statuses {
                    *seen.statuses.entry(status).or_default() += count;
                }
            }
            Ok::<_, Box<dyn Error>>(())
        })
        .await?;
    let seconds = started.elapsed().as_secs_f64();
    seen.latencies.sort_unstable();
    let percentile =
        |p: usize| seen.latencies.get(seen.latencies.len() * p / 100).map(|micros| f64::from(*micros) / 1000.0);
    println!(
        "{}",
        json!({
            "per_second": f64::from(u32::try_from(seen.latencies.len())?) / seconds,
            "p50_ms": percentile(50),
            "p99_ms": percentile(99),
            "statuses": seen.statuses.iter().map(|(status, count)| (status.to_string(), *count)).collect::<BTreeMap<_, _>>(),
        })
    );
    Ok(())
}

/// What all connections of a run share: the order and the key that they ask for again.
#[derive(Clone, Default)]
struct Shared {
    key: String,
    order: String,
}

async fn prepare(options: &Options) -> Result<Shared, Box<dyn Error>> {
    let mut shared = Shared { key: fresh(), order: String::new() };
    if matches!(options.work, Work::Reads | Work::Storm) {
        let mut client = Client::connect(options.port).await?;
        shared.order = client.order(&shared.key).await?;
    }
    Ok(shared)
}

async fn connection(
    work: Work,
    port: u16,
    shared: Shared,
    own_key: String,
    deadline: Instant,
) -> std::io::Result<Seen> {
    let mut client = Client::connect(port).await?;
    let mut seen = Seen::default();
    // With a key of its own, for duplicates that are under way at once share one look at the database.
    if work == Work::Replays {
        client.order(&own_key).await?;
    }
    while Instant::now() < deadline {
        let charged = if work == Work::Charges { client.order(&fresh()).await? } else { shared.order.clone() };
        let request = match work {
            Work::Orders => post("/v1/orders", Some(&fresh()), ORDER),
            Work::Keyless => post("/bench/orders", None, ORDER),
            Work::Replays => post("/v1/orders", Some(&own_key), ORDER),
            Work::Charges => post("/v1/charges", Some(&fresh()), &charge(&charged, "pm_card_visa")),
            Work::Storm => post("/v1/charges", Some(&shared.key.replace('-', "s")), &charge(&charged, "pm_card_slow")),
            Work::Reads => {
                format!("GET /v1/orders/{} HTTP/1.1\r\nHost: l\r\nAuthorization: {KEY}\r\n\r\n", shared.order)
            }
        };
        let sent = Instant::now();
        let status = client.send(&request).await?.0;
        *seen.statuses.entry(status).or_default() += 1;
        seen.latencies.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
        if work == Work::Storm {
            break;
        }
    }
    Ok(seen)
}

const KEY: &str = "Bearer sk_demo_acme";
const ORDER: &str =
    r#"{"customer":"ada","items":[{"sku":"pro-monthly","quantity":1},{"sku":"credits-1000","quantity":2}]}"#;

fn charge(order: &str, card: &str) -> String {
    format!(r#"{{"order_id":"{order}","payment_method":"{card}"}}"#)
}

fn fresh() -> String {
    Uuid::new_v4().to_string()
}

fn post(path: &str, key: Option<&str>, body: &str) -> String {
    let key = key.map(|key| format!("Idempotency-Key: {key}\r\n")).unwrap_or_default();
    format!(
        "POST {path} HTTP/1.1\r\nHost: l\r\nAuthorization: {KEY}\r\nContent-Type: application/json\r\n{key}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// One keep-alive connection.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    async fn connect(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(4096) })
    }

    /// Sends one request and reads its answer whole: status and body.
    async fn send(&mut self, request: &str) -> std::io::Result<(u16, String)> {
        let broken = |what: &str| std::io::Error::other(what.to_owned());
        self.stream.write_all(request.as_bytes()).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(broken("the server closed the connection"));
            }
            let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let head = std::str::from_utf8(&self.buffer[..end]).map_err(|_| broken("the head is not text"))?;
            let length: usize = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .and_then(|length| length.parse().ok())
                .ok_or_else(|| broken("no content-length"))?;
            if self.buffer.len() >= end + 4 + length {
                let status =
                    head.get(9..12).and_then(|status| status.parse().ok()).ok_or_else(|| broken("no status"))?;
                return Ok((status, String::from_utf8_lossy(&self.buffer[end + 4..]).into_owned()));
            }
        }
    }

    /// Makes an order and returns its id.
    async fn order(&mut self, key: &str) -> std::io::Result<String> {
        let (_, body) = self.send(&post("/v1/orders", Some(key), ORDER)).await?;
        let id = body.strip_prefix(r#"{"id":""#).and_then(|rest| rest.get(..36));
        id.map(str::to_owned).ok_or_else(|| std::io::Error::other(format!("no order: {body}")))
    }
}
