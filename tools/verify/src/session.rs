//! What experiments can do: send the endpoint's request under a key, count effects, and retry as a client should.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hyper::header::HeaderValue;
use indicatif::ProgressBar;
use serde_json::Value;
use tokio::time::Instant;

use super::counting::Counting;
use super::fill::Names;
pub use super::key::Key;
use super::send::{Answer, Connection, Leave, NoAnswer, Request, Sender};
use super::step::Step;
use super::target::{Intent, Target};

/// How often a request is sent in all, if the server asks for a retry. The pauses double from [`FIRST_PAUSE`] to
/// [`LONGEST_PAUSE`]. The run gives up on a key that stays in flight after 4.5 s, or after 14 s if the server asks for
/// longer pauses.
pub(super) const ATTEMPTS: usize = 8;

/// Most requests take milliseconds. A tenth of a second does not load the server.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// A longer pause would only make the run longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A longer `Retry-After` is shortened to this: the run must end.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(2);

/// The most requests that `--setup` sends for one intent.
pub(super) fn most_setups(target: &Target) -> usize {
    target.given.setup.len() * ATTEMPTS
}

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

/// The endpoint, the requests sent to it, and what the run has found out about it.
pub struct Session {
    /// The endpoint.
    pub target: Target,
    sender: Sender,
    intents: AtomicU64,
    sent: AtomicUsize,
    left: AtomicUsize,
    bar: ProgressBar,
    last_sent: Mutex<Option<Instant>>,
    /// Whether a 202 is this endpoint's final answer.
    accepts_only: AtomicBool,
    pub(super) counting: Counting,
}

impl Session {
    /// Nothing is sent before [`Session::allow`] allows a number of requests.
    pub fn new(target: Target) -> Self {
        let sender = Sender::new(Duration::from_secs(target.given.timeout));
        Self {
            target,
            sender,
            intents: AtomicU64::new(0),
            sent: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
            bar: ProgressBar::hidden(),
            last_sent: Mutex::default(),
            accepts_only: AtomicBool::new(false),
            counting: Counting::default(),
        }
    }

    /// Allows this many more requests.
    pub fn allow_more(&self, requests: usize) {
        self.left.fetch_add(requests, Ordering::Relaxed);
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

    /// A new intent: a request with its own values, and with what `--setup` created for it.
    pub async fn intent(&self) -> Result<Intent, Trouble> {
        let names = self.target.names(self.intents.fetch_add(1, Ordering::Relaxed) + 1);
        let mut intent = self.target.intent(names).map_err(Trouble::Request)?;
        for step in &self.target.given.setup {
            let answer = self.set_up("--setup", step, &intent).await?;
            let setup = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
            let names = Names { setup: Some(setup), ..intent.names };
            intent = self.target.intent(names).map_err(|why| Trouble::Request(format!("--setup {step}: {why}")))?;
        }
        Ok(intent)
    }

    /// Sends `--failing-setup`. From then on the intent's request must fail.
    pub async fn set_up_failure(&self, intent: &Intent) -> Result<(), Trouble> {
        for step in &self.target.given.failing_setup {
            self.set_up("--failing-setup", step, intent).await?;
        }
        Ok(())
    }

    async fn set_up(&self, option: &str, step: &Step, intent: &Intent) -> Result<Answer, Trouble> {
        let failed = |why: String| Trouble::Request(format!("{option} {step}: {why}"));
        let request = self.under(intent.beside(step, None).map_err(failed)?, Key::fresh().form(self.target.key_form));
        let answer = self.until_final(&request).await?;
        if !answer.is_success() {
            return Err(failed(format!("the answer was {}", answer.status)));
        }
        Ok(answer)
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
        request.and_header(&self.target.given.key_header, value)
    }

    /// Sends a request and reads the answer.
    pub async fn send(&self, request: &Request) -> Result<Answer, Trouble> {
        let answer = self.look(request).await;
        self.remember_the_time();
        answer
    }

    /// Sends a request that has no effect, and reads the answer.
    pub async fn look(&self, request: &Request) -> Result<Answer, Trouble> {
        self.spend()?;
        Ok(self.sender.send(request).await?)
    }

    /// Sends a request. If the answer is a 202, retries until the final answer.
    pub async fn outcome(&self, request: &Request) -> Result<Answer, Trouble> {
        let first = self.send(request).await?;
        self.follow(request, first).await
    }

    /// The final answer after `first`. If the endpoint answers only 202, the 202 is final.
    pub async fn follow(&self, request: &Request, first: Answer) -> Result<Answer, Trouble> {
        if first.status != 202 || self.accepts_only.load(Ordering::Relaxed) {
            return Ok(first);
        }
        tokio::time::sleep(first.retry_after().unwrap_or(FIRST_PAUSE).min(LONGEST_RETRY_AFTER)).await;
        self.retry_while(request, ATTEMPTS - 1, |status| status == 202).await
    }

    /// Sends a request, and retries while the answer says that there is no outcome yet: 202, 409, 425, 429 or 503.
    pub async fn until_final(&self, request: &Request) -> Result<Answer, Trouble> {
        let accepts_only = self.accepts_only.load(Ordering::Relaxed);
        let waits = |status| matches!(status, 409 | 425 | 429 | 503) || (status == 202 && !accepts_only);
        self.retry_while(request, ATTEMPTS, waits).await
    }

    async fn retry_while(
        &self,
        request: &Request,
        attempts: usize,
        waits: impl Fn(u16) -> bool,
    ) -> Result<Answer, Trouble> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..attempts {
            let answer = self.send(request).await?;
            if !waits(answer.status) {
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
        let answer = self.sender.send_on(connection, request).await;
        self.remember_the_time();
        answer
    }

    /// Sends a request and leaves.
    pub async fn send_and_leave(&self, request: &Request, after: Duration, leave: Leave) -> Result<(), Trouble> {
        self.spend()?;
        self.sender.send_and_leave(request, after, leave).await?;
        self.remember_the_time();
        Ok(())
    }

    /// The object that an answer names, read at its Location. `None` if it can't be read there. A Location at another host is not
    /// followed.
    pub async fn object(&self, intent: &Intent, answer: &Answer) -> Result<Option<Answer>, Trouble> {
        let Some(url) = answer.location().and_then(|location| intent.url.join(location).ok()) else { return Ok(None) };
        if url.origin() != intent.url.origin() {
            return Ok(None);
        }
        let answer = self.look(&intent.reading(url)).await?;
        Ok((answer.status == 200).then_some(answer))
    }

    fn remember_the_time(&self) {
        *self.last_sent.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// When the last request that may have an effect was answered.
    pub fn last_sent(&self) -> Option<Instant> {
        *self.last_sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on, a 202 is final.
    pub fn accepts_only(&self) {
        self.accepts_only.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Args;

    #[tokio::test]
    async fn nothing_is_sent_beyond_what_was_allowed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let args = Args::parse_from(["verify", "POST", &url]);
        let mut session = Session::new(Target::of(&args).unwrap());
        session.allow(0, ProgressBar::hidden());
        let intent = session.intent().await.unwrap();
        let refused = session.send(&session.request(&intent, &Key::fresh())).await;
        assert!(matches!(refused, Err(Trouble::Budget)), "{refused:?}");
        assert_eq!(session.sent(), 0);
    }
}
