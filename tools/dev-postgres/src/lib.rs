//! A local PostgreSQL cluster for `cargo run` and `cargo test`, created with the installed programs.
//!
//! Guarantees: [`start`] returns a cluster that answers, or an error of one line that says what to do. This holds
//! whatever an earlier run has left behind (processes killed at any point, a half-done `initdb`, stale lock files), and
//! while another process starts the same cluster. Only the user who runs the cluster (and root) can reach it: there is
//! no TCP port, and the only socket is in a directory that is closed to other users.
//!
//! Not for production: this crate does not tune, upgrade or back up a cluster. Settings apply when a cluster is
//! started, so one that already runs keeps its settings.
//!
//! ```text
//! <dir>/                   0700, of the user who runs PostgreSQL: `postgres` or `nobody` when we are root, else us
//!   data/                  the cluster; renamed to this name only when initdb has finished
//!   .s.PGSQL.5432          the socket (in a short directory below /tmp when this path would be too long for one)
//!   log, log.previous      what the server wrote since the last start, and before it
//!   start.lock             held while a cluster is made, started or stopped
//!   users.lock             held, shared, by every process that uses the cluster
//! ```

mod directory;
mod error;
mod programs;
mod server;
mod watcher;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use log::{info, warn};

pub use directory::default_dir;
pub use error::Error;

use directory::Directory;
use programs::{Account, Programs};
use server::Server;
use watcher::Watcher;

/// Held while a cluster is created, started or stopped. The kernel frees both locks when their holder ends, even by
/// SIGKILL.
const START_LOCK: &str = "start.lock";

/// Held, shared, by every process that uses the cluster.
const USERS_LOCK: &str = "users.lock";

/// Whether a commit survives a crash of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// PostgreSQL's own defaults.
    Durable,
    /// Nothing waits for the disk: `fsync`, `synchronous_commit` and `full_page_writes` are off. Only for clusters that are
    /// thrown away. A crash of PostgreSQL loses at most the last commits. A crash of the machine loses everything.
    Fast,
}

/// When a cluster ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// The data is never deleted. The process that started the server stops it when it drops the [`Cluster`], if no
    /// other process uses the cluster. If the process crashes, the server runs on, and the next start finds it.
    Kept,
    /// The cluster is stopped and deleted when the [`Cluster`] is dropped or the process ends, even by SIGKILL. The
    /// directory must be new or empty, so that no other file is ever deleted.
    WithProcess,
}

/// Which cluster to start, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory of the whole cluster, created if it is missing. If root runs this, the user `postgres` must be
    /// able to enter the directories above: a home directory of mode 0700, for example, is closed to it.
    pub dir: PathBuf,
    /// What a crash may lose.
    pub durability: Durability,
    /// When the cluster ends.
    pub lifetime: Lifetime,
}

impl Options {
    /// The durable, kept cluster of `cargo run`, in `dir` or in [`default_dir`].
    ///
    /// # Errors
    /// [`Error::NoHome`] if there is no default directory.
    pub fn kept(dir: Option<&Path>) -> Result<Self, Error> {
        let dir = dir.map_or_else(default_dir, |dir| Ok(dir.to_owned()))?;
        Ok(Self { dir, durability: Durability::Durable, lifetime: Lifetime::Kept })
    }

    /// A fast cluster for this process alone, in a new temporary directory.
    #[must_use]
    pub fn throw_away() -> Self {
        let name = format!("payments-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let dir = std::env::temp_dir().join(name);
        Self { dir, durability: Durability::Fast, lifetime: Lifetime::WithProcess }
    }
}

/// Creates the cluster if there is none, starts the server if it isn't running, and returns when it accepts
/// connections. Blocks, about a second for a new cluster, or while another process starts the same one.
///
/// # Errors
/// Every variant of [`Error`]. The text says what to do.
pub fn start(options: &Options) -> Result<Cluster, Error> {
    let account = Account::to_run_postgres()?;
    let path = std::path::absolute(&options.dir).map_err(|e| Error::io("find", &options.dir, e))?;
    // Before the directory is created, so that a machine without PostgreSQL stays as it was.
    let programs = Programs::find(&path.join(directory::DATA), account)?;
    let throw_away = options.lifetime == Lifetime::WithProcess;
    let directory = Directory::prepare(path, account, throw_away)?;
    programs.check_reach(&directory.path)?;
    let watcher = if throw_away { Some(Watcher::start(&programs, &directory)?) } else { None };

    let server = Server { programs, directory, durability: options.durability };
    let start_lock = server.directory.open_lock(START_LOCK)?;
    if start_lock.try_lock().is_err() {
        info!("waiting for another process to start PostgreSQL in {}", server.directory.path.display());
        start_lock.lock().map_err(|e| Error::io("lock", &server.directory.path, e))?;
    }
    server.initialize()?;
    let started_here = server.ensure_running()?;
    let users_lock = server.directory.open_lock(USERS_LOCK)?;
    users_lock.lock_shared().map_err(|e| Error::io("lock", &server.directory.path, e))?;
    release(&start_lock);
    Ok(Cluster { server, started_here: started_here.into(), watcher, users_lock })
}

/// Frees a lock at once. Closing the file would not: a child that another thread forks at this moment has a copy of it, until the
/// child executes its program.
fn release(lock: &File) {
    // The end of the process frees it too.
    let _ = lock.unlock();
}

/// A running cluster. [`Lifetime`] says what happens when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    server: Server,
    started_here: AtomicBool,
    watcher: Option<Watcher>,
    users_lock: File,
}

impl Cluster {
    /// The libpq URI of `database`, over the socket. Every operating system user who can reach the directory can use it.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.server.url(database)
    }

    /// Creates `database`. An existing one is left alone.
    ///
    /// # Errors
    /// [`Error::Program`] with the output of `createdb`.
    pub fn create_database(&self, database: &str) -> Result<(), Error> {
        self.server.create_database(database)
    }

    /// Whether this process started the server. False if [`start`] found the server running.
    #[must_use]
    pub fn was_started_here(&self) -> bool {
        self.started_here.load(Ordering::Relaxed)
    }

    /// The server's process id from its lock file. `None` if the server has been stopped.
    #[must_use]
    pub fn postmaster_pid(&self) -> Option<u32> {
        self.server.postmaster_pid()
    }

    /// The directory that holds the cluster.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.server.directory.path
    }

    /// Creates a standby of this cluster in a new directory, and starts it. The standby follows this cluster over its
    /// socket.
    ///
    /// # Errors
    /// As [`start`], or [`Error::Program`] with the output of `pg_basebackup`.
    pub fn start_standby(&self, options: &Options) -> Result<Cluster, Error> {
        self.server.back_up_to(&options.dir)?;
        start(options)
    }

    /// Starts the server again if it has died, and returns whether this call did so. Blocks while the server starts.
    ///
    /// # Errors
    /// As [`start`].
    pub fn revive(&self) -> Result<bool, Error> {
        if self.server.is_running() {
            return Ok(false);
        }
        let start_lock = self.server.directory.open_lock(START_LOCK)?;
        start_lock.lock().map_err(|e| Error::io("lock", self.dir(), e))?;
        let started = self.server.ensure_running()?;
        self.started_here.fetch_or(started, Ordering::Relaxed);
        release(&start_lock);
        Ok(started)
    }

    /// The same as `drop`, under a clear name.
    pub fn stop(self) {
        drop(self);
    }

    /// Stops a kept cluster, unless another process uses or starts it at this moment.
    fn stop_if_unused(&self) -> Result<(), Error> {
        let start_lock = self.server.directory.open_lock(START_LOCK)?;
        // This process holds the lock until the server is down. A concurrent start waits, and then starts the server
        // again. If another process has the lock, it is starting the cluster.
        let alone = start_lock.try_lock().is_ok()
            && self.users_lock.unlock().is_ok()
            && self.users_lock.try_lock().is_ok()
            && self.server.has_no_clients()?;
        if !alone {
            info!("left PostgreSQL running in {}: another process uses it", self.dir().display());
            return Ok(());
        }
        self.server.stop()?;
        info!("stopped PostgreSQL in {}", self.dir().display());
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(watcher) = self.watcher.take() {
            watcher.finish();
            self.server.directory.remove_empty();
        } else if self.was_started_here()
            && let Err(e) = self.stop_if_unused()
        {
            warn!("PostgreSQL in {} was not stopped: {e}", self.dir().display());
        }
    }
}
