//! A throw-away cluster ends with its process, however the process ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use dev_postgres::{Error, Lifetime, Options};

use super::{execute, new_dir, options, pid, postmaster, start, wait_for_end, wait_until};

#[test]
fn a_throw_away_cluster_is_gone_when_it_is_dropped() {
    let cluster = dev_postgres::start(&Options::throw_away()).unwrap();
    execute(&cluster, "SELECT");
    let (dir, server) = (cluster.dir().to_owned(), postmaster(&cluster));
    cluster.stop();
    assert!(!dir.exists());
    wait_for_end(server);
}

#[test]
fn a_throw_away_cluster_never_takes_and_deletes_a_kept_one() {
    let dir = new_dir();
    let kept = start(dir.path());
    execute(&kept, "CREATE TABLE kept ()");
    kept.stop();
    let error = dev_postgres::start(&Options { lifetime: Lifetime::WithProcess, ..options(dir.path()) }).unwrap_err();
    assert!(matches!(error, Error::NotEmpty { .. }), "{error}");
    execute(&start(dir.path()), "TABLE kept");
}

/// The directory and the lifetime for [`owner_process`].
const OWNER_DIR: &str = "DEV_POSTGRES_TEST_OWNER_DIR";
const OWNER_KEEPS: &str = "DEV_POSTGRES_TEST_OWNER_KEEPS";

/// Not a test: [`owner`] starts this binary again with this function as its only test. That process owns a cluster
/// until it is killed.
#[test]
fn owner_process() {
    let Some(dir) = std::env::var_os(OWNER_DIR).map(PathBuf::from) else { return };
    let kept = std::env::var_os(OWNER_KEEPS).is_some();
    let lifetime = if kept { Lifetime::Kept } else { Lifetime::WithProcess };
    let _cluster = dev_postgres::start(&Options { lifetime, ..options(&dir) }).unwrap();
    loop {
        thread::park();
    }
}

/// Starts this test binary again, as a process that a test can kill.
fn owner(dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "throw_away::owner_process"]);
    command.env(OWNER_DIR, dir).stdout(Stdio::null());
    command
}

fn kill_while_initdb_is_at_work(mut owner: Child, dir: &Path) {
    wait_until("initdb", || half_done(dir));
    owner.kill().unwrap();
    owner.wait().unwrap();
}

fn half_done(dir: &Path) -> bool {
    let mut entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.any(|entry| entry.file_name().to_string_lossy().starts_with("data.new-"))
}

#[test]
fn a_throw_away_cluster_is_gone_when_its_process_is_killed() {
    let dir = Options::throw_away().dir;
    let mut owner = owner(&dir).spawn().unwrap();
    let lock_file = dir.join("data/postmaster.pid");
    let server = || fs::read_to_string(&lock_file).ok()?.lines().nth(7)?.starts_with("ready").then_some(());
    wait_until("the server", || server().is_some());
    let server = pid(fs::read_to_string(&lock_file).unwrap().lines().next().unwrap().parse().unwrap());

    owner.kill().unwrap();
    owner.wait().unwrap();
    wait_until("the directory's end", || !dir.exists());
    wait_for_end(server);
}

#[test]
fn a_throw_away_cluster_is_gone_when_its_process_is_killed_while_making_it() {
    let dir = Options::throw_away().dir;
    kill_while_initdb_is_at_work(owner(&dir).spawn().unwrap(), &dir);
    wait_until("the directory's end", || !dir.exists());
}

#[test]
fn a_start_that_is_killed_while_making_the_cluster_does_not_stop_the_next_one() {
    let dir = new_dir();
    kill_while_initdb_is_at_work(owner(dir.path()).env(OWNER_KEEPS, "").spawn().unwrap(), dir.path());
    execute(&start(dir.path()), "SELECT");
}
