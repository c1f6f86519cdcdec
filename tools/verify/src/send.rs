//! Sends each request on its own connection, and leaves early if a check asks for it.
//!
//! HTTP/1.1 only, with one connection for each request, so that duplicates arrive at the same time, and a client that
//! leaves closes only its own connection. Redirects are not followed. TLS is rustls, with the certificates that the
//! system trusts.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use url::Url;

/// The largest answer that is read, in bytes. A reply has a few kilobytes, a page of a list some hundred kilobytes.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// An answer, read whole.
#[derive(Clone, Debug)]
pub struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// How a client leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// The client closes the connection in an orderly way.
    Fin,
    /// The client resets the connection, as a killed process or a broken network does.
    Rst,
}

/// Why there was no answer.
pub type NoAnswer = Box<dyn std::error::Error + Send + Sync>;

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// An open connection for one request.
pub struct Connection(Box<dyn Io>);

/// Opens connections.
pub struct Sender {
    timeout: Duration,
    tls: OnceCell<TlsConnector>,
}

impl Sender {
    /// Every request must be answered within `timeout`.
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, tls: OnceCell::new() }
    }

    /// Opens a connection to the URL's host.
    pub async fn open(&self, url: &Url, leave: Leave) -> Result<Connection, NoAnswer> {
        tokio::time::timeout(self.timeout, self.connect(url, leave)).await.map_err(|_| self.too_late())?
    }

    async fn connect(&self, url: &Url, leave: Leave) -> Result<Connection, NoAnswer> {
        let host = url.host_str().ok_or("the URL has no host")?;
        let port = url.port_or_known_default().ok_or("the URL has no port")?;
        let tcp = TcpStream::connect(format!("{host}:{port}")).await?;
        tcp.set_nodelay(true)?;
        if leave == Leave::Rst {
            // With zero linger, closing the socket resets the connection.
            tcp.set_zero_linger()?;
        }
        if url.scheme() == "http" {
            return Ok(Connection(Box::new(tcp)));
        }
        let tls = self.tls.get_or_try_init(|| async { trusting_the_system() }).await?;
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?;
        Ok(Connection(Box::new(tls.connect(name, tcp).await?)))
    }

    /// Sends a request on a new connection, and reads the answer.
    pub async fn send(&self, request: &Request) -> Result<Answer, NoAnswer> {
        let connection = self.open(&request.url, Leave::Fin).await?;
        self.send_on(connection, request).await
    }

    /// Sends a request on an open connection, and reads the answer.
    pub async fn send_on(&self, connection: Connection, request: &Request) -> Result<Answer, NoAnswer> {
        tokio::time::timeout(self.timeout, connection.exchange(request)).await.map_err(|_| self.too_late())?
    }

    /// Sends a whole request, waits, and leaves without reading the answer.
    pub async fn send_and_leave(&self, request: &Request, after: Duration, leave: Leave) -> Result<(), NoAnswer> {
        let mut stream = self.open(&request.url, leave).await?.0;
        stream.write_all(&request.bytes()).await?;
        stream.flush().await?;
        tokio::time::sleep(after).await;
        if leave == Leave::Fin {
            // If the server has closed the connection first, there is nothing left to close.
            let _ = stream.shutdown().await;
        }
        Ok(())
    }

    fn too_late(&self) -> NoAnswer {
        format!("no answer within {} s", self.timeout.as_secs()).into()
    }
}

impl Connection {
    async fn exchange(self, request: &Request) -> Result<Answer, NoAnswer> {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(self.0)).await?;
        let driver = tokio::spawn(connection);
        let mut message = hyper::Request::builder()
            .method(request.method.clone())
            .uri(request.target())
            .body(Full::new(request.body.clone()))?;
        *message.headers_mut() = request.headers.clone();
        message.headers_mut().insert(HOST, HeaderValue::from_str(&request.host())?);
        let response = sender.send_request(message).await?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
        driver.abort();
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    }
}

impl Request {
    /// The request with one more header. Headers of the same name stay.
    pub(super) fn and_header(mut self, name: &HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name.clone(), value);
        self
    }

    /// Path and query, as the request line has them.
    fn target(&self) -> String {
        self.url.query().map_or_else(|| self.url.path().to_owned(), |query| format!("{}?{query}", self.url.path()))
    }

    /// The host, with a port that is not the scheme's own.
    fn host(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        self.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// The bytes of the request on the wire.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\nhost: {}\r\n", self.method, self.target(), self.host()).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", self.body.len()).as_bytes());
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

fn trusting_the_system() -> Result<TlsConnector, NoAnswer> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err("this system has no certificates to trust (Debian's are in the package ca-certificates)".into());
    }
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
