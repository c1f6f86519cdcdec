//! The real binary as a process of its own, so that it can be killed.

use std::io::{BufRead, BufReader, Read};
use std::ops::Deref;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::app::Client;
use crate::support::eventually;

/// A process that serves the API. Dropping it kills it, as the out-of-memory killer would.
pub struct Replica {
    process: Child,
    /// Open for as long as the process lives, which may say more.
    _output: BufReader<ChildStdout>,
    api: Client,
}

impl Replica {
    pub fn start(database: &str, gateway: &str) -> Self {
        Self::launch(database, &mut command(database, gateway))
    }

    /// One that aborts at the named crash point.
    pub fn start_to_crash_at(point: &str, database: &str, gateway: &str) -> Self {
        Self::launch(database, command(database, gateway).env("CRASH_AT", point))
    }

    fn launch(database: &str, command: &mut Command) -> Self {
        let mut process = command.arg("serve").stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut banner = output.by_ref().lines().map(Result::unwrap);
        let base = banner.find_map(|line| Some(line.strip_prefix("payments listens on ")?.to_owned())).unwrap();
        Self { process, _output: output, api: Client::of(base, database.to_owned()) }
    }

    /// As an orchestrator does it.
    pub fn terminate(&self) {
        kill_process(Pid::from_child(&self.process), Signal::TERM).unwrap();
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

fn command(database: &str, gateway: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_payments"));
    command.env("DATABASE_URL", database).env("GATEWAY_URL", gateway).env("BIND", "127.0.0.1:0");
    // Small, since many run at once; silent, since cargo doesn't capture what other processes write.
    command.env("DB_POOL_SIZE", "4").env("RUST_LOG", "off").env_remove("CRASH_AT");
    command
}
