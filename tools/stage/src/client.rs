//! The client of a run: each click is a request, and each request is sent again under the same key until its answer is final, as
//! docs/clients.md says.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Client;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::sleep;
use uuid::Uuid;

use crate::books::whole;
use crate::replicas::Ports;
use crate::request_name::RequestName;
use crate::settings::Drop;
use crate::truth::Purchases;

/// The server answers within 12 s.
const ANSWER_WITHIN: Duration = Duration::from_secs(13);

/// The first and the longest pause after no answer.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));

/// What all clicks of a run share.
pub struct Visitor {
    pub client: Client,
    pub purchases: Arc<Purchases>,
    pub run: Uuid,
    pub api_key: &'static str,
    pub path: &'static str,
    /// In the order in which the clicks reach them.
    pub replicas: &'static [char],
    pub ports: watch::Receiver<Ports>,
    /// See [`Troupe`](crate::replicas::Troupe).
    pub first_is_ahead: watch::Sender<bool>,
    /// The message that is lost: one of the first click's first attempt.
    pub cross: Option<Drop>,
}

impl Visitor {
    /// A client that opens a connection for each request, so that no request meets the connection of a killed replica.
    pub fn client() -> reqwest::Result<Client> {
        let builder = Client::builder().timeout(ANSWER_WITHIN).retry(reqwest::retry::never()).no_proxy();
        builder.pool_max_idle_per_host(0).redirect(reqwest::redirect::Policy::none()).build()
    }

    /// Clicks, and retries until there is a final answer. The run's end bounds it.
    pub async fn click(&self, number: u8, key: &str, body: &Value) {
        for attempt in 1..=u8::MAX {
            let again_after = self.attempt(RequestName { number, attempt }, key, body).await;
            self.first_is_ahead.send_replace(true);
            let Some(pause) = again_after else { return };
            sleep(pause).await;
        }
    }

    /// The pause before the next attempt. None if the answer is final.
    async fn attempt(&self, name: RequestName, key: &str, body: &Value) -> Option<Duration> {
        let RequestName { number, attempt } = name;
        let turn = usize::from(number - 1) + usize::from(attempt - 1);
        let replica = self.replicas[turn % self.replicas.len()];
        let tell = |what: &str, mut event: Value| {
            (event["request"], event["try"]) = (number.into(), attempt.into());
            self.purchases.timeline.tell(what, event);
        };
        tell("sent", json!({"replica": replica.to_string(), "method": "POST", "path": self.path, "key": key}));
        let crosses = |cross: Drop| number == 1 && attempt == 1 && self.cross == Some(cross);
        let no_answer = |cause: Option<&str>| {
            if let Some(of) = cause {
                tell("dropped", json!({"of": of}));
            }
            tell("no_answer", json!({}));
            let (first, longest) = PAUSES;
            Some((first * 2_u32.pow(u32::from(attempt - 1).min(5))).min(longest))
        };
        if crosses(Drop::Request) {
            return no_answer(Some("request"));
        }
        // A replica that is down has no port here, and nobody listens on its last one.
        let Some(port) = self.ports.borrow().get(&replica).copied() else { return no_answer(None) };
        let request = self
            .client
            .post(format!("http://127.0.0.1:{port}{}", self.path))
            .bearer_auth(self.api_key)
            .header("Idempotency-Key", key)
            .header("X-Request-Id", name.id(self.run).to_string())
            .json(body);
        let Ok(response) = request.send().await else { return no_answer(None) };
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let Ok(body) = whole(response).await else { return no_answer(None) };
        if crosses(Drop::Reply) {
            return no_answer(Some("reply"));
        }
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let retry_after = header("retry-after").and_then(|seconds| seconds.parse::<u64>().ok());
        // A server error without Retry-After may be anything, so the client asks again.
        let pause = retry_after.or((status >= 500).then_some(1));
        // Six bytes tell two answers apart, and fit on the page.
        let digest = Sha256::digest(&body).iter().take(6).fold(0_u64, |digest, byte| (digest << 8) | u64::from(*byte));
        tell(
            "answered",
            json!({
                "replica": replica.to_string(), "status": status, "replayed": header("idempotency-replayed") == Some("true"),
                "bytes": body.len(), "digest": format!("{digest:012x}"), "location": header("location"), "retry": pause,
            }),
        );
        pause.map(Duration::from_secs)
    }
}
