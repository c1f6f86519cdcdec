//! The processes under the load, and the faults: the soak kills and restarts them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dev_postgres::{self, Cluster, Durability, Lifetime, Options};
use diesel::{Connection, PgConnection};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::time::sleep;

use crate::Fatal;
use crate::books;

/// How long a process may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// The time between two looks at the processes. A look starts each process that has ended, after a kill or without its database.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A process that the soak starts again whenever it has ended.
struct Service {
    name: &'static str,
    address: SocketAddr,
    arguments: Vec<(&'static str, String)>,
    child: Option<Child>,
}

pub struct World {
    options: Options,
    logs: PathBuf,
    binary: PathBuf,
    /// The last handle is the running cluster. The earlier handles are kept, because dropping a handle would stop the cluster.
    clusters: Mutex<Vec<Cluster>>,
    services: Mutex<Vec<Service>>,
    injected: Mutex<BTreeMap<&'static str, u64>>,
    /// If the API's database is not in `clusters`: its URL, and the command that breaks it.
    elsewhere: Option<(String, String)>,
}

/// The tables of the books.
const TABLES: [&str; 8] =
    ["products", "orders", "charges", "refunds", "entitlements", "events", "idempotency_keys", "external_calls"];

/// Takes a lock, also if its last holder panicked: the locks guard counters and handles, and these are never half changed.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub async fn start(elsewhere: Option<(String, String)>) -> Result<Self, Fatal> {
        let binary = build()?;
        let dir = std::env::temp_dir().join(format!("payments-soak-{}", std::process::id()));
        let logs = dir.with_extension("logs");
        fs::create_dir_all(&logs)?;
        // Durable, as in production: after an immediate stop, every answered commit must be there.
        let options = Options { dir, durability: Durability::Durable, lifetime: Lifetime::Kept };
        let cluster = dev_postgres::start(&options)?;
        for database in ["payments", "gateway"] {
            cluster.create_database(database)?;
        }
        let payments = elsewhere.as_ref().map_or_else(|| cluster.url("payments"), |(url, _)| url.clone());
        let services = services(&payments, cluster.url("gateway"))?;
        let world = Self {
            options,
            logs,
            binary,
            clusters: Mutex::new(vec![cluster]),
            services: Mutex::new(services),
            injected: Mutex::default(),
            elsewhere,
        };
        world.raise_the_dead()?;
        Ok(world)
    }

    /// The base URLs of the API.
    pub fn replicas(&self) -> Vec<String> {
        let services = locked(&self.services);
        let apis = services.iter().filter(|service| service.name != "gateway");
        apis.map(|service| format!("http://{}", service.address)).collect()
    }

    pub fn connect(&self, database: &str) -> Result<PgConnection, Fatal> {
        let clusters = locked(&self.clusters);
        let cluster = clusters.last().ok_or("there is no cluster")?;
        Ok(PgConnection::establish(&cluster.url(database))?)
    }

    /// A connection to read the API's books. If the database is elsewhere, the books are a copy, because a distributed database
    /// can't answer every query. The migrations make the copy's schema: a dump also has options of the server that it is from.
    pub fn books(&self) -> Result<PgConnection, Fatal> {
        if let Some((url, _)) = &self.elsewhere {
            let copy = locked(&self.clusters).last().ok_or("there is no cluster")?.url("payments");
            idempotent_payments::db::migrate(&copy)?;
            let tables = TABLES.map(|table| format!("--table=public.{table}")).join(" ");
            let command = format!(
                "pg_dump --data-only {tables} --dbname='{url}' | psql -qX -v ON_ERROR_STOP=1 '{copy}' >/dev/null"
            );
            shell(&format!("set -o pipefail; {command}"))?;
        }
        self.connect("payments")
    }

    fn connect_to_payments(&self) -> Result<PgConnection, Fatal> {
        match &self.elsewhere {
            Some((url, _)) => Ok(PgConnection::establish(url)?),
            None => self.connect("payments"),
        }
    }

    pub fn injected(&self) -> BTreeMap<&'static str, u64> {
        locked(&self.injected).clone()
    }

    /// Waits until every process answers.
    pub async fn until_ready(&self) -> Result<(), Fatal> {
        let deadline = Instant::now() + PATIENCE;
        let addresses: Vec<_> = locked(&self.services).iter().map(|service| (service.name, service.address)).collect();
        for (name, address) in addresses {
            let path = if name == "gateway" { "health" } else { "health/ready" };
            let url = format!("http://{address}/{path}");
            while !reqwest::get(&url).await.is_ok_and(|answer| answer.status().is_success()) {
                if Instant::now() > deadline {
                    return Err(format!("{name} did not come up: see {}", self.logs.display()).into());
                }
                self.raise_the_dead()?;
                sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }

    /// Waits until no charge or refund is processing. The caller sets the time limit.
    pub async fn until_resolved(&self) {
        while !self.connect_to_payments().is_ok_and(|mut conn| books::nothing_is_processing(&mut conn)) {
            sleep(LOOK_EVERY).await;
        }
    }

    /// Breaks something at random times until the deadline. At the end, all processes run.
    pub async fn break_things(self: std::sync::Arc<Self>, deadline: Instant, every: Duration) -> Result<(), Fatal> {
        let mut next = Instant::now() + every;
        while Instant::now() < deadline {
            sleep(LOOK_EVERY).await;
            self.raise_the_dead()?;
            if Instant::now() < next {
                continue;
            }
            next = Instant::now() + every.mul_f64(0.5 + fastrand::f64());
            match fastrand::u8(..10) {
                0..5 => self.kill("api", fastrand::usize(0..2)),
                5..7 => self.kill("gateway", 0),
                _ => {
                    let world = std::sync::Arc::clone(&self);
                    tokio::task::spawn_blocking(move || world.break_database()).await??;
                }
            }
        }
        self.raise_the_dead()
    }

    /// Kills the process with this name and number.
    fn kill(&self, name: &'static str, number: usize) {
        let mut services = locked(&self.services);
        let victim = services.iter_mut().filter(|service| service.name == name).nth(number);
        if let Some(child) = victim.and_then(|service| service.child.as_mut())
            && child.kill().is_ok()
        {
            let fault = if name == "api" { "API killed (SIGKILL)" } else { "gateway killed (SIGKILL)" };
            *locked(&self.injected).entry(fault).or_default() += 1;
        }
    }

    fn break_database(&self) -> Result<(), Fatal> {
        let Some((_, command)) = &self.elsewhere else { return self.restart_postgres() };
        shell(command)?;
        *locked(&self.injected).entry("database broken by the command").or_default() += 1;
        Ok(())
    }

    /// Stops PostgreSQL like a crash, and starts it again. Blocks.
    fn restart_postgres(&self) -> Result<(), Fatal> {
        let mut clusters = locked(&self.clusters);
        let pid = clusters.last().and_then(Cluster::postmaster_pid).ok_or("PostgreSQL is not running")?;
        let pid = Pid::from_raw(pid.cast_signed()).ok_or("PostgreSQL has no process id")?;
        kill_process(pid, Signal::QUIT)?;
        let deadline = Instant::now() + PATIENCE;
        while test_kill_process(pid).is_ok() {
            if Instant::now() > deadline {
                return Err("PostgreSQL did not stop".into());
            }
            std::thread::yield_now();
        }
        clusters.push(dev_postgres::start(&self.options)?);
        *locked(&self.injected).entry("PostgreSQL restarted (immediate)").or_default() += 1;
        Ok(())
    }

    fn raise_the_dead(&self) -> Result<(), Fatal> {
        for (number, service) in locked(&self.services).iter_mut().enumerate() {
            let runs = match &mut service.child {
                Some(child) => child.try_wait()?.is_none(),
                None => false,
            };
            if !runs {
                let log = self.logs.join(format!("{}-{number}.log", service.name));
                service.child = Some(service.start(&self.binary, &log)?);
            }
        }
        Ok(())
    }

    /// Ends all processes and deletes their files. Deletes the logs only if there was no difference.
    pub async fn end(&self, clean: bool) -> Result<(), Fatal> {
        for service in &mut *locked(&self.services) {
            service.stop();
        }
        locked(&self.clusters).drain(..).for_each(Cluster::stop);
        // PostgreSQL's backends may still be ending.
        let deadline = Instant::now() + PATIENCE;
        while fs::remove_dir_all(&self.options.dir).is_err() && Instant::now() < deadline {
            sleep(LOOK_EVERY).await;
        }
        if clean {
            fs::remove_dir_all(&self.logs)?;
        } else {
            println!("The logs are in {}.", self.logs.display());
        }
        Ok(())
    }
}

impl Service {
    fn start(&self, binary: &Path, log: &Path) -> std::io::Result<Child> {
        let log = File::options().create(true).append(true).open(log)?;
        let mut command = Command::new(binary);
        command.arg(if self.name == "gateway" { "sandbox-gateway" } else { "serve" }).env("RUST_LOG", "info");
        command.envs(self.arguments.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // The process may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// When the soak ends, also by a panic, its processes end. (After a SIGKILL of the soak itself, its processes go on.)
impl Drop for Service {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A gateway and two replicas of the API. Each has its own port and keeps the port after a restart.
fn services(payments: &str, gateway_database: String) -> Result<Vec<Service>, Fatal> {
    let (gateway, apis) = (free_address()?, [free_address()?, free_address()?]);
    let mut services = vec![Service {
        name: "gateway",
        address: gateway,
        arguments: vec![("DATABASE_URL", gateway_database), ("SANDBOX_BIND", gateway.to_string())],
        child: None,
    }];
    services.extend(apis.map(|address| Service {
        name: "api",
        address,
        arguments: vec![
            ("DATABASE_URL", payments.to_owned()),
            ("GATEWAY_URL", format!("http://{gateway}")),
            ("GATEWAY_KEY", "sk_test_sandbox".to_owned()),
            ("BIND", address.to_string()),
            ("DEMO", "true".to_owned()),
        ],
        child: None,
    }));
    Ok(services)
}

fn shell(command: &str) -> Result<(), Fatal> {
    if Command::new("bash").args(["-c", command]).stdout(Stdio::null()).status()?.success() {
        return Ok(());
    }
    Err(format!("this command failed: {command}").into())
}

fn free_address() -> Result<SocketAddr, Fatal> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Builds the real binary in the profile of this program, and returns its path.
fn build() -> Result<PathBuf, Fatal> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--bin", "payments"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    if !cargo.status()?.success() {
        return Err("the binary could not be built".into());
    }
    let here = std::env::current_exe()?;
    let profile = here.parent().and_then(Path::parent).ok_or("this program is not in a target directory")?;
    Ok(profile.join("payments"))
}
