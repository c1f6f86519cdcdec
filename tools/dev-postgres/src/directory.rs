//! The cluster's directory: its place, its protection against other users, and the names of its files.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, lchown};
use std::path::{Path, PathBuf};

use log::warn;
use rustix::fs::OFlags;

use super::error::Error;
use super::programs::Account;

pub(super) const DATA: &str = "data";
pub(super) const LOG: &str = "log";

/// The port in the socket's name, which is PostgreSQL's default. Each cluster has its own directory, so the port is always free.
pub(super) const PORT: u16 = 5432;

/// The longest path of a socket. `sun_path` has 104 bytes on macOS and the BSDs (108 on Linux), and the last byte is a NUL.
const MAX_SOCKET_PATH: usize = 103;

/// The default directory of `cargo run`: in `$XDG_DATA_HOME` or in `~/.local/share`. For root, the directory is below `/var/tmp`,
/// because PostgreSQL then runs as a user who can't reach root's home.
///
/// # Errors
/// [`Error::NoHome`] if none of the variables is set.
pub fn default_dir() -> Result<PathBuf, Error> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/tmp/idempotent-payments-root"));
    }
    // The XDG specification says to ignore a relative path.
    let data_home = set("XDG_DATA_HOME").filter(|path| path.is_absolute());
    let data_home = data_home.or_else(|| Some(set("HOME")?.join(".local/share")));
    Ok(data_home.ok_or(Error::NoHome)?.join("idempotent-payments"))
}

/// A directory of the user who runs PostgreSQL. Only this user and root can reach it.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) path: PathBuf,
    pub(super) socket_dir: PathBuf,
}

impl Directory {
    /// Creates the directory, or checks that an existing one may be used.
    pub(super) fn prepare(path: PathBuf, account: Option<Account>, must_be_empty: bool) -> Result<Self, Error> {
        let metadata = make_private(&path, account)?;
        if must_be_empty && !is_empty(&path)? {
            return Err(Error::NotEmpty { dir: path });
        }
        let socket_name_len = format!("/.s.PGSQL.{PORT}").len();
        let socket_dir = if path.as_os_str().len() + socket_name_len <= MAX_SOCKET_PATH {
            path.clone()
        } else {
            // Device and inode identify the directory, never change, and are short.
            let short = format!("/tmp/idempotent-payments-{:x}-{:x}", metadata.dev(), metadata.ino());
            make_private(Path::new(&short), account)?;
            PathBuf::from(short)
        };
        Ok(Self { path, socket_dir })
    }

    pub(super) fn data(&self) -> PathBuf {
        self.path.join(DATA)
    }

    /// The socket's directory as an option of the server. The server works in the data directory. The path goes through a
    /// shell, so it has no special characters.
    pub(super) fn socket_dir_for_server(&self) -> &Path {
        if self.socket_dir == self.path { Path::new("..") } else { &self.socket_dir }
    }

    /// The socket's directory, percent-encoded as the host of a URI.
    pub(super) fn socket_dir_encoded(&self) -> String {
        percent_encode(self.socket_dir.as_os_str().as_bytes())
    }

    pub(super) fn open_lock(&self, name: &str) -> Result<File, Error> {
        let path = self.path.join(name);
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        // If this process is root, the directory belongs to another user, whose links must not lead root elsewhere.
        options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        options.open(&path).map_err(|e| Error::io("open", &path, e))
    }

    /// Deletes the files of an earlier, interrupted initdb. Call it with the start lock held.
    pub(super) fn remove_half_done(&self) {
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            // An initdb whose parent was killed may still be writing. Then the next start deletes its files.
            if entry.file_name().as_bytes().starts_with(b"data.new-")
                && let Err(e) = fs::remove_dir_all(entry.path())
            {
                warn!("could not delete {}, left by an earlier start: {e}", entry.path().display());
            }
        }
    }

    /// Deletes the directory of a deleted cluster. A failure is only logged: an empty directory does no harm.
    pub(super) fn remove_empty(&self) {
        for dir in [&self.path, &self.socket_dir] {
            match fs::remove_dir(dir) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => warn!("could not delete {}: {e}", dir.display()),
                _ => {}
            }
        }
    }
}

/// Creates `dir` for the user who runs PostgreSQL, or checks that only this user can reach it.
fn make_private(dir: &Path, account: Option<Account>) -> Result<Metadata, Error> {
    let cannot_make = |e| Error::io("make", dir, e);
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent).map_err(cannot_make)?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(cannot_make(e)),
        _ => {}
    }
    // Below /tmp and /var/tmp, another user may have created the directory, or a link in its place.
    let metadata = fs::symlink_metadata(dir).map_err(|e| Error::io("read", dir, e))?;
    let unfit = |reason| Err(Error::UnfitDirectory { dir: dir.to_owned(), reason });
    let us = rustix::process::geteuid().as_raw();
    let owner = account.map_or(us, |account| account.uid);
    if !metadata.is_dir() {
        return unfit("it is not a directory".to_owned());
    }
    if metadata.uid() != owner && metadata.uid() != us {
        return unfit(format!("it belongs to user {}, not to user {owner}", metadata.uid()));
    }
    // A directory with other files must be left alone: a user may have typed /etc by mistake.
    if !is_empty(dir)? && !holds_cluster(dir) {
        return unfit("it holds other files".to_owned());
    }
    if metadata.mode() & 0o077 != 0 {
        return unfit("other users can reach it (`chmod 700` closes it)".to_owned());
    }
    if let Some(account) = account
        && metadata.uid() != account.uid
    {
        // Root created the directory, now or in an interrupted start. Only an empty one is given to the other user.
        if !is_empty(dir)? {
            return unfit("it belongs to root and is not empty".to_owned());
        }
        lchown(dir, Some(account.uid), Some(account.gid)).map_err(|e| Error::io("change the owner of", dir, e))?;
    }
    Ok(metadata)
}

/// Whether the directory has a cluster, an unfinished cluster, or the socket of a cluster.
fn holds_cluster(dir: &Path) -> bool {
    let mut entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.any(|entry| {
        let name = entry.file_name();
        let is_made = |prefix: &[u8]| name.as_bytes().starts_with(prefix);
        name == "start.lock" || name == DATA || is_made(b"data.new-") || is_made(b".s.PGSQL.")
    })
}

fn is_empty(dir: &Path) -> Result<bool, Error> {
    let mut entries = fs::read_dir(dir).map_err(|e| Error::io("read", dir, e))?;
    Ok(entries.next().is_none())
}

/// Encodes everything but the unreserved characters of RFC 3986.
pub(super) fn percent_encode(bytes: &[u8]) -> String {
    let encode = |&byte: &u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    bytes.iter().map(encode).collect()
}
