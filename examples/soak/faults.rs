//! The faults: processes are killed and suspended, connections are cut, held and silent, PostgreSQL crashes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::prelude::*;
use diesel::sql_types::BigInt;
use rustix::process::{Signal, kill_process};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::Fatal;
use crate::dice::Dice;
use crate::failover::crash;
use crate::services::shell;
use crate::world::{LOOK_EVERY, World, locked};

#[derive(Clone, Copy)]
enum Fault {
    KillApi,
    KillGateway,
    StopApi,
    StopGateway,
    TerminateBackends,
    LoseCommit,
    HoldCommit,
    Hold,
    Silence,
    RestartDatabase,
    SetClock,
}

/// The faults, with their weights.
const FAULTS: [(Fault, u32); 11] = [
    (Fault::KillApi, 22),
    (Fault::KillGateway, 8),
    (Fault::StopApi, 12),
    (Fault::StopGateway, 6),
    (Fault::TerminateBackends, 12),
    (Fault::LoseCommit, 10),
    (Fault::HoldCommit, 6),
    (Fault::Hold, 4),
    (Fault::Silence, 10),
    (Fault::RestartDatabase, 10),
    (Fault::SetClock, 8),
];

/// How long a replica is suspended, in seconds: longer than a lease (15 s) in one of three cases.
const STOPPED: (u64, u64) = (1, 22);

/// The time between two aims at the fence. Two minutes have two, the first of them before all other faults. A failover
/// follows every second one.
const AIMS_EVERY: Duration = Duration::from_secs(45);

/// How wrong a replica's clock may be, in seconds. The client of the gateway, and the signature of an event, allow five minutes.
const WRONG_BY: u64 = 240;

/// How long the network to the database holds or swallows everything, in seconds: some requests end meanwhile (12 s).
const SILENT: (u64, u64) = (1, 14);

impl World {
    /// Breaks something at random times until the deadline. At the end, all processes are up, and the networks are
    /// sound.
    pub async fn break_things(self: Arc<Self>, deadline: Instant, every: Duration) -> Result<(), Fatal> {
        let mut next = Instant::now() + every;
        let (mut aims_at, mut fails_over) = (next, false);
        let mut lasting = JoinSet::new();
        let mut dice = self.seed.dice("faults");
        while Instant::now() < deadline {
            sleep(LOOK_EVERY).await;
            self.raise_the_dead()?;
            while let Some(ended) = lasting.try_join_next() {
                ended??;
            }
            if Instant::now() >= aims_at && !self.proxies.is_empty() {
                // Alone: the faults that have begun end first.
                if lasting.is_empty() {
                    self.aim(usize::from(dice.chance(50))).await?;
                    if fails_over {
                        self.fail_over().await?;
                    }
                    (fails_over, aims_at) = (!fails_over, Instant::now() + AIMS_EVERY);
                }
                continue;
            }
            if Instant::now() < next {
                continue;
            }
            #[expect(clippy::cast_precision_loss, reason = "up to 150")]
            let part = dice.number(50, 150) as f64 / 100.0;
            next = Instant::now() + every.mul_f64(part);
            let (fault, dice) =
                (dice.pick(&FAULTS), self.seed.dice(&format!("fault {}", dice.number(0, u64::MAX - 1))));
            lasting.spawn(Arc::clone(&self).make(fault, dice));
        }
        while let Some(ended) = lasting.join_next().await {
            ended??;
        }
        self.gateway_proxy.be_sound();
        self.proxies.iter().for_each(|proxy| proxy.recover());
        self.raise_the_dead()
    }

    /// Makes one fault, and ends it.
    async fn make(self: Arc<Self>, fault: Fault, mut dice: Dice) -> Result<(), Fatal> {
        let began = Instant::now();
        let replica = usize::from(dice.chance(50));
        let stopped = Duration::from_secs(dice.number(STOPPED.0, STOPPED.1));
        let silent = Duration::from_secs(dice.number(SILENT.0, SILENT.1));
        let proxy = self.proxies.get(replica);
        let what = match (fault, proxy) {
            (Fault::KillApi, _) => self.signal("api", replica, Signal::KILL).map(|()| "API killed (SIGKILL)"),
            (Fault::KillGateway, _) => self.signal("gateway", 0, Signal::KILL).map(|()| "gateway killed (SIGKILL)"),
            (Fault::StopApi, _) => {
                self.suspend("api", replica, stopped).await.map(|()| "API suspended (SIGSTOP, SIGCONT)")
            }
            (Fault::StopGateway, _) => {
                self.suspend("gateway", 0, stopped / 2).await.map(|()| "gateway suspended (SIGSTOP, SIGCONT)")
            }
            (Fault::SetClock, _) => match &self.clocks {
                Some(clocks) => {
                    clocks.set(replica, dice.number(0, 2 * WRONG_BY).cast_signed() - WRONG_BY.cast_signed())?;
                    Some("clock set")
                }
                None => None,
            },
            (Fault::LoseCommit, Some(proxy)) => {
                proxy.lose_answer_of_next_commit();
                Some("COMMIT answered, and the answer lost")
            }
            (Fault::HoldCommit, Some(proxy)) => {
                proxy.pause_after(b"COMMIT\0");
                sleep(silent).await;
                let came = proxy.is_paused();
                proxy.resume();
                came.then_some("COMMIT's answer held, and all behind it")
            }
            (Fault::Hold, Some(proxy)) => {
                proxy.pause();
                sleep(silent).await;
                proxy.resume();
                Some("database silent for a while, then all arrived")
            }
            (Fault::Silence, Some(proxy)) => {
                proxy.go_silent();
                sleep(silent).await;
                proxy.recover();
                Some("database silent for a while, then cut")
            }
            (Fault::TerminateBackends, Some(_)) => {
                let (world, backends) = (Arc::clone(&self), dice.number(1, 4));
                let ended = tokio::task::spawn_blocking(move || world.terminate_backends(backends)).await?;
                ended.then_some("backends terminated")
            }
            _ => {
                let world = Arc::clone(&self);
                Some(tokio::task::spawn_blocking(move || world.break_database()).await??)
            }
        };
        if let Some(what) = what {
            self.counters.count(what);
            let replica = if self.proxies.is_empty() { String::new() } else { format!(", replica {replica}") };
            self.history.fault(began, &format!("{what}{replica}"), None);
        }
        Ok(())
    }

    async fn aim(&self, replica: usize) -> Result<(), Fatal> {
        self.until_ready().await?;
        self.proxies[replica].recover();
        let began = Instant::now();
        for _ in 0..self.gateway_proxy.aim.at_the_fence(replica, &self.proxies[replica]).await {
            self.counters.count("holders that slept past their lease with a refusal");
        }
        self.history.fault(began, &format!("holders were refused and slept past their lease, replica {replica}"), None);
        Ok(())
    }

    fn signal(&self, name: &'static str, number: usize, signal: Signal) -> Option<()> {
        kill_process(self.pid(name, number)?, signal).ok()
    }

    async fn suspend(&self, name: &'static str, number: usize, time: Duration) -> Option<()> {
        let pid = self.pid(name, number)?;
        kill_process(pid, Signal::STOP).ok()?;
        sleep(time).await;
        // It may have been killed meanwhile.
        kill_process(pid, Signal::CONT).ok()
    }

    /// Ends this many sessions of the API, whatever they are doing. Returns false if the database did not answer.
    fn terminate_backends(&self, sessions: u64) -> bool {
        let Ok(mut conn) = self.connect_to_payments() else { return false };
        let sql = "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend' \
             ORDER BY state <> 'idle' DESC, random() LIMIT $1) session";
        let ended = diesel::sql_query(sql).bind::<BigInt, _>(sessions.cast_signed()).execute(&mut conn);
        ended.is_ok()
    }

    fn break_database(&self) -> Result<&'static str, Fatal> {
        let Some((_, command)) = &self.elsewhere else { return self.restart_postgres() };
        shell(command)?;
        Ok("database broken by the command")
    }

    /// Stops PostgreSQL like a crash, and starts it again. Blocks.
    fn restart_postgres(&self) -> Result<&'static str, Fatal> {
        let mut clusters = locked(&self.clusters);
        crash(clusters.last().ok_or("there is no cluster")?)?;
        clusters.push(dev_postgres::start(&self.options)?);
        Ok("PostgreSQL restarted (immediate)")
    }
}
