//! The gateway over HTTP. Every call is sent once, with its reference as `Idempotency-Key`.
//!
//! Guarantees: nothing below this module repeats a call: redirects, retries and proxies are off. An answer counts as an outcome
//! only if all of it is understood and agrees with the call: status, outcome, reference, amount, currency. No call outlives
//! [`Limits::call`]. The log names references, never payment methods.
//!
//! Not done here: TLS. No TLS library is compiled in, so the gateway's URL is `http://`: the sandbox, or a TLS proxy on the same
//! host. To call a gateway over `https://`, enable one of reqwest's TLS features and allow the scheme.

use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url, redirect, retry};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{Call, Capture, Gateway, Outcome, Refund};
use external_calls::{CallError, Limits};

/// The limits that the external call module counts on.
const LIMITS: Limits = Limits::DEFAULT;

/// The payment methods that this client sends: those of the sandbox. With a real gateway, look them up in your account there.
pub const PAYMENT_METHODS: [&str; 7] = [
    "pm_card_visa",
    "pm_card_declined",
    "pm_card_insufficient_funds",
    "pm_card_slow",
    "pm_card_lost_reply",
    "pm_card_gateway_error",
    "pm_card_sticky_error",
];

/// The largest answer that is read, in bytes. An answer has some 300. The limit protects the memory from a broken gateway.
const ANSWER_LIMIT: usize = 64 * 1024;

/// How long an idle connection is kept. Servers and load balancers commonly keep theirs for 60 s or more. Ours is shorter, so
/// that no call goes out on a connection that the server closes at that moment: the outcome of the call would be unknown.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How many idle connections are kept: about as many as one replica has calls under way. The client opens more when needed.
const IDLE_CONNECTIONS: usize = 16;

/// The gateway at a URL. Clones share its connections.
#[derive(Clone)]
pub struct HttpGateway {
    client: Client,
    captures: Url,
    refunds: Url,
}

/// Why a gateway's URL can't be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidGatewayUrl {
    /// The text is not a URL, or no path can be added to the URL.
    #[error("not a URL: {0}")]
    Malformed(String),
    /// Only `http` is compiled in.
    #[error("its scheme must be http, since no TLS is compiled in")]
    Scheme,
    /// The HTTP client could not be set up.
    #[error("the HTTP client cannot be set up: {0}")]
    Client(#[from] reqwest::Error),
}

impl HttpGateway {
    /// Prepares calls to the gateway below `base_url`, for example `http://127.0.0.1:8081`. Makes no connection yet.
    ///
    /// # Errors
    /// [`InvalidGatewayUrl`] if the URL can't be used.
    pub fn new(base_url: &str) -> Result<Self, InvalidGatewayUrl> {
        let below = |path: &str| {
            Url::parse(&format!("{}/{path}", base_url.trim_end_matches('/')))
                .map_err(|error| InvalidGatewayUrl::Malformed(error.to_string()))
        };
        let (captures, refunds) = (below("captures")?, below("refunds")?);
        if captures.scheme() != "http" {
            return Err(InvalidGatewayUrl::Scheme);
        }
        if captures.query().is_some() || captures.fragment().is_some() {
            return Err(InvalidGatewayUrl::Malformed("it must end with its path".to_owned()));
        }
        let client = Client::builder()
            .connect_timeout(LIMITS.connect)
            .timeout(LIMITS.call)
            // Only `external call/learn.rs` decides whether a call is sent again.
            .retry(retry::never())
            // A redirect would send the payment to a server that nobody configured.
            .redirect(redirect::Policy::none())
            // A proxy in the environment would do the same.
            .no_proxy()
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .build()?;
        Ok(Self { client, captures, refunds })
    }
}

impl Gateway for HttpGateway {
    fn accepts(&self, payment_method: &str) -> bool {
        PAYMENT_METHODS.contains(&payment_method)
    }

    fn capture<'a>(&'a self, capture: &'a Capture) -> BoxFuture<'a, Result<Outcome, CallError>> {
        let Capture { reference, amount, currency, payment_method } = capture;
        let request = self.client.post(self.captures.clone()).json(&json!({
            "reference": reference, "amount": amount, "currency": currency, "payment_method": payment_method,
        }));
        Box::pin(send(request, reference, *amount, currency))
    }

    fn refund<'a>(&'a self, refund: &'a Refund) -> BoxFuture<'a, Result<Outcome, CallError>> {
        let Refund { reference, capture, amount, currency } = refund;
        let request = self.client.post(self.refunds.clone()).json(&json!({
            "reference": reference, "capture": capture, "amount": amount,
        }));
        Box::pin(send(request, reference, *amount, currency))
    }

    fn find<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Option<Outcome>, CallError>> {
        let mut url = match call {
            Call::Capture(_) => self.captures.clone(),
            Call::Refund(_) => self.refunds.clone(),
        };
        url.query_pairs_mut().append_pair("reference", call.reference());
        Box::pin(look(self.client.get(url), call))
    }
}

/// One line of the gateway's books. The answer to a call has the same form. Other members are ignored.
#[derive(Deserialize)]
struct Entry {
    reference: String,
    amount: i64,
    currency: String,
    outcome: EntryOutcome,
}

/// The outcomes that this client knows. An answer with any other outcome is not understood, so that nothing is guessed.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum EntryOutcome {
    Succeeded,
    CardDeclined,
    InsufficientFunds,
    /// The gateway failed the call for good.
    Error,
}

impl From<EntryOutcome> for Outcome {
    fn from(outcome: EntryOutcome) -> Self {
        let declined = |code: &str| Outcome::Declined { decline_code: code.to_owned() };
        match outcome {
            EntryOutcome::Succeeded => Outcome::Succeeded,
            EntryOutcome::CardDeclined => declined("card_declined"),
            EntryOutcome::InsufficientFunds => declined("insufficient_funds"),
            EntryOutcome::Error => Outcome::Failed,
        }
    }
}

impl EntryOutcome {
    /// Whether an answer with this status may have this outcome. A decline is an answer, not an error: the issuer said no.
    fn agrees_with(self, status: StatusCode) -> bool {
        match self {
            Self::Succeeded => matches!(status, StatusCode::OK | StatusCode::CREATED),
            Self::CardDeclined | Self::InsufficientFunds => status == StatusCode::PAYMENT_REQUIRED,
            // Only the books have this outcome. The answer to the call is a 500.
            Self::Error => false,
        }
    }
}

/// Sends a call once and reads its outcome.
async fn send(request: RequestBuilder, reference: &str, amount: i64, currency: &str) -> Result<Outcome, CallError> {
    let response = once(request.header("Idempotency-Key", reference)).await.map_err(no_answer)?;
    let status = response.status();
    if !matches!(status, StatusCode::OK | StatusCode::CREATED | StatusCode::PAYMENT_REQUIRED) {
        return Err(failure(&response));
    }
    let entry: Entry = read(response).await?;
    if entry.reference != reference || entry.amount != amount || entry.currency != currency {
        return Err(not_understood("it answers another call"));
    }
    if !entry.outcome.agrees_with(status) {
        return Err(not_understood("its status and its outcome disagree"));
    }
    Ok(entry.outcome.into())
}

/// Reads the outcome of a call from the gateway's books.
async fn look(request: RequestBuilder, call: &Call) -> Result<Option<Outcome>, CallError> {
    let response = once(request).await.map_err(no_answer)?;
    if response.status() != StatusCode::OK {
        return Err(failure(&response));
    }
    let mut entries: Vec<Entry> = read(response).await?;
    // If a gateway ignores the filter, another call's outcome must not resolve this call.
    let reference = call.reference();
    entries.retain(|entry| entry.reference == reference);
    // After a database was restored, a client may use a key again for another amount. Then the books have another call. That
    // call must not resolve this call, and this call must not be sent: a person has to look.
    if entries.iter().any(|entry| entry.amount != call.amount() || entry.currency != call.currency()) {
        log::error!("the gateway's books have {reference} with another amount or currency");
        return Err(not_understood("the books have the reference with another amount or currency"));
    }

    let succeeded = entries.iter().filter(|entry| entry.outcome == EntryOutcome::Succeeded).count();
    if succeeded > 1 {
        log::error!("the gateway's books have {succeeded} successes for {reference}: the money moved more than once");
    }
    // A success in the books means that the money moved, whatever the other lines say.
    Ok(if succeeded > 0 { Some(Outcome::Succeeded) } else { entries.pop().map(|entry| entry.outcome.into()) })
}

/// Sends a request once. With the feature `otel`, the request gets a span.
async fn once(request: RequestBuilder) -> reqwest::Result<Response> {
    #[cfg(feature = "otel")]
    let answered = crate::process::traces::call(request).await;
    #[cfg(not(feature = "otel"))]
    let answered = request.send().await;
    answered
}

/// Reads a JSON body, up to the limit.
async fn read<T: DeserializeOwned>(mut response: Response) -> Result<T, CallError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(no_answer)? {
        if body.len() + chunk.len() > ANSWER_LIMIT {
            return Err(not_understood("it is too long"));
        }
        body.extend_from_slice(&chunk);
    }
    // serde_json would pass over invalid UTF-8 in members that nobody reads.
    let text = std::str::from_utf8(&body).map_err(|error| not_understood(&error.to_string()))?;
    serde_json::from_str(text).map_err(|error| not_understood(&error.to_string()))
}

/// The error for a status that is not an outcome.
fn failure(response: &Response) -> CallError {
    let status = response.status();
    let (code, retry_after) = (status.as_u16(), retry_after(response));
    match code {
        // These statuses say nothing about the call. The client was not let in, or asked at the wrong place, or asked too early,
        // too late or too often.
        401 | 403 | 404 | 405 | 408 | 409 | 425 | 429 => CallError::Later { status: code, retry_after },
        400..=499 => CallError::Refused { status: code },
        500..=599 => CallError::ServerError { status: code, retry_after },
        _ => not_understood(&format!("its status is {status}")),
    }
}

/// Retry-After, in both of its forms (RFC 9110). A past date means now.
fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

/// The reason without the URL, and with its causes. The last cause helps most, for example "connection refused".
fn no_answer(error: reqwest::Error) -> CallError {
    let error = error.without_url();
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        reason.push_str(": ");
        reason.push_str(&cause.to_string());
        source = cause.source();
    }
    CallError::NoAnswer { reason }
}

fn not_understood(why: &str) -> CallError {
    CallError::NoAnswer { reason: format!("the answer is not understood: {why}") }
}
