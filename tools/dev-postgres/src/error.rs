//! Why a cluster does not start. Every text is one line, and says what to do.

use std::io;
use std::path::{Path, PathBuf};

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant's message says what it means")]
pub enum Error {
    #[error(
        "PostgreSQL's programs (initdb, pg_ctl, postgres) were not found: install them (`apt install postgresql` or \
         `brew install postgresql`), or set DATABASE_URL to a server that you have, or run everything with \
         `docker compose up`"
    )]
    NoPrograms,

    #[error(
        "{dir} was made by PostgreSQL {made_by}, but only version {installed} is installed: install PostgreSQL \
         {made_by}, or set DATABASE_URL, or remove {dir} to start without its data"
    )]
    WrongVersion { dir: PathBuf, made_by: u32, installed: String },

    #[error(
        "PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody` for it: run this program as \
         another user, or set DATABASE_URL"
    )]
    NoAccount,

    #[error(
        "there is no place for a local PostgreSQL cluster, because HOME is not set: set DEV_POSTGRES_DIR to a \
         directory for it, or DATABASE_URL to a server that you have"
    )]
    NoHome,

    #[error(
        "{dir} can't hold a PostgreSQL cluster: {reason}: set DEV_POSTGRES_DIR to a directory that is new or empty"
    )]
    UnfitDirectory { dir: PathBuf, reason: String },

    #[error(
        "{dir} is not empty, and a cluster that is deleted with its process needs a new directory: name a directory that \
         does not exist"
    )]
    NotEmpty { dir: PathBuf },

    #[error(
        "could not {action} {path}: {source}: correct the cause, or set DEV_POSTGRES_DIR to another directory, or \
         DATABASE_URL to a server that you have"
    )]
    Io { action: &'static str, path: PathBuf, source: io::Error },

    #[error(
        "`{program}` failed for the PostgreSQL cluster in {dir}: {output}: correct the cause, or set DEV_POSTGRES_DIR to \
         another directory or DATABASE_URL to a server that you have"
    )]
    Program { program: &'static str, dir: PathBuf, output: String },
}

impl Error {
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }
}

/// How many lines of a program's output an error shows. PostgreSQL writes a message, a detail and a hint, and a server
/// that fails to start adds a line or two.
const LINES_SHOWN: usize = 4;

/// Parts of lines that PostgreSQL's programs write after the cause of a failure, and that would hide it.
const NOISE: [&str; 5] = [
    "STATEMENT:",
    "child process exited",
    "database system is shut down",
    "removing contents",
    "removing data directory",
];

/// The last important lines of a program's output or of a server's log, as one line.
pub(super) fn last_lines(text: &str) -> String {
    let messages = text.lines().map(|line| without_prefix(line).trim());
    let mut lines: Vec<&str> =
        messages.filter(|line| !line.is_empty() && !NOISE.iter().any(|noise| line.contains(noise))).collect();
    lines.drain(..lines.len().saturating_sub(LINES_SHOWN));
    lines.join(" / ")
}

/// A line of a server's log without time and process id. A full line is `2026-01-31 12:00:00.000 UTC [123] LOG:  ...`.
fn without_prefix(line: &str) -> &str {
    match line.split_once("] ") {
        Some((prefix, message)) if prefix.starts_with(|c: char| c.is_ascii_digit()) => message,
        _ => line,
    }
}
