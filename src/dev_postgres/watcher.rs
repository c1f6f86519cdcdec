//! Ends a throw-away cluster with the process that owns it, however that process ends.
//!
//! A shell waits at the reading end of a pipe whose writing end only the owner has (it is closed on exec, so none of
//! the owner's children has it). The kernel closes that end when the owner ends, by SIGKILL too; then the shell stops
//! the server and deletes the directory. What it can't outlive is its own SIGKILL, or the machine's end.

use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};

use log::warn;

use super::directory::Directory;
use super::error::Error;
use super::programs::{Programs, failed};

/// Gets `pg_ctl`, the cluster's directory and the socket's. It repeats, because an initdb or a server that the owner had
/// just begun to start may still be writing; a minute is ten times what either takes. The directory itself may stay,
/// empty, when it is another user's to delete.
const SCRIPT: &str = r#"
trap '' HUP INT QUIT TERM
cat
tries=0
until [ "$tries" -ge 60 ]; do
    "$1" stop -D "$2/data" -m immediate
    rm -rf "$2" "$3"
    [ -z "$(ls -A "$2")" ] && exit
    tries=$((tries + 1))
    sleep 1
done
"#;

#[derive(Debug)]
pub(super) struct Watcher(Child);

impl Watcher {
    pub(super) fn start(programs: &Programs, directory: &Directory) -> Result<Self, Error> {
        let mut command = programs.as_account("/bin/sh".as_ref());
        command.args(["-c", SCRIPT, "dev-postgres-watcher"]);
        command.arg(programs.path("pg_ctl")).args([&directory.path, &directory.socket_dir]);
        // Its output goes nowhere: a pipe that it held open would keep whoever reads our output waiting for its end.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // Its own group, so that Ctrl-C, which the terminal sends to ours, doesn't reach it.
        command.process_group(0).current_dir("/").env("LC_ALL", "C");
        let child = command.spawn().map_err(|e| failed("sh", &directory.path, &e.to_string()))?;
        Ok(Self(child))
    }

    /// Lets it do its work, and waits until it has.
    pub(super) fn finish(mut self) {
        // Waiting closes our end of the pipe first.
        if let Err(e) = self.0.wait() {
            warn!("could not wait for the end of a PostgreSQL cluster: {e}");
        }
    }
}
