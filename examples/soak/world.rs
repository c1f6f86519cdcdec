//! The processes under the load, and what is done to them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use diesel::{Connection, PgConnection};
use idempotent_payments::dev_postgres::{self, Cluster, Durability, Lifetime, Options};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::time::sleep;

use crate::Fatal;
use crate::books;

/// How long anything may take to come up or go down.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at the processes: one that was killed, or couldn't start without a database, is started again.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A process that is started again whenever it has ended.
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
    /// The last is the one that runs. The earlier ones are kept: dropping a handle would stop what others use.
    clusters: Mutex<Vec<Cluster>>,
    services: Mutex<Vec<Service>>,
    injected: Mutex<BTreeMap<&'static str, u64>>,
    /// The API's database, and the command that breaks it, where it is not in `clusters`.
    elsewhere: Option<(String, String)>,
}

/// What the books are read from.
const TABLES: [&str; 8] =
    ["products", "orders", "charges", "refunds", "entitlements", "events", "idempotency_keys", "settlements"];

/// A lock whose holder panicked guards counters and handles, which are whole at any time.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub async fn start(elsewhere: Option<(String, String)>) -> Result<Self, Fatal> {
        let binary = build()?;
        let dir = std::env::temp_dir().join(format!("payments-soak-{}", std::process::id()));
        let logs = dir.with_extension("logs");
        fs::create_dir_all(&logs)?;
        // Durable: a commit that was answered must be there after an immediate stop, as in production.
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

    /// The API's database, in which to read the books: a copy where the database is elsewhere, since a distributed one
    /// does not answer every query. Its schema is made by the migrations: a dump has the server's own options in it.
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

    /// Waits until no charge or refund is processing; the caller sets the limit.
    pub async fn until_settled(&self) {
        while !self.connect_to_payments().is_ok_and(|mut conn| books::nothing_is_processing(&mut conn)) {
            sleep(LOOK_EVERY).await;
        }
    }

    /// Breaks something at random times until the deadline, and leaves all running.
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

    /// Kills the given one of the processes of this name.
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

    /// Stops PostgreSQL as a crash would, and starts it again. Blocks.
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

    /// Ends all processes and deletes what they left; the logs only where nothing was found.
    pub async fn end(&self, clean: bool) -> Result<(), Fatal> {
        for service in &mut *locked(&self.services) {
            service.stop();
        }
        locked(&self.clusters).drain(..).for_each(Cluster::stop);
        // Backends that were just cut off may still be ending.
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
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// However this ends, nothing of it stays behind. (A SIGKILL of the soak itself leaves them running.)
impl Drop for Service {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A gateway and two replicas of the API, each on a port of its own that it keeps when it is started again.
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

/// Builds the real binary in the profile of this program, and says where it is.
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
