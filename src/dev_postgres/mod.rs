//! A PostgreSQL cluster of its own for `cargo run` and `cargo test`, made from the installed programs.
//!
//! It guarantees that [`start`] returns a cluster that answers, or an error of one line that says what to do, whatever
//! an earlier run left behind: any of the processes killed at any point, a half-done `initdb`, stale lock files, or
//! another process that starts the same cluster at the same time. Only the user who runs it (and root) can reach it:
//! there is no TCP port, and the one socket lives in a directory that is closed to everybody else.
//!
//! It does not tune, upgrade or back up anything, and it is not for production. Settings apply when a cluster is
//! started: one that is found running keeps those it has.
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

/// Held while a cluster is made, started or stopped. The kernel frees both locks when their holder ends, however it ends.
const START_LOCK: &str = "start.lock";

/// Held, shared, by every process that uses the cluster.
const USERS_LOCK: &str = "users.lock";

/// Whether a commit survives a crash of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// PostgreSQL's own defaults.
    Durable,
    /// Nothing waits for the disk (`fsync`, `synchronous_commit` and `full_page_writes` are off): only for clusters
    /// that are thrown away. A crash of PostgreSQL alone loses at most the last commits, one of the machine everything.
    Fast,
}

/// When a cluster ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Its data is never deleted. The process that started it stops it on dropping the [`Cluster`], if nobody else
    /// uses it by then; after a crash it runs on, and the next start finds it.
    Kept,
    /// It is stopped and deleted when the [`Cluster`] is dropped or the process ends, by SIGKILL too. Its directory
    /// must be new or empty, so that nothing else can ever be deleted with it.
    WithProcess,
}

/// Which cluster to start, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory that holds everything the cluster consists of; made if it is missing. When root runs this, the
    /// directories above it must be open to the user `postgres` (a home directory of mode 0700 is not).
    pub dir: PathBuf,
    /// What a crash may lose.
    pub durability: Durability,
    /// When the cluster ends.
    pub lifetime: Lifetime,
}

impl Options {
    /// The durable, kept cluster of `cargo run`, in a directory of the user's choice or in [`default_dir`].
    ///
    /// # Errors
    /// [`Error::NoHome`] when there is no place for it.
    pub fn kept(dir: Option<&Path>) -> Result<Self, Error> {
        let dir = dir.map_or_else(default_dir, |dir| Ok(dir.to_owned()))?;
        Ok(Self { dir, durability: Durability::Durable, lifetime: Lifetime::Kept })
    }

    /// A fast cluster for this process alone, in a new directory among the temporary ones.
    #[must_use]
    pub fn throw_away() -> Self {
        let name = format!("payments-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let dir = std::env::temp_dir().join(name);
        Self { dir, durability: Durability::Fast, lifetime: Lifetime::WithProcess }
    }
}

/// Makes the cluster if there is none, starts it if it isn't running, and returns when it accepts connections. Blocks:
/// about a second for a new cluster, and while another process starts the same one.
///
/// # Errors
/// Every variant of [`Error`]; the text says what to do.
pub fn start(options: &Options) -> Result<Cluster, Error> {
    let account = Account::to_run_postgres()?;
    let path = std::path::absolute(&options.dir).map_err(|e| Error::io("find", &options.dir, e))?;
    // Before the directory is made, so that a machine without PostgreSQL is left as it was.
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
    Ok(Cluster { server, started_here: started_here.into(), watcher, users_lock })
}

/// A running cluster. Dropping it ends its use, see [`Lifetime`].
#[derive(Debug)]
pub struct Cluster {
    server: Server,
    started_here: AtomicBool,
    watcher: Option<Watcher>,
    users_lock: File,
}

impl Cluster {
    /// The libpq URI of `database`, over the socket. It works for every operating system user who can reach the
    /// directory.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.server.url(database)
    }

    /// Makes `database`, or leaves it as it is if it exists.
    ///
    /// # Errors
    /// [`Error::Program`] with what `createdb` said.
    pub fn create_database(&self, database: &str) -> Result<(), Error> {
        self.server.create_database(database)
    }

    /// Whether this call of [`start`] started the server, or found it running.
    #[must_use]
    pub fn was_started_here(&self) -> bool {
        self.started_here.load(Ordering::Relaxed)
    }

    /// The process id of the server, as its lock file tells it; `None` when it has been stopped.
    #[must_use]
    pub fn postmaster_pid(&self) -> Option<u32> {
        self.server.postmaster_pid()
    }

    /// The directory that holds the cluster.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.server.directory.path
    }

    /// Starts the server again if it has died, and tells whether it had. Blocks, while the server starts.
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
        Ok(started)
    }

    /// The same as dropping it, for a caller who wants to say so.
    pub fn stop(self) {
        drop(self);
    }

    /// Stops a kept cluster, unless somebody else uses it or is about to.
    fn stop_if_unused(&self) -> Result<(), Error> {
        let start_lock = self.server.directory.open_lock(START_LOCK)?;
        // Held until the server is down, so that a start at the same time waits, and then starts it again. When it is
        // taken, somebody is starting the cluster and wants it to run.
        let alone = start_lock.try_lock().is_ok()
            && self.users_lock.unlock().is_ok()
            && self.users_lock.try_lock().is_ok()
            && self.server.has_no_clients()?;
        if !alone {
            info!("left PostgreSQL running in {}: it is in use", self.dir().display());
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
