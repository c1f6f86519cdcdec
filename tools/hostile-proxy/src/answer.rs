//! An answer as bytes, and how the client gets them.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::http::{Answer, Headers, header};
use crate::table::{End, Framing, Made, Place, Sending, Stray};

/// How much of an endless answer a client may read. A client with a limit stops far below, even with large socket
/// buffers.
const TOO_MUCH: usize = 64 << 20;

/// The pause between two bytes of a dripping answer: shorter than any limit for a single read, and some 40 s for the shortest body.
const DRIP: Duration = Duration::from_millis(200);

/// The longest hang. A client without a limit fails its case by then.
const HANG: Duration = Duration::from_secs(120);

impl From<&Made> for Answer {
    fn from(made: &Made) -> Self {
        let headers = made.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let body = made.body.as_str().map(str::to_owned).unwrap_or_else(|| made.body.to_string());
        Self { status: made.status, headers, body: body.into_bytes() }
    }
}

/// What becomes of the connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    Reuse,
    Close,
    Hang,
}

/// Sends an answer as `sending` wants it.
pub async fn deliver(socket: &mut TcpStream, answer: Answer, sending: &Sending, greedy: &AtomicBool) -> Result<After> {
    let close = sending.framing == Framing::Close || sending.cut.is_some();
    let (head, body) = render(answer, sending, close)?;
    let mut before = String::new();
    for status in &sending.interim {
        let link = if *status == 103 { "Link: </style.css>; rel=preload\r\n" } else { "" };
        before.extend(["HTTP/1.1 ", &status.to_string(), " Interim\r\n", link, "\r\n"]);
    }
    socket.write_all(before.as_bytes()).await?;
    let mut bytes = [head.as_slice(), &body].concat();
    let offset = |place| match place {
        Place::Start => 0,
        Place::StatusLine => 12,
        Place::Headers => head.len() / 2,
        Place::Head => head.len(),
        Place::Body => head.len() + body.len() / 2,
        Place::LastByte => bytes.len() - 1,
    };
    let dripping = sending.drip.map(offset);
    let cut = sending.cut.map(offset);
    if let Some(cut) = cut {
        bytes.truncate(cut);
    }
    if sending.framing == Framing::Endless {
        return endless(socket, &head, greedy).await;
    }
    if sending.stray == Some(Stray::AtOnce) {
        // In one write, so that a client can read both answers at once.
        bytes = bytes.repeat(2);
    }
    let (at_once, slowly) = bytes.split_at(dripping.unwrap_or(bytes.len()));
    socket.write_all(at_once).await?;
    for byte in slowly {
        sleep(DRIP).await;
        socket.write_all(&[*byte]).await?;
    }
    socket.flush().await?;
    if cut.is_some() {
        match sending.end {
            End::Close => socket.shutdown().await?,
            // Without lingering, the kernel sends a reset in place of an orderly end.
            End::Reset => socket.set_zero_linger()?,
            End::Hang => return Ok(After::Hang),
        }
    } else if close {
        socket.shutdown().await?;
    }
    Ok(if close { After::Close } else { After::Reuse })
}

/// Waits until the client leaves.
pub async fn hang(socket: &mut TcpStream) {
    let mut rest = [0; 1024];
    // An error is a client that has left.
    let _ = timeout(HANG, async { while socket.read(&mut rest).await.is_ok_and(|read| read > 0) {} }).await;
}

/// The head and the body, both ready for the wire.
fn render(answer: Answer, sending: &Sending, close: bool) -> Result<(Vec<u8>, Vec<u8>)> {
    let Answer { status, mut headers, mut body } = answer;
    if sending.padding > 0 {
        body.splice(0..0, std::iter::repeat_n(b' ', sending.padding));
    }
    if sending.gzip {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&body)?;
        body = encoder.finish()?;
        set(&mut headers, "Content-Encoding", "gzip");
    }
    match sending.framing {
        Framing::Endless => set(&mut headers, "Transfer-Encoding", "chunked"),
        Framing::Length => set(&mut headers, "Content-Length", &body.len().to_string()),
        Framing::Close => {}
        Framing::Chunked => {
            set(&mut headers, "Transfer-Encoding", "chunked");
            let half = body.len() / 2;
            let (first, second) = body.split_at(half);
            body = [&chunk(first)[..], &chunk(second), b"0\r\n\r\n"].concat();
        }
    }
    if close {
        set(&mut headers, "Connection", "close");
    }
    let mut head = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    for (name, value) in &headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    head.push_str("\r\n");
    Ok((head.into_bytes(), body))
}

fn set(headers: &mut Headers, name: &str, value: &str) {
    if header(headers, name).is_none() {
        headers.push((name.to_owned(), value.to_owned()));
    }
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    // An empty chunk would end the body.
    if bytes.is_empty() {
        return Vec::new();
    }
    [format!("{:x};ext=\"1\"\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

fn reason(status: u16) -> &'static str {
    match status {
        200..300 => "Fine",
        300..400 => "Elsewhere",
        _ => "Refused",
    }
}

/// Sends spaces until the client leaves. A client that takes all of them has no limit.
async fn endless(socket: &mut TcpStream, head: &[u8], greedy: &AtomicBool) -> Result<After> {
    socket.write_all(head).await?;
    let piece = chunk(&vec![b' '; 1 << 16]);
    for _ in 0..TOO_MUCH / piece.len() {
        socket.write_all(&piece).await?;
    }
    greedy.store(true, Ordering::Relaxed);
    bail!("the client read {TOO_MUCH} bytes of one answer");
}
