//! The commands of `payments`, one file for each kind.

mod accounts;
mod data;
mod database;
mod serve;
mod settling;

use std::io::Write;

use idempotent_payments::config::{Action, Command};
use idempotent_payments::openapi;

use self::database::Database;
use crate::Fatal;

/// Checks the settings, and then runs the command. Nothing changes before the checks have passed.
pub fn run(command: Command) -> Result<(), Fatal> {
    let settings = command.settings;
    let action = command.action.unwrap_or(Action::Serve);
    let listener = settings.check(&action)?;
    // The document needs no database.
    if matches!(action, Action::Openapi) {
        return say(format_args!("{:#}", openapi::document()));
    }
    // Dropped when everything else has ended: the drop sends the last spans.
    #[cfg(feature = "otel")]
    let _traces = match action {
        Action::Serve | Action::Settle => idempotent_payments::traces::start()?,
        _ => None,
    };
    let database = Database::of(&settings, &action)?;
    let url = &database.url;
    let outcome = match action {
        Action::Serve => match listener {
            Some(listener) => serve::serve(&settings, &database, listener),
            None => Err("there is no socket to serve on".into()),
        },
        Action::Migrate | Action::Openapi | Action::Verify(_) => data::migrate(url),
        Action::Account(action) => accounts::account(url, &action),
        Action::Key(action) => accounts::key(url, &action),
        Action::EraseCustomer { account, customer, yes } => data::erase_customer(url, &account, &customer, yes),
        Action::SandboxGateway => serve::sandbox_gateway(&settings, url),
        Action::Sweep => data::sweep(url),
        Action::Settle => settling::settle(&settings, url),
        Action::Parked => settling::parked(url),
        Action::Reset { yes } => data::reset(&database, yes),
    };
    database.leave();
    outcome
}

/// Writes a line. If the reader has closed the pipe, the result is an error, not a panic.
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
