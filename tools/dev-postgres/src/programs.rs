//! PostgreSQL's programs: their directory, and the user who may run them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::error::{Error, last_lines};

/// The user who runs PostgreSQL, if the user of this process can't.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Account {
    /// `None`: the user of this process. PostgreSQL refuses to run as root, so root needs another user.
    pub(super) fn to_run_postgres() -> Result<Option<Self>, Error> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let account = ["postgres", "nobody"].into_iter().find_map(Self::named);
        account.map(Some).ok_or(Error::NoAccount)
    }

    /// Asks the program `id`. Only libc knows all users: they may be in a file or, for example, in LDAP.
    fn named(name: &str) -> Option<Self> {
        let id = |flag| output_of("id".as_ref(), &[flag, name])?.trim().parse().ok();
        Some(Self { uid: id("-u")?, gid: id("-g")? })
    }
}

/// One installation of PostgreSQL, and the user who runs it.
#[derive(Debug)]
pub(super) struct Programs {
    bin: PathBuf,
    pub(super) major: u32,
    account: Option<Account>,
}

/// Where packages put PostgreSQL outside PATH: the parent, the start of the folder's name, and the folder inside.
const PLACES: [(&str, &str, &str); 6] = [
    ("/usr/lib/postgresql", "", "bin"),                          // Debian, Ubuntu
    ("/usr", "pgsql-", "bin"),                                   // PostgreSQL's own packages for Red Hat and SUSE
    ("/usr/lib64", "postgresql-", "bin"),                        // Gentoo
    ("/opt/homebrew/opt", "postgresql", "bin"),                  // Homebrew on Apple silicon
    ("/usr/local/opt", "postgresql", "bin"),                     // Homebrew on Intel
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"), // Postgres.app
];

impl Programs {
    /// The installation of the version that created the cluster in `data`. Without a cluster, the first on PATH, else
    /// the newest.
    pub(super) fn find(data: &Path, account: Option<Account>) -> Result<Self, Error> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let installed = installations(&path, &PLACES);
        // An unreadable PG_VERSION counts as no cluster. A later check decides whether the directory is suitable.
        let made_by = fs::read_to_string(data.join("PG_VERSION")).ok().and_then(|text| leading_number(&text));
        let (major, bin) = choose(installed, made_by, data)?;
        Ok(Self { bin, major, account })
    }

    /// The path of a program.
    pub(super) fn path(&self, program: &str) -> PathBuf {
        self.bin.join(program)
    }

    /// A command that runs `program` in `dir`, as the right user.
    pub(super) fn command(&self, program: &str, dir: &Path) -> Command {
        let mut command = self.as_account(&self.path(program));
        // In the cluster's directory, because the other user may not be able to enter the caller's, and because
        // relative paths need no quotes in pg_ctl's shell.
        command.current_dir(dir);
        // This crate recognizes messages by their English text, and macOS starts PostgreSQL only with a valid locale.
        command.env("LC_ALL", "C");
        // The user's PGHOST, PGOPTIONS and so on are meant for other servers.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
            command.env_remove(name);
        }
        command
    }

    /// Checks that the user who runs PostgreSQL can enter `dir` and the directories above.
    pub(super) fn check_reach(&self, dir: &Path) -> Result<(), Error> {
        let Some(account) = self.account else { return Ok(()) };
        let entered = self.as_account("/bin/sh".as_ref()).args(["-c", ":"]).current_dir(dir).status();
        let Err(e) = entered else { return Ok(()) };
        let reason = format!(
            "PostgreSQL can't run as root, and user {}, who runs PostgreSQL instead, can't enter the directory ({e}; \
             `chmod a+x` opens the directories above)",
            account.uid
        );
        Err(Error::UnfitDirectory { dir: dir.to_owned(), reason })
    }

    /// A command that runs as the user who runs PostgreSQL.
    pub(super) fn as_account(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some(account) = self.account {
            // When the standard library sets the user, it also drops root's supplementary groups.
            command.uid(account.uid).gid(account.gid);
        }
        command
    }
}

/// Runs `command` to its end.
pub(super) fn run(command: &mut Command, program: &'static str, dir: &Path) -> Result<Output, Error> {
    command.output().map_err(|e| failed(program, dir, &e.to_string()))
}

/// The error for a program that failed. The error shows the last lines of `output`.
pub(super) fn failed(program: &'static str, dir: &Path, output: &str) -> Error {
    Error::Program { program, dir: dir.to_owned(), output: last_lines(output) }
}

/// Every installation, as major version and folder: first those on PATH, in its order, then the others, newest first.
fn installations(path: &OsStr, places: &[(&str, &str, &str)]) -> Vec<(u32, PathBuf)> {
    let folders: Vec<PathBuf> = std::env::split_paths(path).collect();
    let on_path = |name: &str| folders.iter().map(|f| f.join(name)).find(|p| p.is_file());
    let configured = on_path("pg_config").and_then(|p| output_of(&p, &["--bindir"])).map(|o| PathBuf::from(o.trim()));
    // PATH often has only links. The folder behind the links has all programs.
    let linked = on_path("initdb").and_then(|p| p.canonicalize().ok()).and_then(|p| Some(p.parent()?.to_owned()));
    let mut found: Vec<_> = configured.into_iter().chain(linked).filter_map(with_version).collect();

    let mut packaged = Vec::new();
    for &(parent, prefix, suffix) in places {
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        let named = entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()));
        packaged.extend(named.filter_map(|entry| with_version(entry.path().join(suffix))));
    }
    packaged.sort_by_key(|&(major, _)| std::cmp::Reverse(major));
    found.extend(packaged);
    found
}

fn choose(installed: Vec<(u32, PathBuf)>, made_by: Option<u32>, data: &Path) -> Result<(u32, PathBuf), Error> {
    let Some(made_by) = made_by else {
        return installed.into_iter().next().ok_or(Error::NoPrograms);
    };
    let mut versions: Vec<u32> = installed.iter().map(|&(major, _)| major).collect();
    if versions.is_empty() {
        return Err(Error::NoPrograms);
    }
    versions.dedup();
    let fitting = installed.into_iter().find(|&(major, _)| major == made_by);
    fitting.ok_or_else(|| Error::WrongVersion {
        dir: data.to_owned(),
        made_by,
        installed: versions.iter().map(u32::to_string).collect::<Vec<_>>().join(", "),
    })
}

/// The folder with its major version, if it has a server. Client packages have a `pg_config` and a folder too.
fn with_version(bin: PathBuf) -> Option<(u32, PathBuf)> {
    if !bin.join("initdb").is_file() || !bin.join("pg_ctl").is_file() {
        return None;
    }
    let version = output_of(&bin.join("postgres"), &["--version"])?; // postgres (PostgreSQL) 17.2 (Debian 17.2-1)
    Some((leading_number(version.split_whitespace().nth(2)?)?, bin))
}

/// The major version at the start of `17.2`, `18beta1` or `17`.
fn leading_number(text: &str) -> Option<u32> {
    text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The standard output of a program, if it succeeds.
fn output_of(program: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_programs_one_line_names_every_way_out() {
        let nowhere = installations("/nonexistent".as_ref(), &[("/nonexistent", "", "bin")]);
        let text = choose(nowhere, None, Path::new("/data")).unwrap_err().to_string();
        assert!(!text.contains('\n'), "{text}");
        for way_out in ["apt install postgresql", "brew install postgresql", "DATABASE_URL", "docker compose up"] {
            assert!(text.contains(way_out), "{way_out} is not in: {text}");
        }
    }

    #[test]
    fn a_cluster_is_run_by_the_programs_of_its_own_version() {
        let installed = vec![(17, PathBuf::from("/17")), (15, PathBuf::from("/15"))];
        let (major, bin) = choose(installed.clone(), Some(15), Path::new("/data")).unwrap();
        assert_eq!((major, bin), (15, PathBuf::from("/15")));

        let text = choose(installed, Some(14), Path::new("/data")).unwrap_err().to_string();
        assert!(text.contains("PostgreSQL 14") && text.contains("17, 15"), "{text}");
        assert!(text.contains("DATABASE_URL") && text.contains("remove /data"), "{text}");
    }

    #[test]
    fn a_major_version_is_read_from_every_form() {
        let forms = ["17.2", "18beta1", "17devel", "16\n", "PostgreSQL"];
        assert_eq!(forms.map(leading_number), [Some(17), Some(18), Some(17), Some(16), None]);
    }
}
