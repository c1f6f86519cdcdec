//! The processes under the load: PostgreSQL, the gateway and two replicas of the API, with proxies between them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dev_postgres::{self, Cluster, Durability, Lifetime, Options};
use diesel::{Connection, PgConnection};
use rustix::process::Pid;
use test_database::Proxy;
use tokio::time::sleep;

use crate::Fatal;
use crate::books;
use crate::dice::Seed;
use crate::events::Events;
use crate::gateway_proxy::GatewayProxy;
use crate::history::History;
use crate::services::{Clocks, Service, build, free_address, services, shell};

/// How long a process may take to start or to stop.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// The time between two looks at the processes. A look starts each process that has ended, by a kill or for lack of its
/// database.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(200);

pub struct World {
    pub(super) options: Options,
    pub logs: PathBuf,
    binary: PathBuf,
    /// The last handle is the running cluster. The earlier ones are kept, because dropping a handle would stop the
    /// cluster.
    pub(super) clusters: Mutex<Vec<Cluster>>,
    services: Mutex<Vec<Service>>,
    pub counters: Counters,
    /// One for each replica, between the replica and its database. None if the database is elsewhere.
    pub(super) proxies: Vec<Arc<Proxy>>,
    pub(super) gateway_proxy: Arc<GatewayProxy>,
    pub(super) seed: Seed,
    pub(super) history: Arc<History>,
    /// If the API's database is not in `clusters`: its URL, and the command that breaks it.
    pub(super) elsewhere: Option<(String, String)>,
    /// Some if the clocks are to be set.
    pub(super) clocks: Option<Clocks>,
}

/// How often each fault was caused. Clones count together.
#[derive(Clone, Default)]
pub struct Counters(Arc<Mutex<BTreeMap<&'static str, u64>>>);

impl Counters {
    pub fn count(&self, fault: &'static str) {
        *locked(&self.0).entry(fault).or_default() += 1;
    }

    pub fn of(&self, what: &str) -> u64 {
        locked(&self.0).get(what).copied().unwrap_or_default()
    }

    pub fn all(&self) -> BTreeMap<&'static str, u64> {
        locked(&self.0).clone()
    }
}

/// The tables of the books.
const TABLES: [&str; 8] =
    ["products", "orders", "charges", "refunds", "entitlements", "events", "idempotency_keys", "external_calls"];

/// Takes a lock, even if its last holder panicked: the locks guard counters and handles, which are never half changed.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub async fn start(
        elsewhere: Option<(String, String)>,
        sets_clocks: bool,
        seed: Seed,
        history: Arc<History>,
    ) -> Result<Self, Fatal> {
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
        let proxies: Vec<Arc<Proxy>> = match elsewhere {
            Some(_) => Vec::new(),
            None => (0..2).map(|_| Arc::new(Proxy::to(cluster.dir().join(".s.PGSQL.5432")))).collect(),
        };
        let databases: [String; 2] = match &elsewhere {
            Some((url, _)) => [url.clone(), url.clone()],
            None => [0, 1].map(|replica: usize| proxies[replica].url(&cluster.url("payments"))),
        };
        let (gateway, apis, counters) = (free_address()?, [free_address()?, free_address()?], Counters::default());
        let told = (Arc::clone(&history), counters.clone());
        let events = Events::new(apis, seed, told.clone());
        let (gateway_proxy, shown) = GatewayProxy::start(gateway, seed, told, events)?;
        let clocks = if sets_clocks { Some(Clocks::right(&logs)?) } else { None };
        let services = services(databases, cluster.url("gateway"), (gateway, apis), shown, clocks.as_ref());
        let world = Self {
            options,
            logs,
            binary,
            clusters: Mutex::new(vec![cluster]),
            services: Mutex::new(services),
            counters,
            proxies,
            gateway_proxy,
            seed,
            history,
            elsewhere,
            clocks,
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

    /// A connection to read the API's books. If the database is elsewhere, the books are a copy, because a distributed
    /// database can't answer every query. The migrations create the copy's schema, because a dump would also have
    /// options of its server.
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

    pub(super) fn connect_to_payments(&self) -> Result<PgConnection, Fatal> {
        match &self.elsewhere {
            Some((url, _)) => Ok(PgConnection::establish(url)?),
            None => self.connect("payments"),
        }
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

    /// The process with this name and number, if it is running.
    pub(super) fn pid(&self, name: &'static str, number: usize) -> Option<Pid> {
        let services = locked(&self.services);
        let service = services.iter().filter(|service| service.name == name).nth(number)?;
        Pid::from_raw(service.child.as_ref()?.id().cast_signed())
    }

    /// Starts each process that has ended.
    pub(super) fn raise_the_dead(&self) -> Result<(), Fatal> {
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
