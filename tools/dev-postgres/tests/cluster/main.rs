//! The local cluster survives everything that can happen between two runs. Each test creates its own cluster with
//! PostgreSQL's programs.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod refusals;
mod throw_away;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use dev_postgres::{Cluster, Durability, Lifetime, Options};
use diesel::{Connection, PgConnection, RunQueryDsl, sql_query};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;

/// Far longer than any step of these tests takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A kept cluster, like the cluster of `cargo run`. It does not wait for the disk, so that the tests are fast.
fn options(dir: &Path) -> Options {
    Options { dir: dir.to_owned(), durability: Durability::Fast, lifetime: Lifetime::Kept }
}

fn start(dir: &Path) -> Cluster {
    dev_postgres::start(&options(dir)).unwrap()
}

/// An empty directory that only its owner can enter. It is deleted at the end.
fn new_dir() -> TempDir {
    tempfile::Builder::new().prefix("payments-test-").permissions(fs::Permissions::from_mode(0o700)).tempdir().unwrap()
}

/// Runs statements that return no rows.
fn execute(cluster: &Cluster, statement: &str) {
    let mut connection = PgConnection::establish(&cluster.url("postgres")).unwrap();
    sql_query(statement).execute(&mut connection).unwrap();
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(number.cast_signed()).unwrap()
}

fn postmaster(cluster: &Cluster) -> Pid {
    pid(cluster.postmaster_pid().unwrap())
}

/// Waits until the server's process has ended. The lock file doesn't show that: the server deletes it just before.
fn wait_for_end(server: Pid) {
    wait_until("the server's end", || test_kill_process(server).is_err());
}

#[expect(clippy::disallowed_methods, reason = "these tests have no runtime, and the loop polls a condition")]
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_second_start_finds_the_first_and_leaves_it_running() {
    let dir = new_dir();
    let first = start(dir.path());
    assert!(first.was_started_here());
    execute(&first, "CREATE TABLE kept ()");

    let second = start(dir.path());
    assert!(!second.was_started_here());
    assert_eq!(second.postmaster_pid(), first.postmaster_pid());
    let server = postmaster(&first);
    second.stop();
    execute(&first, "TABLE kept");
    first.stop();
    wait_for_end(server);

    execute(&start(dir.path()), "TABLE kept");
}

#[test]
fn a_server_that_others_use_is_not_stopped() {
    let dir = new_dir();
    let first = start(dir.path());
    let second = start(dir.path());
    first.stop(); // The second has no connection yet.
    execute(&second, "SELECT");
    let server = postmaster(&second);
    kill_process(server, Signal::INT).unwrap();
    wait_for_end(server);

    let third = start(dir.path());
    assert!(third.was_started_here());
    let connection = PgConnection::establish(&third.url("postgres")).unwrap();
    let server = postmaster(&third);
    third.stop();
    assert!(test_kill_process(server).is_ok(), "the server stopped although a connection is open");
    drop(connection);
    kill_process(server, Signal::INT).unwrap();
    wait_for_end(server);
}

#[test]
fn two_starts_at_once_share_one_server() {
    let dir = new_dir();
    let clusters: Vec<Cluster> = thread::scope(|scope| {
        let starts: Vec<_> = (0..3).map(|_| scope.spawn(|| start(dir.path()))).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    assert_eq!(clusters.iter().filter(|cluster| cluster.was_started_here()).count(), 1);
    for cluster in &clusters {
        execute(cluster, "SELECT");
        assert_eq!(cluster.postmaster_pid(), clusters[0].postmaster_pid());
    }
    thread::scope(|scope| {
        for cluster in &clusters {
            scope.spawn(|| cluster.create_database("shared").unwrap());
        }
    });
    assert!(PgConnection::establish(&clusters[0].url("shared")).is_ok());
    // The starter of the server is dropped last.
    let (starter, others): (Vec<_>, Vec<_>) = clusters.into_iter().partition(Cluster::was_started_here);
    drop(others);
    drop(starter);
}

#[test]
fn a_killed_server_is_started_again_with_its_data() {
    let dir = new_dir();
    let durable = Options { durability: Durability::Durable, ..options(dir.path()) };
    let cluster = dev_postgres::start(&durable).unwrap();
    execute(&cluster, "CREATE TABLE kept ()");
    let url = cluster.url("postgres");
    // A busy backend does not notice its server's death at once, and keeps the shared memory.
    let busy = thread::spawn(move || {
        let mut connection = PgConnection::establish(&url).unwrap();
        sql_query("CREATE TABLE busy AS SELECT count(*) FROM generate_series(1, 5000000)").execute(&mut connection)
    });
    let running = "SELECT 1 / count(*) FROM pg_stat_activity WHERE query LIKE 'CREATE TABLE busy%'";
    let mut connection = PgConnection::establish(&cluster.url("postgres")).unwrap();
    wait_until("the busy backend", || sql_query(running).execute(&mut connection).is_ok());

    let killed = postmaster(&cluster);
    kill_process(killed, Signal::KILL).unwrap();
    let restarted = dev_postgres::start(&durable).unwrap();
    assert!(restarted.was_started_here());
    assert_ne!(postmaster(&restarted), killed);
    execute(&restarted, "TABLE kept");
    busy.join().unwrap().ok();
    drop((connection, cluster, restarted));
}

#[test]
fn a_server_that_died_is_revived_once() {
    let dir = new_dir();
    let starter = start(dir.path());
    let user = start(dir.path());
    assert!(!user.revive().unwrap(), "the server lives");
    let killed = postmaster(&starter);
    kill_process(killed, Signal::KILL).unwrap();
    wait_for_end(killed);

    let revived: Vec<bool> = thread::scope(|scope| {
        let both: Vec<_> =
            [&starter, &user].map(|cluster| scope.spawn(|| cluster.revive().unwrap())).into_iter().collect();
        both.into_iter().map(|revived| revived.join().unwrap()).collect()
    });

    assert_eq!(revived.iter().filter(|revived| **revived).count(), 1);
    execute(&user, "SELECT");
    drop(starter);
    drop(user);
}

#[test]
fn a_half_done_initdb_does_not_stop_the_next_start() {
    let dir = new_dir();
    start(dir.path()).stop();
    let (data, half_done) = (dir.path().join("data"), dir.path().join("data.new-1"));
    fs::rename(data, &half_done).unwrap();
    fs::remove_file(half_done.join("postgresql.conf")).unwrap();

    execute(&start(dir.path()), "SELECT");
    assert!(!half_done.exists());
}

#[test]
fn a_stale_postmaster_pid_does_not_stop_the_next_start() {
    let dir = new_dir();
    let cluster = start(dir.path());
    execute(&cluster, "CREATE TABLE kept ()");
    let lock_files = [dir.path().join("data/postmaster.pid"), dir.path().join(".s.PGSQL.5432.lock")];
    let contents = lock_files.clone().map(|file| fs::read_to_string(file).unwrap());
    let server = cluster.postmaster_pid().unwrap().to_string();
    cluster.stop();

    // The lock files are back and name a live process of the same user, which is not a server.
    let owner = fs::metadata(dir.path()).unwrap();
    let mut unrelated = Command::new("sleep").arg("60").uid(owner.uid()).gid(owner.gid()).spawn().unwrap();
    for (file, content) in lock_files.iter().zip(contents) {
        fs::write(file, content.replacen(&server, &unrelated.id().to_string(), 1)).unwrap();
        std::os::unix::fs::chown(file, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    let restarted = start(dir.path());
    execute(&restarted, "TABLE kept");
    assert!(unrelated.try_wait().unwrap().is_none(), "the unrelated process was ended");
    unrelated.kill().unwrap();
    unrelated.wait().unwrap();
}

#[test]
fn the_server_survives_ctrl_c_in_its_terminal() {
    let dir = new_dir();
    let cluster = start(dir.path());
    let postmaster = postmaster(&cluster);
    // Ctrl-C reaches the terminal's foreground process group. The leader of its own session is in none of the terminal's groups.
    // (The test can't compare with its own session: in a PID namespace, that session may have no number.)
    assert_eq!(rustix::process::getsid(Some(postmaster)).unwrap(), postmaster);
}

#[test]
fn a_long_path_with_every_odd_character_works() {
    let parent = new_dir();
    fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let dir = parent.path().join(format!("a 'quoted' \"$HOME\" %41 `id` é {}", "long".repeat(20)));
    let cluster = dev_postgres::start(&Options { lifetime: Lifetime::WithProcess, ..options(&dir) }).unwrap();
    cluster.create_database("my db/with?odd#name=%41").unwrap();
    assert!(PgConnection::establish(&cluster.url("my db/with?odd#name=%41")).is_ok());
}
