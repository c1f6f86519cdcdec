//! What experiments can do: send the endpoint's request under a key, count effects, and retry as a client should.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use indicatif::ProgressBar;
use uuid::Uuid;

use super::answer::counted;
use super::send::{Answer, Connection, Leave, NoAnswer, Request, Sender};
use super::target::{Intent, Target};
use super::words::KeyForm;

/// How often a request is sent in all, if the server asks for a retry. The pauses double from [`FIRST_PAUSE`] to
/// [`LONGEST_PAUSE`]. A key that stays in flight is given up after 4.5 s, or after 14 s if the server asks for longer pauses.
pub(super) const ATTEMPTS: usize = 8;

/// Most requests take some milliseconds. A tenth of a second does not load the server.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// A longer pause would only make the run longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A longer `Retry-After` is shortened to this: the run must end.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(2);

/// Why an experiment could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The service did not answer.
    #[error("no answer: {0}")]
    NoAnswer(NoAnswer),
    /// Effects could not be counted.
    #[error("--count: {0}")]
    Count(String),
    /// The request can't be made.
    #[error("{0}")]
    Request(String),
    /// An experiment wanted to send more requests than announced. This is a defect of this program.
    #[error("more requests than were announced")]
    Budget,
}

impl From<NoAnswer> for Trouble {
    fn from(error: NoAnswer) -> Self {
        Self::NoAnswer(error)
    }
}

/// The endpoint, and the count of requests that were sent to it.
pub struct Session {
    /// The endpoint.
    pub target: Target,
    sender: Sender,
    intents: AtomicU64,
    sent: AtomicUsize,
    left: AtomicUsize,
    bar: ProgressBar,
}

impl Session {
    /// Nothing is sent before [`Session::allow`] allows a number of requests.
    pub fn new(target: Target) -> Self {
        let sender = Sender::new(target.timeout);
        Self {
            target,
            sender,
            intents: AtomicU64::new(0),
            sent: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
            bar: ProgressBar::hidden(),
        }
    }

    /// Allows the next experiment this number of requests, and shows them on the bar.
    pub fn allow(&mut self, requests: usize, bar: ProgressBar) {
        self.left = AtomicUsize::new(requests);
        self.bar = bar;
    }

    /// The number of sent requests.
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    fn spend(&self) -> Result<(), Trouble> {
        let spent = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        spent.map_err(|_| Trouble::Budget)?;
        self.sent.fetch_add(1, Ordering::Relaxed);
        self.bar.inc(1);
        Ok(())
    }

    /// A new intent: a request with its own values.
    pub fn intent(&self) -> Result<Intent, Trouble> {
        self.target.intent(self.intents.fetch_add(1, Ordering::Relaxed) + 1).map_err(Trouble::Request)
    }

    /// The intent's request, without a key.
    pub fn keyless(&self, intent: &Intent) -> Request {
        Request {
            method: self.target.method.clone(),
            url: intent.url.clone(),
            headers: intent.headers.clone(),
            body: intent.body.clone(),
        }
    }

    /// The intent's request under a key.
    pub fn request(&self, intent: &Intent, key: &Key) -> Request {
        self.under(self.keyless(intent), key.form(self.target.key_form))
    }

    /// The request with one more key header of this value.
    pub fn under(&self, request: Request, value: HeaderValue) -> Request {
        request.and_header(&self.target.key_header, value)
    }

    /// Sends a request and reads the answer.
    pub async fn send(&self, request: &Request) -> Result<Answer, Trouble> {
        self.spend()?;
        Ok(self.sender.send(request).await?)
    }

    /// Sends a request, and retries while the answer says that there is no outcome yet: 202, 409, 425, 429 or 503.
    pub async fn until_final(&self, request: &Request) -> Result<Answer, Trouble> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..ATTEMPTS {
            let answer = self.send(request).await?;
            if !matches!(answer.status, 202 | 409 | 425 | 429 | 503) {
                return Ok(answer);
            }
            tokio::time::sleep(
                answer.retry_after().map_or(pause, |asked| asked.clamp(FIRST_PAUSE, LONGEST_RETRY_AFTER)),
            )
            .await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        self.send(request).await
    }

    /// Opens a connection for an allowed request.
    pub async fn open(&self, request: &Request) -> Result<Connection, NoAnswer> {
        self.sender.open(&request.url, Leave::Fin).await
    }

    /// Sends a request on an open connection.
    pub async fn send_on(&self, connection: Connection, request: &Request) -> Result<Answer, NoAnswer> {
        self.spend().map_err(|trouble| trouble.to_string())?;
        self.sender.send_on(connection, request).await
    }

    /// Sends a request and leaves.
    pub async fn send_and_leave(&self, request: &Request, after: Duration, leave: Leave) -> Result<(), Trouble> {
        self.spend()?;
        Ok(self.sender.send_and_leave(request, after, leave).await?)
    }

    /// Counts the effects before. Later, [`Effects::so_far`] returns the difference.
    pub async fn watch<'s>(&'s self, intent: &'s Intent) -> Result<Effects<'s>, Trouble> {
        Ok(Effects { session: self, intent, before: self.count(intent).await? })
    }

    /// The present number of effects. `None` without `--count`.
    pub async fn count(&self, intent: &Intent) -> Result<Option<u64>, Trouble> {
        let Some(url) = &intent.count else { return Ok(None) };
        let mut headers = intent.headers.clone();
        headers.remove(CONTENT_TYPE);
        let request = Request { method: Method::GET, url: url.clone(), headers, body: hyper::body::Bytes::new() };
        let answer = self.send(&request).await?;
        if answer.status != 200 {
            return Err(Trouble::Count(format!("{url} answered {}", answer.status)));
        }
        let json = serde_json::from_slice(&answer.body).map_err(|error| Trouble::Count(error.to_string()))?;
        counted(&json, self.target.count_at.as_deref()).map(Some).map_err(Trouble::Count)
    }
}

/// The effects since [`Session::watch`].
pub struct Effects<'s> {
    session: &'s Session,
    intent: &'s Intent,
    before: Option<u64>,
}

impl Effects<'_> {
    /// The endpoint whose effects are counted.
    pub fn target(&self) -> &Target {
        &self.session.target
    }

    /// The number of effects. `None` without `--count`.
    pub async fn so_far(&self) -> Result<Option<u64>, Trouble> {
        let now = self.session.count(self.intent).await?;
        Ok(now.zip(self.before).map(|(now, before)| now.saturating_sub(before)))
    }
}

/// A new key.
pub struct Key(String);

impl Key {
    /// A random key.
    pub fn fresh() -> Self {
        Self(format!("verify-{}", Uuid::new_v4()))
    }

    /// A random key of this length.
    pub fn of_length(length: usize) -> Self {
        let mut key = Self::fresh().0;
        while key.len() < length {
            key.push('k');
        }
        Self(key)
    }

    /// The key as a header's value. A key of this module is visible ASCII, so every value is valid.
    pub fn form(&self, form: KeyForm) -> HeaderValue {
        let text = match form {
            KeyForm::Bare => self.0.clone(),
            KeyForm::Quoted => format!("\"{}\"", self.0),
        };
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("verify"))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Args;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        args: Args,
    }

    #[tokio::test]
    async fn nothing_is_sent_beyond_what_was_allowed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let args = CommandLine::parse_from(["verify", "POST", &url]).args;
        let mut session = Session::new(Target::of(&args).unwrap());
        session.allow(0, ProgressBar::hidden());
        let intent = session.intent().unwrap();
        let refused = session.send(&session.request(&intent, &Key::fresh())).await;
        assert!(matches!(refused, Err(Trouble::Budget)), "{refused:?}");
        assert_eq!(session.sent(), 0);
    }
}
