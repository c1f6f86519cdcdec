//! A small HTTP/1.1 client, so that the load program costs little compared with the measured server: keep-alive
//! connections, one request at a time, bodies with a `Content-Length`.

use std::io::{Error, Result};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

/// The demo account's API key.
const API_KEY: &str = "Bearer sk_demo_acme";

/// An order of two demo products with unlimited stock: an unlimited product is never a hot row.
pub const ORDER: &str =
    r#"{"customer":"ada","items":[{"sku":"pro-monthly","quantity":1},{"sku":"credits-1000","quantity":2}]}"#;

pub fn charge(order: &str, card: &str) -> String {
    format!(r#"{{"order_id":"{order}","payment_method":"{card}"}}"#)
}

/// A key that nobody has used.
pub fn fresh() -> String {
    Uuid::new_v4().to_string()
}

pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: l\r\nAuthorization: {API_KEY}\r\n\r\n")
}

pub fn post(path: &str, key: Option<&str>, body: &str) -> String {
    let key = key.map(|key| format!("Idempotency-Key: {key}\r\n")).unwrap_or_default();
    format!(
        "POST {path} HTTP/1.1\r\nHost: l\r\nAuthorization: {API_KEY}\r\nContent-Type: application/json\r\n{key}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// One keep-alive connection.
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub async fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(4096) })
    }

    /// Sends one request and reads the whole answer. Returns its status and body.
    pub async fn send(&mut self, request: &str) -> Result<(u16, String)> {
        let broken = |what: &str| Error::other(what.to_owned());
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

    /// Creates an order and returns its id.
    pub async fn order(&mut self, key: &str) -> Result<String> {
        let (_, body) = self.send(&post("/v1/orders", Some(key), ORDER)).await?;
        let id = body.strip_prefix(r#"{"id":""#).and_then(|rest| rest.get(..36));
        id.map(str::to_owned).ok_or_else(|| Error::other(format!("no order: {body}")))
    }
}
