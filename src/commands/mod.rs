//! The commands of `payments`, one file for each kind.

mod accounts;
pub mod args;
mod backlog;
mod data;
mod database;
pub mod gateway;
mod reconcile;
mod resolve;
mod serve;
mod silence;
mod table;

use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};
use std::os::unix::process::CommandExt as _;
use std::process::{self, ExitCode};

use self::args::{Action, Command};
use self::database::Database;
use crate::demo;
use crate::process::logging;
use crate::process::wrong::Wrong;
use crate::server::{api, openapi};
use stripe_gateway::install_tls;

/// An error that ends the process. The process prints the error as one line.
type Fatal = Box<dyn std::error::Error>;

/// The exit code for a wrong setting or argument, as in clap. Any other failure exits with 1.
const WRONG_SETTING: u8 = 2;

/// The exit code of `reconcile` if something differs.
const DIFFERENCES: u8 = 1;

/// Reads the command line and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    let command = match Command::read() {
        Ok(command) => command,
        Err(code) => return code,
    };
    if let Err(error) = without_variables_of_libpq(&command) {
        eprintln!("payments: {error}");
        return ExitCode::FAILURE;
    }
    install_tls();
    logging::init(&command.settings.rust_log, command.settings.log_format);
    let failure = command.action.as_ref().map_or(1, Action::failure);
    match run(command) {
        Ok(code) => code,
        // The reader of our output has closed the pipe, for example `head`.
        Err(error)
            if failure == 1 && error.downcast_ref().is_some_and(|e: &io::Error| e.kind() == ErrorKind::BrokenPipe) =>
        {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("payments: {error}");
            if error.is::<Wrong>() { WRONG_SETTING.into() } else { failure.into() }
        }
    }
}

/// The local cluster belongs to this program, and the user's variables for libpq (`PGSERVICE`, `PGOPTIONS` ..) are
/// meant for other servers. A URL can't override all of them. So the program executes itself again without them, before
/// anything runs.
fn without_variables_of_libpq(command: &Command) -> io::Result<()> {
    let foreign = |name: &OsString| name.as_encoded_bytes().starts_with(b"PG");
    let names: Vec<_> = std::env::vars_os().map(|(name, _)| name).filter(foreign).collect();
    let needs_database = !matches!(command.action, Some(Action::Openapi));
    if names.is_empty() || command.settings.database_url.is_some() || !needs_database {
        return Ok(());
    }
    let mut again = process::Command::new(std::env::current_exe()?);
    again.args(std::env::args_os().skip(1));
    for name in &names {
        again.env_remove(name);
    }
    Err(again.exec())
}

/// Checks the settings, and then runs the command. Nothing changes before the checks have passed.
fn run(command: Command) -> Result<ExitCode, Fatal> {
    let settings = command.settings;
    let action = command.action.unwrap_or(Action::Serve);
    // These checks query the server. The local cluster is checked once it runs.
    let watch = settings.database_url.as_deref().map(|url| silence::end_if_silent(url, action.failure()));
    let listener = settings.check(&action)?;
    // The document needs no database.
    if matches!(action, Action::Openapi) {
        say(format_args!("{:#}", openapi::document(&api())))?;
        return Ok(ExitCode::SUCCESS);
    }
    // Dropped last, since the drop sends the last spans.
    #[cfg(feature = "otel")]
    let _traces = match action {
        Action::Serve | Action::Resolve => crate::process::traces::start()?,
        _ => None,
    };
    let database = Database::of(&settings, &action)?;
    let url = &database.url;
    let watch = watch.unwrap_or_else(|| silence::end_if_silent(url, action.failure()));
    match action {
        Action::Serve => {
            let listener = listener.ok_or("there is no socket to serve on")?;
            serve::serve(&settings, &database, listener, watch)?;
        }
        // Printed above.
        Action::Openapi => {}
        Action::Migrate => data::migrate(url)?,
        Action::Account(action) => accounts::account(url, &action)?,
        Action::Key(action) => accounts::key(url, &action)?,
        Action::EraseCustomer { account, customer, yes, dry_run } => {
            data::erase_customer(url, &account, &customer, yes, dry_run)?;
        }
        Action::SandboxGateway => {
            drop(watch);
            serve::sandbox_gateway(&settings, url)?;
        }
        Action::Sweep => data::sweep(url)?,
        Action::Resolve => resolve::resolve(&settings, url)?,
        Action::Backlog { parked, account, format } => backlog::list(url, parked, account.as_deref(), format)?,
        Action::Reconcile { since, until, account, format } => {
            if reconcile::books(&settings, url, since, until, account.as_deref(), format)? {
                return Ok(DIFFERENCES.into());
            }
        }
        Action::StageReplica { part } => {
            drop(watch);
            demo::serve_replica(url, settings.gateway_url.as_deref().unwrap_or_default(), &part)?;
        }
        Action::Reset { yes } => data::reset(&database, yes)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes a line. A reader that has closed the pipe is an error, not a panic.
fn say(text: impl std::fmt::Display) -> Result<(), Fatal> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

/// Asks before a step that can't be undone. Only the answer `yes` goes on.
fn confirm(what: &str, yes: bool) -> Result<(), Fatal> {
    if yes {
        return Ok(());
    }
    let mut out = std::io::stdout();
    write!(out, "{what}\nThis can't be undone. Type yes to go on: ")?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if answer.trim() == "yes" {
        return Ok(());
    }
    Err("nothing was changed; only `yes`, or the flag --yes, goes on".into())
}
