//! The real binary as a separate process, so that a test can kill it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::Deref;
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;

use crate::app::Client;
use crate::support::eventually;

/// A process that serves the API. A dropped replica is killed with SIGKILL.
pub struct Replica {
    process: Child,
    /// Stays open while the process lives, because it may print more.
    output: BufReader<ChildStdout>,
    api: Client,
    log: Option<NamedTempFile>,
}

impl Replica {
    pub fn start(database: &str, gateway: &str) -> Self {
        Self::launch(database, &mut command(database, gateway))
    }

    /// Starts a replica that aborts at the named failpoint.
    pub fn start_to_crash_at(point: &str, database: &str, gateway: &str) -> Self {
        Self::launch(database, command(database, gateway).env("FAILPOINT", point))
    }

    /// Starts a replica with further variables and with a log that the test can read.
    pub fn start_logging(database: &str, gateway: &str, variables: &[(&str, &str)]) -> Self {
        let log = NamedTempFile::new().unwrap();
        let mut command = command(database, gateway);
        command.env("RUST_LOG", "info").envs(variables.iter().copied()).stderr(log.reopen().unwrap());
        let mut replica = Self::launch(database, &mut command);
        replica.log = Some(log);
        replica
    }

    /// Starts a replica with further variables, as in production: without the demo.
    pub fn start_without_demo(database: &str, variables: &[(&str, &str)]) -> Self {
        let mut command = command(database, "http://127.0.0.1:1");
        Self::launch(database, command.env_remove("DEMO").envs(variables.iter().copied()))
    }

    /// Starts a replica that creates its own database and its own gateway.
    pub fn start_alone(command: &mut Command) -> Self {
        Self::launch("", command.env("BIND", "127.0.0.1:0").env("SANDBOX_BIND", "127.0.0.1:0"))
    }

    /// Starts a replica that may have this many descriptors.
    pub fn start_limited(database: &str, command: &Command, descriptors: u32) -> Self {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"")).arg(command.get_program());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        Self::launch(database, &mut shell)
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    fn launch(database: &str, command: &mut Command) -> Self {
        let mut process = command.arg("serve").stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut banner = output.by_ref().lines().map(Result::unwrap);
        let base = banner.find_map(|line| Some(line.strip_prefix("payments listens on ")?.to_owned())).unwrap();
        Self { process, output, api: Client::of(base, database.to_owned()), log: None }
    }

    /// Sends SIGTERM, like an orchestrator.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    pub fn has_ended(&mut self) -> bool {
        self.process.try_wait().unwrap().is_some()
    }

    /// Waits until the process has ended.
    pub async fn end(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the process ends", || {
            status = self.process.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }

    /// The process's standard output after its first lines. Call this after the end of the process.
    pub fn said(&mut self) -> String {
        let mut text = String::new();
        self.output.read_to_string(&mut text).unwrap();
        text
    }

    /// The log lines so far.
    pub fn log(&self) -> Vec<String> {
        let file = File::open(self.log.as_ref().unwrap()).unwrap();
        BufReader::new(file).lines().map(Result::unwrap).collect()
    }

    /// Waits for a log line with this text, and returns the line.
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
        // The process may already have ended.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Runs `payments resolve`, and returns its output.
pub fn resolve(database: &str, gateway: &str) -> String {
    let output = command(database, gateway).arg("resolve").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command of the binary on a database, with an empty standard input: nobody can answer a question.
pub fn payments(database: &str, arguments: &[&str]) -> Output {
    command(database, "http://127.0.0.1:1").args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// Runs a command that must succeed, and returns its output.
pub fn printed(database: &str, arguments: &[&str]) -> String {
    let output = payments(database, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command that must fail, and returns its one-line error.
pub fn refused(database: &str, arguments: &[&str]) -> String {
    let output = payments(database, arguments);
    assert!(!output.status.success(), "{arguments:?}: {output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

/// The binary, without the environment's settings.
pub fn bare() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_payments"));
    let settings = [
        "BIND",
        "CORS_ORIGINS",
        "FAILPOINT",
        "DATABASE_URL",
        "DB_POOL_SIZE",
        "DEMO",
        "DEV_POSTGRES_DIR",
        "SHUTDOWN_DELAY",
        "GATEWAY_KEY",
        "GATEWAY_URL",
        "GATEWAY_WEBHOOK_SECRET",
        "KEEP_ALIVE",
        "LOG_FORMAT",
        "SANDBOX_BIND",
        "SANDBOX_KEY_TTL",
        "SANDBOX_WEBHOOK_URL",
        "SWEEP_INTERVAL",
    ];
    for setting in settings {
        command.env_remove(setting);
    }
    // Silent, because cargo does not capture the output of other processes.
    command.env("RUST_LOG", "off");
    command
}

/// The binary on this database and this gateway.
pub fn command(database: &str, gateway: &str) -> Command {
    let mut command = bare();
    // The tests' databases have the demo's accounts, which the server refuses without the demo.
    command.env("DATABASE_URL", database).env("DEMO", "true").env("BIND", "127.0.0.1:0");
    command.env("GATEWAY_URL", gateway).env("GATEWAY_KEY", "sk_test_sandbox");
    // A small pool, because many processes run at once.
    command.env("DB_POOL_SIZE", "4");
    command
}
