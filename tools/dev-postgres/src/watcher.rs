//! Deletes a throw-away cluster when its owner, the process that created it, ends.
//!
//! A shell waits at the reading end of a pipe. Only the owner has the writing end: it is closed on exec, so no child of
//! the owner has it. When the owner ends, even by SIGKILL, the kernel closes the writing end. Then the shell stops the
//! server and deletes the directory.
//!
//! Not guaranteed: that the cluster is deleted if the shell itself is killed, or the machine stops.

use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};

use log::warn;

use super::directory::Directory;
use super::error::Error;
use super::programs::{Programs, failed};

/// The arguments are `pg_ctl`, the cluster's directory and the socket's directory. The script tries for a minute,
/// because an initdb or a server that the owner has just started may still be writing. A minute is ten times what
/// either takes. If only another user may delete the directory itself, it stays, empty.
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
        // The shell gets no output: it would hold our output's pipe open, and the reader would wait for the shell to
        // end.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // Its own process group: the terminal sends Ctrl-C to our group, and the shell must not get it.
        command.process_group(0).current_dir("/").env("LC_ALL", "C");
        let child = command.spawn().map_err(|e| failed("sh", &directory.path, &e.to_string()))?;
        Ok(Self(child))
    }

    /// Lets the shell delete the cluster, and waits for the shell.
    pub(super) fn finish(mut self) {
        // `wait` first closes our end of the pipe.
        if let Err(e) = self.0.wait() {
            warn!("could not wait for the end of a PostgreSQL cluster: {e}");
        }
    }
}
