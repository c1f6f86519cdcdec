//! The real binary as a process of its own, so that it can be killed.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::Deref;
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;

use crate::app::Client;
use crate::support::eventually;

/// A process that serves the API. Dropping it kills it, as the out-of-memory killer would.
pub struct Replica {
    process: Child,
    /// Open for as long as the process lives, which may say more.
    output: BufReader<ChildStdout>,
    api: Client,
    log: Option<NamedTempFile>,
}

impl Replica {
    pub fn start(database: &str, gateway: &str) -> Self {
        Self::launch(database, &mut command(database, gateway))
    }

    /// One that aborts at the named crash point.
    pub fn start_to_crash_at(point: &str, database: &str, gateway: &str) -> Self {
        Self::launch(database, command(database, gateway).env("CRASH_AT", point))
    }

    /// One whose log is kept, with further variables.
    pub fn start_logging(database: &str, gateway: &str, variables: &[(&str, &str)]) -> Self {
        let log = NamedTempFile::new().unwrap();
        let mut command = command(database, gateway);
        command.env("RUST_LOG", "info").envs(variables.iter().copied()).stderr(log.reopen().unwrap());
        let mut replica = Self::launch(database, &mut command);
        replica.log = Some(log);
        replica
    }

    /// One with a database and a gateway that it makes itself.
    pub fn start_alone(command: &mut Command) -> Self {
        Self::launch("", command.env("BIND", "127.0.0.1:0").env("SANDBOX_BIND", "127.0.0.1:0"))
    }

    fn launch(database: &str, command: &mut Command) -> Self {
        let mut process = command.arg("serve").stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut banner = output.by_ref().lines().map(Result::unwrap);
        let base = banner.find_map(|line| Some(line.strip_prefix("payments listens on ")?.to_owned())).unwrap();
        Self { process, output, api: Client::of(base, database.to_owned()), log: None }
    }

    /// As an orchestrator does it.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Waits until it has ended by itself.
    pub async fn end(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the process ends", || {
            status = self.process.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }

    /// What it has written beside its log since it listens; to be called after its end.
    pub fn said(&mut self) -> String {
        let mut text = String::new();
        self.output.read_to_string(&mut text).unwrap();
        text
    }

    /// The lines of its log so far.
    pub fn log(&self) -> Vec<String> {
        let file = File::open(self.log.as_ref().unwrap()).unwrap();
        BufReader::new(file).lines().map(Result::unwrap).collect()
    }

    /// Waits for a line of the log, and returns it.
    pub async fn logged(&self, what: &str) -> String {
        let mut found = None;
        eventually(what, || {
            found = self.log().into_iter().find(|line| line.contains(what));
            found.is_some()
        })
        .await;
        found.unwrap()
    }
}

impl Deref for Replica {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.api
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // It may have ended already.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Runs `payments settle` to its end and returns what it printed.
pub fn settle(database: &str, gateway: &str) -> String {
    let output = command(database, gateway).arg("settle").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command of the binary on a database to its end, with nobody who could be asked.
pub fn payments(database: &str, arguments: &[&str]) -> Output {
    command(database, "http://127.0.0.1:1").args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// Runs a command that must succeed, and returns what it printed.
pub fn printed(database: &str, arguments: &[&str]) -> String {
    let output = payments(database, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command that must fail, and returns its one line.
pub fn refused(database: &str, arguments: &[&str]) -> String {
    let output = payments(database, arguments);
    assert!(!output.status.success(), "{arguments:?}: {output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

/// The binary without a setting of whoever runs the tests.
pub fn bare() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_payments"));
    let settings = [
        "BIND",
        "CORS_ORIGINS",
        "CRASH_AT",
        "DATABASE_URL",
        "DB_POOL_SIZE",
        "DEMO",
        "DEV_POSTGRES_DIR",
        "DRAIN_DELAY",
        "GATEWAY_URL",
        "KEEP_ALIVE",
        "LOG_FORMAT",
        "SANDBOX_BIND",
        "SANDBOX_KEY_TTL",
        "SWEEP_INTERVAL",
    ];
    for setting in settings {
        command.env_remove(setting);
    }
    // Silent, since cargo doesn't capture what other processes write.
    command.env("RUST_LOG", "off");
    command
}

fn command(database: &str, gateway: &str) -> Command {
    let mut command = bare();
    command.env("DATABASE_URL", database).env("GATEWAY_URL", gateway).env("BIND", "127.0.0.1:0");
    // Small, since many run at once.
    command.env("DB_POOL_SIZE", "4");
    command
}
