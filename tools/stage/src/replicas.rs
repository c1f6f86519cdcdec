//! The replicas of a run: processes of this same binary. One that is killed is started again, as a supervisor would.
//!
//! Guarantees: no replica outlives its run. The kernel kills it when the run is dropped, and it ends by itself when this process ends.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::timeline::changes;
use crate::truth::Purchases;
use crate::watching::Part;

/// The pause before a killed replica is started again. Kubernetes and systemd take 0.1 s to 10 s at first.
const RESTARTS_AFTER: Duration = Duration::from_millis(300);

/// The most starts of a replica. It is killed once, so more starts mean that something else is wrong.
const STARTS: u64 = 4;

/// The port of each replica that is serving now.
pub type Ports = HashMap<char, u16>;

/// What all replicas of a run are started with.
#[derive(Clone)]
pub struct Troupe {
    pub database_url: String,
    /// The forwarder.
    pub gateway_url: String,
    pub purchases: Arc<Purchases>,
    pub ports: watch::Sender<Ports>,
    /// The replica to be killed has the purchase, or its first request has ended.
    pub first_is_ahead: watch::Sender<bool>,
}

impl Troupe {
    /// Starts a replica, and starts it again after it is killed. Returns when it can't be started.
    pub async fn keep(self, mut part: Part) {
        for life in 1..=STARTS {
            let mut child = match self.start(&part) {
                Ok(child) => child,
                Err(error) => {
                    log::error!("the stage can't start a replica: {error}");
                    return;
                }
            };
            let last_point = self.follow(&mut child, life, &mut part).await;
            let ended = child.wait().await;
            self.ports.send_modify(|ports| {
                ports.remove(&part.replica);
            });
            let at = last_point.filter(|point| part.kill.as_ref() == Some(point));
            log::info!("replica {} of the stage ended at {at:?}: {ended:?}", part.replica);
            self.purchases.timeline.tell("died", json!({"replica": part.replica.to_string(), "at": at}));
            self.purchases.changed.notify_one();
            part.kill = None;
            sleep(RESTARTS_AFTER).await;
        }
        log::error!("replica {} of the stage ended {STARTS} times; it is not started again", part.replica);
    }

    fn start(&self, part: &Part) -> std::io::Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("stage-replica").arg(serde_json::to_string(part)?);
        // The server's own environment, without the variables that would make this another server.
        for name in ["GATEWAY_KEY", "GATEWAY_WEBHOOK_SECRET", "FAILPOINT", "DEMO"] {
            command.env_remove(name);
        }
        command.env("DATABASE_URL", &self.database_url);
        command.env("GATEWAY_URL", format!("{}/{}", self.gateway_url, part.replica));
        // A kill causes lines that would only alarm the reader of the server's log.
        command.env("RUST_LOG", "off");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        command.kill_on_drop(true).spawn()
    }

    /// Passes on what the replica reports, until it ends. Returns the last point that it passed.
    async fn follow(&self, child: &mut Child, life: u64, part: &mut Part) -> Option<String> {
        let mut output = BufReader::new(child.stdout.take()?);
        let (mut bytes, mut last_point) = (Vec::new(), None);
        // The last line of a killed replica may be cut off.
        while output.read_until(b'\n', &mut bytes).await.is_ok() && bytes.ends_with(b"\n") {
            if let Ok(event) = serde_json::from_slice::<Value>(&bytes) {
                self.pass_on(event, life, part, &mut last_point);
            }
            bytes.clear();
        }
        last_point
    }

    fn pass_on(&self, mut event: Value, life: u64, part: &mut Part, last_point: &mut Option<String>) {
        match event["what"].as_str() {
            Some("up") => {
                // The next life listens on the same port, as behind a load balancer.
                part.port = event["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or_default();
                self.ports.send_modify(|ports| {
                    ports.insert(part.replica, part.port);
                });
            }
            Some("step") => {
                *last_point = event["point"].as_str().map(str::to_owned);
                if part.kill.is_some() && event["point"] == "after-claim" {
                    self.first_is_ahead.send_replace(true);
                }
            }
            _ if changes(&event) => self.purchases.changed.notify_one(),
            _ => {}
        }
        event["life"] = life.into();
        self.purchases.timeline.pass_on(event);
    }
}
