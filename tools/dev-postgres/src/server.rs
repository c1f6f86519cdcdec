//! Creates, starts, finds and stops the server of one directory. Hold the start lock to start or stop it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use log::info;

use super::Durability;
use super::directory::{DATA, Directory, LOG, PORT, percent_encode};
use super::error::Error;
use super::programs::{Account, Programs, failed, run};

/// The database user, a superuser of the cluster. A fixed name, so that the URL doesn't depend on the operating system's user.
const DATABASE_USER: &str = "payments";

/// How long to wait for the processes of an earlier server. The children of a killed server end within milliseconds, or
/// after their current statement. A fast shutdown writes a checkpoint. Half a minute is more than enough for both.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many seconds a server may take to start, for example to recover from a crash. This is the default of `pg_ctl`.
const START_TIMEOUT: &str = "60";

/// How long a closed connection of ours may stay in the server's list.
const DISCONNECT_PATIENCE: Duration = Duration::from_secs(1);

/// The time between two checks of a condition: short enough that nobody notices, long enough not to load the machine.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Server {
    pub(super) programs: Programs,
    pub(super) directory: Directory,
    pub(super) durability: Durability,
}

enum Answer {
    Accepts,
    /// The server is starting up or shutting down.
    Rejects,
    Nothing,
}

impl Server {
    /// Creates the cluster, unless there is one. The directory gets its final name only when the cluster is complete.
    pub(super) fn initialize(&self) -> Result<(), Error> {
        self.directory.remove_half_done();
        let data = self.directory.data();
        if data.exists() {
            return Ok(());
        }
        let unfinished = format!("data.new-{}", std::process::id());
        let mut initdb = self.command("initdb");
        initdb.args(["--pgdata", &unfinished, "--username", DATABASE_USER, "--auth=trust"]);
        initdb.args(["--encoding=UTF8", "--locale=C"]);
        if self.durability == Durability::Fast {
            initdb.arg("--no-sync");
        }
        self.succeed(&mut initdb, "initdb")?;
        let in_place = fs::rename(self.directory.path.join(unfinished), &data)
            // PostgreSQL's data is durable. The new name must be durable too, so that the data is found after a crash.
            .and_then(|()| File::open(&self.directory.path)?.sync_all());
        in_place.map_err(|e| Error::io("make", &data, e))?;
        info!("made a PostgreSQL {} cluster in {}", self.programs.major, self.directory.path.display());
        Ok(())
    }

    /// Copies the running cluster into a new directory, as a standby of this one.
    pub(super) fn back_up_to(&self, dir: &Path) -> Result<(), Error> {
        let to = Directory::prepare(dir.to_owned(), Account::to_run_postgres()?, true)?;
        let mut pg_basebackup = self.programs.command("pg_basebackup", &to.path);
        pg_basebackup.args(["--pgdata", DATA, "--write-recovery-conf", "--checkpoint=fast"]);
        pg_basebackup.args(["--dbname", &self.url("postgres")]);
        self.succeed(&mut pg_basebackup, "pg_basebackup").map(drop)
    }

    /// Waits until the server accepts connections. Returns whether this call started the server.
    pub(super) fn ensure_running(&self) -> Result<bool, Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let obstacle = match self.ask()? {
                Answer::Accepts => {
                    info!("found PostgreSQL running in {}", self.directory.path.display());
                    return Ok(false);
                }
                Answer::Rejects => {
                    failed("pg_isready", &self.directory.path, "the server is still starting or stopping")
                }
                Answer::Nothing => match self.launch() {
                    Ok(()) => {
                        info!("started PostgreSQL in {}", self.directory.path.display());
                        return Ok(true);
                    }
                    Err(e) if self.may_go_away(&e)? => e,
                    Err(e) => return Err(e),
                },
            };
            if Instant::now() >= deadline {
                return Err(obstacle);
            }
            pause();
        }
    }

    /// Whether the process in the server's lock file lives. The server may still be starting.
    pub(super) fn is_running(&self) -> bool {
        self.postmaster_pid().is_some_and(|pid| self.is_postmaster(pid))
    }

    fn ask(&self) -> Result<Answer, Error> {
        let mut pg_isready = self.command("pg_isready");
        pg_isready.arg("--quiet").args(["--timeout=5", "--dbname", &self.url("postgres")]);
        let status = run(&mut pg_isready, "pg_isready", &self.directory.path)?.status;
        Ok(match status.code() {
            Some(0) => Answer::Accepts,
            Some(1) => Answer::Rejects,
            _ => Answer::Nothing,
        })
    }

    fn launch(&self) -> Result<(), Error> {
        let log = self.directory.path.join(LOG);
        match fs::rename(&log, self.directory.path.join("log.previous")) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::io("rename", &log, e)),
            _ => {}
        }
        // pg_ctl puts the server into a separate session, so that Ctrl-C does not end it while this process still
        // drains.
        let mut pg_ctl = self.command("pg_ctl");
        pg_ctl.args(["start", "--wait", "--timeout", START_TIMEOUT, "--silent"]);
        pg_ctl.args(["--pgdata", DATA, "--log", LOG, "--options", &self.server_options()]);
        let output = run(&mut pg_ctl, "pg_ctl start", &self.directory.path)?;
        if output.status.success() {
            return Ok(());
        }
        // The server writes the cause into its log. If the log is empty, pg_ctl may know the cause, but not that the disk is
        // full.
        let mut explanation = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
        if explanation.trim().is_empty() {
            explanation = format!("{}\nthe log is empty (is the disk full?)", String::from_utf8_lossy(&output.stderr));
        }
        Err(failed("pg_ctl start", &self.directory.path, &explanation))
    }

    /// The server's options, for a shell. No option contains a path that a user chose.
    fn server_options(&self) -> String {
        let socket_dir = self.directory.socket_dir_for_server().display();
        let mut options = format!("-p {PORT} -c listen_addresses='' -c unix_socket_directories={socket_dir}");
        if self.durability == Durability::Fast {
            options.push_str(" -c fsync=off -c synchronous_commit=off -c full_page_writes=off");
            // Each core runs a test, and each test has its own servers and pools, so sixteen cores need more than the
            // default of 100.
            options.push_str(" -c max_connections=500");
        }
        options
    }

    /// Whether another attempt may succeed after this failure to start.
    fn may_go_away(&self, error: &Error) -> Result<bool, Error> {
        let text = error.to_string();
        // The server was killed, and its children have not ended yet.
        if text.contains("pre-existing shared memory block") {
            return Ok(true);
        }
        // The server was killed, and another process has its process id now. PostgreSQL can't know that, so this crate
        // deletes the lock files.
        if text.contains("lock file") && text.contains("already exists") {
            if !self.postmaster_pid().is_some_and(|pid| self.is_postmaster(pid)) {
                self.remove_stale_lock_files()?;
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// Whether a process is the server of this cluster. A server works in its data directory. Without `/proc`, any PostgreSQL
    /// process counts, which is the safe side.
    fn is_postmaster(&self, pid: u32) -> bool {
        if Path::new("/proc/self/cwd").exists() {
            let inode = |path: &Path| fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
            let cwd = inode(Path::new(&format!("/proc/{pid}/cwd")));
            return cwd.is_some() && cwd == inode(&self.directory.data());
        }
        let ps = Command::new("ps").args(["-o", "command=", "-p", &pid.to_string()]).output();
        ps.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("postgres"))
    }

    fn remove_stale_lock_files(&self) -> Result<(), Error> {
        let socket_lock = format!(".s.PGSQL.{PORT}.lock");
        for path in [self.directory.data().join("postmaster.pid"), self.directory.socket_dir.join(socket_lock)] {
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::io("delete", &path, e)),
                _ => info!("deleted {}, left by a server that is gone", path.display()),
            }
        }
        Ok(())
    }

    pub(super) fn postmaster_pid(&self) -> Option<u32> {
        let lock_file = fs::read_to_string(self.directory.data().join("postmaster.pid")).ok()?;
        lock_file.lines().next()?.trim().parse().ok()
    }

    pub(super) fn url(&self, database: &str) -> String {
        let host = self.directory.socket_dir_encoded();
        format!("postgresql://{DATABASE_USER}@{host}:{PORT}/{}", percent_encode(database.as_bytes()))
    }

    pub(super) fn create_database(&self, database: &str) -> Result<(), Error> {
        let mut createdb = self.command("createdb");
        // A connection to the template would make this fail. Nobody can connect to template0.
        createdb.args(["--template=template0", "--maintenance-db", &self.url("postgres"), "--", database]);
        let Err(error) = self.succeed(&mut createdb, "createdb") else {
            return Ok(());
        };
        // The database may already exist, or another process may be creating it. It only has to exist.
        let mut psql = self.psql(database, "SELECT");
        if run(&mut psql, "psql", &self.directory.path)?.status.success() { Ok(()) } else { Err(error) }
    }

    /// Whether nobody is connected. Closed connections get a moment to disappear.
    pub(super) fn has_no_clients(&self) -> Result<bool, Error> {
        let count = "SELECT count(*) FROM pg_stat_activity \
                     WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        let deadline = Instant::now() + DISCONNECT_PATIENCE;
        loop {
            if self.succeed(&mut self.psql("postgres", count), "psql")?.trim() == "0" {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            pause();
        }
    }

    pub(super) fn stop(&self) -> Result<(), Error> {
        let mut pg_ctl = self.command("pg_ctl");
        pg_ctl.args(["stop", "--wait", "--mode=fast", "--silent", "--pgdata", DATA]);
        self.succeed(&mut pg_ctl, "pg_ctl stop").map(drop)
    }

    fn psql(&self, database: &str, statement: &str) -> Command {
        let mut psql = self.command("psql");
        psql.args(["--no-psqlrc", "--no-align", "--tuples-only"]);
        psql.args(["--dbname", &self.url(database), "--command", statement]);
        psql
    }

    fn command(&self, program: &str) -> Command {
        self.programs.command(program, &self.directory.path)
    }

    /// Runs a command that must succeed, and returns its standard output.
    fn succeed(&self, command: &mut Command, program: &'static str) -> Result<String, Error> {
        let output = run(command, program, &self.directory.path)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(failed(program, &self.directory.path, &String::from_utf8_lossy(&output.stderr)))
    }
}

/// Waits between two checks of a condition.
#[expect(clippy::disallowed_methods, reason = "starting and stopping a server blocks by design; no request runs yet")]
fn pause() {
    thread::sleep(POLL_INTERVAL);
}
