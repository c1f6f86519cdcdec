//! The client's half, in Rust with reqwest: store the key, send, and do what `retry` says. Copy this file into your service.
//!
//!     echo '{"decision": "order 7", "path": "/v1/orders", "body": {"customer": "ada", "items": [{"sku": "sticker", "quantity": 1}]}}' |
//!         BASE=http://127.0.0.1:8080 API_KEY=sk_demo_acme cargo run
//!
//! Run it twice: the second run gets the same answer. docs/clients.md says why each rule is as it is.

use std::env;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use reqwest::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::fs;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// The most bytes of one answer. The API's answers have a few kilobytes.
const LONGEST: usize = 1 << 20;

/// Doubles with each sending.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// How a decision ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It took effect once, and the body is the object.
    Done,
    /// It has no effect, and the body is the problem that says why.
    No,
    /// Call `post` again later with the same decision. Only where the body has `"retry": "never"`, look at its `resource` instead.
    Unknown,
}

/// How a decision ended, with its key and the last answer that came.
#[derive(Clone, Debug, Serialize)]
pub struct Ended {
    pub outcome: Outcome,
    pub key: String,
    pub status: Option<u16>,
    pub body: Option<Value>,
}

/// Where the keys are kept. What `begin` has written survives a crash of this process and of its machine.
pub trait Store {
    /// The key of the decision, the same for every process, and a mark that a request is about to be sent.
    fn begin(&self, decision: &str, request: &str) -> impl Future<Output = Result<(String, String), Error>> + Send;
    /// Removes the mark: each sending was answered. False if other runs of the decision left theirs.
    fn end(&self, mark: &str) -> impl Future<Output = Result<bool, Error>> + Send;
}

/// A folder for each decision. For one machine, on a file system with hard links.
pub struct FileStore(pub PathBuf);

impl Store for FileStore {
    async fn begin(&self, decision: &str, request: &str) -> Result<(String, String), Error> {
        let folder = self.0.join(sha256(decision));
        fs::create_dir_all(&folder).await?;
        let mark = folder.join(format!("open-{}", Uuid::new_v4()));
        let mut file = fs::File::create_new(&mark).await?;
        file.write_all(format!("{} {request}\n", Uuid::new_v4()).as_bytes()).await?;
        file.sync_all().await?;
        for number in 0.. {
            // A link is created whole or not at all, by one process only. What a crash left empty or incomplete is
            // skipped.
            let note = folder.join(format!("key-{number}"));
            let linked = fs::hard_link(&mark, &note).await;
            linked.or_else(|error| if error.kind() == ErrorKind::AlreadyExists { Ok(()) } else { Err(error) })?;
            let text = fs::read(&note).await?;
            let Some((key, found)) = str::from_utf8(&text).ok().and_then(whole) else { continue };
            if found != request {
                fs::remove_file(&mark).await?;
                break;
            }
            for changed in [&folder, &self.0] {
                fs::File::open(changed).await?.sync_all().await?;
            }
            return Ok((key.to_owned(), mark.to_string_lossy().into_owned()));
        }
        Err(format!("another request was sent for this decision: {decision}").into())
    }

    async fn end(&self, mark: &str) -> Result<bool, Error> {
        fs::remove_file(mark).await?;
        let mut left = fs::read_dir(Path::new(mark).parent().ok_or("a mark without a folder")?).await?;
        while let Some(entry) = left.next_entry().await? {
            if entry.file_name().to_string_lossy().starts_with("open-") {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The key and the request of a whole note.
fn whole(text: &str) -> Option<(&str, &str)> {
    let (key, request) = text.strip_suffix('\n')?.split_once(' ')?;
    (key.len() == 36 && request.len() == 64).then_some((key, request))
}

/// A row of the table in docs/clients.md for each decision. The connection has no open transaction.
pub struct SqlStore(pub tokio_postgres::Client);

impl Store for SqlStore {
    async fn begin(&self, decision: &str, request: &str) -> Result<(String, String), Error> {
        let sql = "INSERT INTO decisions (decision, key, request, open_runs) VALUES ($1, $2, $3, 1)
            ON CONFLICT (decision) DO UPDATE SET open_runs = decisions.open_runs + 1
            WHERE decisions.request = excluded.request RETURNING key";
        let row = self.0.query_opt(sql, &[&decision, &Uuid::new_v4(), &request]).await?;
        let row = row.ok_or_else(|| format!("another request was sent for this decision: {decision}"))?;
        Ok((row.get::<_, Uuid>(0).to_string(), decision.to_owned()))
    }

    async fn end(&self, mark: &str) -> Result<bool, Error> {
        let sql = "UPDATE decisions SET open_runs = open_runs - 1 WHERE decision = $1 RETURNING open_runs";
        Ok(self.0.query_one(sql, &[&mark]).await?.get::<_, i32>(0) == 0)
    }
}

/// `answer`, `pause` and `deadline` limit one answer, the pause between two sendings whatever Retry-After says, and one decision.
pub struct Client<S> {
    pub http: reqwest::Client,
    pub base: String,
    pub api_key: String,
    pub store: S,
    pub answer: Duration,
    pub pause: Duration,
    pub deadline: Duration,
}

/// Follows no redirects, and opens a connection for each sending: what a proxy left on a connection can't become the
/// answer to another request.
pub fn careful_http() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).pool_max_idle_per_host(0).build()
}

/// What came back. The body is there if it is a JSON object.
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Option<Value>,
}

impl<S: Store> Client<S> {
    /// Carries out one decision once. `decision` is your name for it, such as "pay order 7": a new decision, a new name.
    pub async fn post(&self, path: &str, body: &Value, decision: &str) -> Result<Ended, Error> {
        let body = body.to_string();
        let (key, mark) = self.store.begin(decision, &sha256(&format!("{path}\n{body}"))).await?;
        let end = Instant::now() + self.deadline;
        let (mut backoff, mut unanswered) = (FIRST_PAUSE, false);
        loop {
            let limit = self.answer.min(end.saturating_duration_since(Instant::now()));
            // An error means no whole answer in time: the request may have taken effect or not.
            let answer = self.send(path, &body, &key, limit).await.ok();
            let advice = answer.as_ref().and_then(Answer::advice);
            unanswered |= advice.is_none();
            let asked = answer.as_ref().map(Answer::retry_after).unwrap_or_default().min(self.pause);
            let pause = asked.max(backoff / 2) + backoff.mul_f64(fastrand::f64() / 2.0);
            if advice.is_some_and(|advice| advice != "again") || Instant::now() + pause >= end {
                // While a sending may still be on its way, it may still take effect. Then `fix` is not an answer.
                let alone = !unanswered && self.store.end(&mark).await?;
                let outcome = match advice {
                    Some("done") => Outcome::Done,
                    Some(advice) if advice == "new-key" || advice == "fix" && alone => Outcome::No,
                    _ => Outcome::Unknown,
                };
                let (status, body) = answer.map(|answer| (answer.status, answer.body)).unzip();
                return Ok(Ended { outcome, key, status, body: body.flatten() });
            }
            sleep(pause).await;
            backoff = (backoff * 2).min(self.pause);
        }
    }

    async fn send(&self, path: &str, body: &str, key: &str, limit: Duration) -> Result<Answer, Error> {
        let request = self.http.post(format!("{}{path}", self.base)).timeout(limit).body(body.to_owned());
        let request = request.header(CONTENT_TYPE, "application/json").header("Idempotency-Key", key);
        let request = request.header(AUTHORIZATION, format!("Bearer {}", self.api_key)).header(CONNECTION, "close");
        let mut response = request.send().await?;
        let mut text = Vec::new();
        while let Some(piece) = response.chunk().await? {
            text.extend_from_slice(&piece);
            if text.len() > LONGEST {
                return Err("a longer answer than the API's".into());
            }
        }
        let body = serde_json::from_slice(&text).ok().filter(Value::is_object);
        Ok(Answer { status: response.status().as_u16(), headers: response.headers().clone(), body })
    }
}

impl Answer {
    /// `done`, or the API's own advice. `None` if this is not a final answer, or not the API's.
    fn advice(&self) -> Option<&'static str> {
        let body = self.body.as_ref()?;
        if (200..300).contains(&self.status) {
            return (self.status != 202 && self.headers.contains_key("Idempotency-Expires")).then_some("done");
        }
        let media_type = self.headers.get(CONTENT_TYPE)?.to_str().ok()?.split(';').next()?.trim();
        let ours = media_type.eq_ignore_ascii_case("application/problem+json");
        ["again", "fix", "new-key", "never"].into_iter().find(|advice| ours && body["retry"] == *advice)
    }

    /// What Retry-After says, a number or a date. Zero if it says nothing that makes sense.
    fn retry_after(&self) -> Duration {
        let Some(value) = self.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()) else {
            return Duration::ZERO;
        };
        let date = || httpdate::parse_http_date(value).ok()?.duration_since(SystemTime::now()).ok();
        value.parse().ok().map(Duration::from_secs).or_else(date).unwrap_or_default()
    }
}

fn sha256(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

/// Reads decisions from the standard input, one JSON object per line, and prints how each ended. The hostile proxy
/// drives this.
#[tokio::main]
async fn main() -> Result<(), Error> {
    let place = env::var("STORE").unwrap_or_else(|_| "keys".to_owned());
    if place.starts_with("postgresql:") {
        let (sql, connection) = tokio_postgres::connect(&place, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        return run(SqlStore(sql)).await;
    }
    run(FileStore(place.into())).await
}

async fn run(store: impl Store) -> Result<(), Error> {
    let seconds = |name, default| env::var(name).map_or(Ok(default), |text| text.parse()).map(Duration::from_secs_f64);
    let (base, api_key, http) = (env::var("BASE")?, env::var("API_KEY")?, careful_http()?);
    let (answer, pause) = (seconds("ANSWER_SECONDS", 15.0)?, seconds("PAUSE_SECONDS", 10.0)?);
    let client = Client { http, base, api_key, store, answer, pause, deadline: seconds("DEADLINE_SECONDS", 60.0)? };
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let asked: Value = serde_json::from_str(&line)?;
        let text = |name: &str| asked[name].as_str().ok_or("a member is missing");
        let ended = client.post(text("path")?, &asked["body"], text("decision")?).await?;
        println!("{}", serde_json::to_string(&ended)?);
    }
    Ok(())
}
