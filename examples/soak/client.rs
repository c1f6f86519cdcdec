//! The clients' requests, and the answers that they got.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::header::HeaderMap;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::books::Finding;
use crate::dice::Seed;
use crate::history::History;
use crate::world::locked;

/// A patient client waits longer than any handler takes.
const PATIENT: Duration = Duration::from_secs(15);

/// The answers that the load may get. "no answer" is allowed too. Every other answer is a finding.
const EXPECTED: [&str; 16] = [
    "200",
    "201",
    "202",
    "402 card-declined",
    "402 gateway-failed",
    // The server's own, before routing: when a suspended replica wakes, the request has not arrived in time.
    "408",
    "409 charge-not-refundable",
    "409 idempotency-request-in-flight",
    "409 order-not-cancelable",
    "409 order-not-payable",
    "409 out-of-stock",
    "409 refund-exceeds-charge",
    "409 payment-in-progress",
    "422 idempotency-key-reused",
    "503 database-unavailable",
    "503 overloaded",
];

/// The request that a key belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Order,
    Cancel,
    Charge,
    Refund,
}

/// One key: its request, which clients may send many times, and its answers.
pub struct Operation {
    pub kind: Kind,
    pub api_key: &'static str,
    pub path: String,
    pub key: String,
    pub body: Value,
    /// The status of the first stored reply. The history's rules compare the others with it.
    stored: Mutex<Option<u16>>,
    sendings: AtomicU64,
}

/// An answer of the API.
pub struct Answer {
    pub status: u16,
    pub body: String,
    headers: HeaderMap,
}

impl Answer {
    fn has(&self, header: &str) -> bool {
        self.headers.contains_key(header)
    }

    pub fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name)?.to_str().ok().map(str::to_owned)
    }

    /// Whether it is the key's final reply: all later ones repeat it.
    pub fn is_stored(&self) -> bool {
        self.has("Idempotency-Expires")
    }

    /// Whether the client has nothing more to wait for.
    pub fn is_final(&self) -> bool {
        self.status < 500 && !self.has("Retry-After")
    }

    /// A member of the JSON body, empty if the body has no such member.
    pub fn member(&self, name: &str) -> String {
        let json: Value = serde_json::from_str(&self.body).unwrap_or_default();
        json[name].as_str().unwrap_or_default().to_owned()
    }

    fn name(&self) -> String {
        let problem = self.member("type");
        format!("{} {}", self.status, problem.trim_start_matches("/problems/")).trim_end().to_owned()
    }

    /// A digest of everything that a replay must repeat.
    pub fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new_with_prefix(self.status.to_be_bytes());
        for header in ["Location", "Content-Type", "Idempotency-Expires"] {
            digest.update(self.headers.get(header).map_or(&b""[..], |value| value.as_bytes()));
            digest.update([0]);
        }
        digest.update(&self.body);
        digest.finalize().into()
    }
}

/// All clients together.
pub struct Client {
    http: reqwest::Client,
    replicas: Vec<String>,
    journal: Mutex<Vec<Arc<Operation>>>,
    answers: Mutex<BTreeMap<String, u64>>,
    sent: AtomicU64,
    left: AtomicU64,
    pub seed: Seed,
    pub history: Arc<History>,
}

impl Client {
    pub fn new(replicas: Vec<String>, seed: Seed, history: Arc<History>) -> Self {
        let (journal, answers) = (Mutex::default(), Mutex::default());
        let (sent, left) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { http: reqwest::Client::new(), replicas, journal, answers, sent, left, seed, history }
    }

    /// Writes a key into the journal, before its first sending.
    pub fn begin(&self, kind: Kind, api_key: &'static str, path: String, key: String, body: Value) -> Arc<Operation> {
        let (stored, sendings) = (Mutex::default(), AtomicU64::new(0));
        let operation = Arc::new(Operation { kind, api_key, path, key, body, stored, sendings });
        locked(&self.journal).push(Arc::clone(&operation));
        operation
    }

    pub fn journal_is_below(&self, keys: usize) -> bool {
        locked(&self.journal).len() < keys
    }

    pub fn journal(&self) -> Vec<Arc<Operation>> {
        locked(&self.journal).clone()
    }

    /// Sends a key once, to a random replica. None if no answer came.
    pub async fn send(&self, operation: &Operation) -> Option<Answer> {
        self.send_within(operation, &operation.body, PATIENT).await
    }

    /// Sends a key once. The client leaves after a few milliseconds.
    pub async fn send_and_leave(&self, operation: &Operation, patience: Duration) {
        if self.send_within(operation, &operation.body, patience).await.is_none() {
            self.left.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sends another request with the key of an operation that has its final reply.
    pub async fn misuse(&self, operation: &Operation) {
        let mut body = operation.body.clone();
        body["metadata"]["other"] = "another request".into();
        self.send_within(operation, &body, PATIENT).await;
    }

    async fn send_within(&self, operation: &Operation, body: &Value, patience: Duration) -> Option<Answer> {
        self.sent.fetch_add(1, Ordering::Relaxed);
        let number = operation.sendings.fetch_add(1, Ordering::Relaxed);
        let mut dice =
            self.seed.dice(&format!("{} {} {} {number}", operation.api_key, operation.scope(), operation.key));
        let replica = &self.replicas[usize::from(dice.chance(50)) % self.replicas.len()];
        let request = self.http.post(format!("{replica}{}", operation.path)).timeout(patience);
        let request = request.bearer_auth(operation.api_key).header("Idempotency-Key", &operation.key);
        let called = Instant::now();
        let answer = read(request.json(body)).await;
        self.history.request(called, operation, body, answer.as_ref());
        let name = answer.as_ref().map_or_else(|| "no answer".to_owned(), Answer::name);
        *locked(&self.answers).entry(name).or_default() += 1;
        if let Some(answer) = answer.as_ref().filter(|answer| answer.is_stored()) {
            locked(&operation.stored).get_or_insert(answer.status);
        }
        answer
    }

    /// Gets JSON from a replica: status and body. None if there was no answer.
    pub async fn get(&self, api_key: &str, path: &str) -> Option<(u16, Value)> {
        let replica = &self.replicas[path.len() % self.replicas.len()];
        let request = self.http.get(format!("{replica}{path}")).bearer_auth(api_key).timeout(PATIENT);
        let answer = read(request).await?;
        Some((answer.status, serde_json::from_str(&answer.body).ok()?))
    }

    pub async fn put(&self, api_key: &str, path: &str, body: &Value) -> Option<Answer> {
        read(self.http.put(format!("{}{path}", self.replicas[0])).bearer_auth(api_key).json(body)).await
    }

    /// How often the clients got each answer.
    pub fn answers(&self) -> BTreeMap<String, u64> {
        locked(&self.answers).clone()
    }

    /// The numbers of keys and requests, for the table.
    pub fn done(&self) -> Vec<(String, u64)> {
        let mut kinds: BTreeMap<Kind, u64> = BTreeMap::new();
        for operation in self.journal() {
            *kinds.entry(operation.kind).or_default() += 1;
        }
        let mut done: Vec<_> = kinds.iter().map(|(kind, count)| (format!("{kind:?} keys"), *count)).collect();
        done.push(("keys in all".to_owned(), kinds.values().sum()));
        done.push(("requests, with retries and duplicates".to_owned(), self.sent.load(Ordering::Relaxed)));
        done
    }

    /// The faults that clients and cards caused.
    pub fn injected(&self) -> [(&'static str, u64); 2] {
        let lost = |operation: &&Arc<Operation>| {
            let captured = *locked(&operation.stored) == Some(201);
            captured && operation.body["payment_method"] == "pm_card_lost_reply"
        };
        let lost = self.journal().iter().filter(lost).count();
        [("clients that left at once", self.left.load(Ordering::Relaxed)), ("replies lost by the gateway", lost as u64)]
    }

    /// How many keys of each kind ended in a stored reply of each status.
    pub fn outcomes(&self) -> BTreeMap<(Kind, u16), u64> {
        let mut outcomes = BTreeMap::new();
        for operation in self.journal() {
            if let Some(status) = *locked(&operation.stored) {
                *outcomes.entry((operation.kind, status)).or_default() += 1;
            }
        }
        outcomes
    }

    /// The answers that no client should get.
    pub fn unexpected(&self) -> Finding {
        let answers = self.answers().into_iter();
        let unexpected = answers.filter(|(name, _)| name != "no answer" && !EXPECTED.contains(&name.as_str()));
        Finding::new("answers that should not occur", unexpected.map(|(_, count)| count).sum())
    }
}

impl Operation {
    /// The space in which the key is unique, according to the docs and the contract.
    pub fn scope(&self) -> &str {
        match self.kind {
            Kind::Order | Kind::Charge => "account",
            Kind::Cancel | Kind::Refund => &self.path,
        }
    }
}

async fn read(request: reqwest::RequestBuilder) -> Option<Answer> {
    let response = request.send().await.ok()?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Some(Answer { status, headers, body: response.text().await.ok()? })
}
