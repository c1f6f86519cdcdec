//! HTTP/1.1 as bytes: the proxy must break answers at places that an HTTP library never lets it reach.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The longest request or answer that passes. Both ends are ours; an API's answer has a few kilobytes.
const LONGEST: usize = 16 << 20;

/// The most headers of one message. Browsers send about 20.
const MOST_HEADERS: usize = 100;

/// How long the API may take for one answer. Longer than any limit of a careful server.
const API_LIMIT: Duration = Duration::from_secs(30);

/// How long a connection of the client may say nothing.
const IDLE_LIMIT: Duration = Duration::from_secs(120);

/// Headers that end at the next hop, and the length, which is rewritten.
const HOP_BY_HOP: [&str; 8] =
    ["connection", "content-length", "expect", "host", "http2-settings", "keep-alive", "transfer-encoding", "upgrade"];

pub type Headers = Vec<(String, String)>;

/// The value of the first header with this name.
pub fn header<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// A whole request.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: Headers,
    pub body: Vec<u8>,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Headers,
    pub body: Vec<u8>,
}

/// Reads one request. `None` when the client has closed the connection between two requests.
pub async fn read_request(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<Option<Request>> {
    let (mut request, head) = loop {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        if let httparse::Status::Complete(head) = parsed.parse(buffer)? {
            let request = Request {
                method: parsed.method.unwrap_or_default().to_owned(),
                path: parsed.path.unwrap_or_default().to_owned(),
                headers: owned(parsed.headers),
                body: Vec::new(),
            };
            break (request, head);
        }
        if !read_more(socket, buffer).await? {
            ensure!(buffer.is_empty(), "the client left in the middle of a request");
            return Ok(None);
        }
    };
    buffer.drain(..head);
    if header(&request.headers, "expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    let chunked = header(&request.headers, "transfer-encoding").is_some();
    let length = header(&request.headers, "content-length").map(str::parse).transpose()?.unwrap_or(0);
    ensure!(length <= LONGEST, "a request of {length} bytes");
    loop {
        let whole = if chunked {
            unchunk(buffer)?
        } else {
            (buffer.len() >= length).then(|| (buffer[..length].to_vec(), length))
        };
        if let Some((body, used)) = whole {
            buffer.drain(..used);
            request.body = body;
            return Ok(Some(request));
        }
        ensure!(read_more(socket, buffer).await?, "the client left in the middle of a body");
    }
}

async fn read_more(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<bool> {
    ensure!(buffer.len() <= LONGEST, "a message of more than {LONGEST} bytes");
    let read = timeout(IDLE_LIMIT, socket.read_buf(buffer)).await.context("the client says nothing")??;
    Ok(read > 0)
}

/// Sends a request to the API, on its own connection, and reads the whole answer.
pub async fn send(api: SocketAddr, request: &Request) -> Result<Answer> {
    let exchange = async {
        let mut socket = TcpStream::connect(api).await?;
        let mut text = format!("{} {} HTTP/1.1\r\nHost: {api}\r\nConnection: close\r\n", request.method, request.path);
        for (name, value) in &request.headers {
            if !HOP_BY_HOP.contains(&name.to_ascii_lowercase().as_str()) {
                text.extend([name, ": ", value, "\r\n"]);
            }
        }
        text.extend(["Content-Length: ", &request.body.len().to_string(), "\r\n\r\n"]);
        socket.write_all(&[text.as_bytes(), &request.body].concat()).await?;
        let mut bytes = Vec::new();
        socket.take(LONGEST as u64).read_to_end(&mut bytes).await?;
        parse_answer(&bytes)
    };
    timeout(API_LIMIT, exchange).await.context("the API gave no answer")?
}

fn parse_answer(bytes: &[u8]) -> Result<Answer> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = parsed.parse(bytes)? else {
        bail!("the API's answer broke off in its head")
    };
    let (status, all, body) = (parsed.code.unwrap_or_default(), owned(parsed.headers), &bytes[head..]);
    let body = if header(&all, "transfer-encoding").is_some() {
        unchunk(body)?.context("the API's answer broke off in its body")?.0
    } else {
        if let Some(length) = header(&all, "content-length") {
            ensure!(body.len() == length.parse::<usize>()?, "the API's answer broke off in its body");
        }
        body.to_vec()
    };
    let end_to_end = |(name, _): &(String, String)| !HOP_BY_HOP.contains(&name.to_ascii_lowercase().as_str());
    Ok(Answer { status, headers: all.into_iter().filter(end_to_end).collect(), body })
}

fn owned(headers: &[httparse::Header<'_>]) -> Headers {
    let text =
        |header: &httparse::Header<'_>| (header.name.to_owned(), String::from_utf8_lossy(header.value).into_owned());
    headers.iter().map(text).collect()
}

/// A chunked body, and how many bytes it took. `None` when the last chunk is not there yet.
fn unchunk(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let httparse::Status::Complete((line, size)) =
            httparse::parse_chunk_size(&bytes[at..]).map_err(|_| anyhow::anyhow!("a chunk without a size"))?
        else {
            return Ok(None);
        };
        let (start, size) = (at + line, usize::try_from(size)?);
        ensure!(size <= LONGEST, "a chunk of {size} bytes");
        let Some(chunk) = bytes.get(start..start + size + 2) else { return Ok(None) };
        if size == 0 {
            return Ok(Some((body, start + 2)));
        }
        body.extend_from_slice(&chunk[..size]);
        at = start + size + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_body_is_whole_only_with_its_last_chunk() {
        let wire = b"3;name=\"x\"\r\nabc\r\n2\r\nde\r\n0\r\n\r\nGET";
        let end = wire.len() - 3;
        assert_eq!(unchunk(wire).unwrap(), Some((b"abcde".to_vec(), end)));
        for cut in 0..end {
            assert_eq!(unchunk(&wire[..cut]).unwrap(), None, "cut at {cut}");
        }
        assert!(unchunk(b"ffffffff\r\n").is_err() && unchunk(b"x\r\n").is_err());
    }

    #[test]
    fn an_answer_that_breaks_off_is_an_error() {
        let wire = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\nA: b\r\n\r\n{}";
        let answer = parse_answer(wire).unwrap();
        assert_eq!((answer.status, answer.headers.len(), answer.body.as_slice()), (200, 1, &b"{}"[..]));
        for cut in 0..wire.len() {
            assert!(parse_answer(&wire[..cut]).is_err(), "cut at {cut}");
        }
    }
}
