//! A failover: the primary crashes for good, and its synchronous standby takes its place.
//!
//! The standby is created when it is needed, while the clients go on. It takes over the primary's directory too, as it
//! would an address: the replicas find it where the primary was, read-only at first, and on a new timeline. Every
//! answered COMMIT is on the standby, so the failover must not lose anything that a client has seen.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dev_postgres::{Cluster, Options};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::Fatal;
use crate::world::{PATIENCE, World, locked};

/// How long the clients write to the primary and its standby before the primary crashes.
const SYNCHRONOUS_FOR: Duration = Duration::from_secs(3);

#[derive(QueryableByName)]
struct Is {
    #[diesel(sql_type = Bool)]
    synchronous: bool,
}

impl World {
    /// Creates a standby, and lets it take over from a primary that crashes.
    pub(super) async fn fail_over(self: &Arc<Self>) -> Result<(), Fatal> {
        let world = Arc::clone(self);
        let standby = spawn_blocking(move || world.start_standby()).await??;
        sleep(SYNCHRONOUS_FOR).await;
        let (world, began) = (Arc::clone(self), Instant::now());
        spawn_blocking(move || world.switch_to(&standby)).await??;
        let what = "PostgreSQL failed over to its standby";
        self.counters.count(what);
        self.history.fault(began, what, None);
        Ok(())
    }

    fn start_standby(&self) -> Result<Cluster, Fatal> {
        let options = Options { dir: self.options.dir.with_extension("standby"), ..self.options.clone() };
        let standby = locked(&self.clusters).last().ok_or("there is no cluster")?.start_standby(&options)?;
        let mut conn = self.connect("postgres")?;
        conn.batch_execute("ALTER SYSTEM SET synchronous_standby_names = '*'")?;
        conn.batch_execute("SELECT pg_reload_conf()")?;
        let is = "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync') AS synchronous";
        let deadline = Instant::now() + PATIENCE;
        while !diesel::sql_query(is).get_result::<Is>(&mut conn)?.synchronous {
            if Instant::now() > deadline {
                return Err("the standby does not follow".into());
            }
            std::thread::yield_now();
        }
        Ok(standby)
    }

    fn switch_to(&self, standby: &Cluster) -> Result<(), Fatal> {
        // Its COMMIT waits for the standby, and all that was answered before it is there too.
        self.connect("postgres")?.batch_execute("SELECT pg_logical_emit_message(true, 'soak', '')")?;
        let mut clusters = locked(&self.clusters);
        let primary = clusters.last().ok_or("there is no cluster")?;
        crash(primary)?;
        crash(standby)?;
        let (its, lost) = (standby.dir().join("data"), primary.dir().join("data"));
        fs::remove_dir_all(&lost)?;
        fs::rename(its, lost)?;
        fs::remove_dir_all(standby.dir())?;
        let promoted = dev_postgres::start(&self.options)?;
        let url = promoted.url("postgres");
        clusters.push(promoted);
        PgConnection::establish(&url)?.batch_execute("SELECT pg_promote()")?;
        Ok(())
    }
}

/// Stops PostgreSQL like a crash. Blocks.
pub fn crash(cluster: &Cluster) -> Result<(), Fatal> {
    let pid = cluster.postmaster_pid().ok_or("PostgreSQL is not running")?;
    let pid = Pid::from_raw(pid.cast_signed()).ok_or("PostgreSQL has no process id")?;
    kill_process(pid, Signal::QUIT)?;
    let deadline = Instant::now() + PATIENCE;
    while test_kill_process(pid).is_ok() {
        if Instant::now() > deadline {
            return Err("PostgreSQL did not stop".into());
        }
        std::thread::yield_now();
    }
    Ok(())
}
