//! The client under test: a program that reads decisions from its input and reports how each ended.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::table::Outcome;

/// How long a client may take for one decision: its deadline, the last answer, and 3 s for a busy machine.
const PATIENCE: Duration = Duration::from_secs(15 + 2 + 3);

/// The limits that the client is asked to keep, so that a case takes seconds. docs/clients.md names the three
/// variables.
const LIMITS: [(&str, &str); 3] = [("ANSWER_SECONDS", "2"), ("PAUSE_SECONDS", "1"), ("DEADLINE_SECONDS", "15")];

/// What a client reports of one decision.
#[derive(Debug, Deserialize)]
pub struct Report {
    pub outcome: Outcome,
    pub key: String,
    pub status: Option<u16>,
    #[serde(default)]
    pub body: Value,
}

/// How to start the client.
#[derive(Clone, Debug)]
pub struct Program {
    pub command: Vec<String>,
    pub base: SocketAddr,
    pub api_key: String,
}

/// A running client.
#[derive(Debug)]
pub struct Client {
    process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Program {
    pub fn start(&self) -> Result<Client> {
        let (name, arguments) = self.command.split_first().context("no client was named")?;
        let mut process = Command::new(name)
            .args(arguments)
            .env("BASE", format!("http://{}", self.base))
            .env("API_KEY", &self.api_key)
            .envs(LIMITS)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("can't start {name}"))?;
        let input = process.stdin.take().context("the client has no input")?;
        let output = process.stdout.take().context("the client has no output")?;
        Ok(Client { process, input, output: BufReader::new(output).lines() })
    }
}

impl Client {
    /// Carries out one decision.
    pub async fn post(&mut self, decision: &str, path: &str, body: &Value) -> Result<Report> {
        self.begin(decision, path, body).await?;
        self.report().await
    }

    /// Hands over one decision without waiting.
    pub async fn begin(&mut self, decision: &str, path: &str, body: &Value) -> Result<()> {
        let line = json!({"decision": decision, "path": path, "body": body});
        self.input.write_all(format!("{line}\n").as_bytes()).await.context("the client has ended")?;
        Ok(self.input.flush().await?)
    }

    pub async fn report(&mut self) -> Result<Report> {
        let line =
            timeout(PATIENCE, self.output.next_line()).await.context("the client is far beyond its deadline")??;
        let Some(line) = line else { bail!("the client has ended without a word") };
        serde_json::from_str(&line).with_context(|| format!("the client said: {line}"))
    }

    /// SIGKILL.
    pub async fn kill(mut self) -> Result<()> {
        Ok(self.process.kill().await?)
    }
}
