//! The command line: every flag is also an environment variable, and a wrong value ends with one line that names it.
//!
//! What a value looks like is checked as it is read (`values`); what only the machine and the server can tell is checked by
//! [`Settings::check`], before anything is touched.

mod check;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand};

pub use self::check::{SANDBOX_CONNECTIONS, Wrong, check_server};
pub use self::values::Origins;
use crate::logging::Format;
use crate::verify;

/// Payments that can be retried: orders, charges, refunds and entitlements behind idempotency keys.
#[derive(Debug, Parser)]
#[command(name = "payments", version)]
pub struct Command {
    /// What to do; `serve` where nothing is said.
    #[command(subcommand)]
    pub action: Option<Action>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap shows a flattened field's comment as help of the whole command")]
    pub settings: Settings,
}

/// What the program can do.
#[derive(Clone, Debug, Subcommand)]
pub enum Action {
    /// Serve the API: migrate, seed the demo where there is no `DATABASE_URL`, and serve until SIGTERM
    Serve,
    /// Bring the schema up to date
    Migrate,
    /// Accounts
    #[command(subcommand)]
    Account(AccountAction),
    /// The API keys of accounts
    #[command(subcommand)]
    Key(KeyAction),
    /// Blank a customer in orders, entitlements, events and stored replies
    EraseCustomer {
        /// The account: its name or its id
        #[arg(value_parser = values::name)]
        account: String,
        /// The customer, as orders and entitlements name them
        #[arg(value_parser = values::name)]
        customer: String,
        /// Don't ask
        #[arg(long)]
        yes: bool,
    },
    /// Run the sandbox gateway alone
    SandboxGateway,
    /// Print the `OpenAPI` document
    Openapi,
    /// Delete expired idempotency records once
    Sweep,
    /// Settle once what is due, and resume what is parked
    Settle,
    /// List the charges and refunds that are parked
    Parked,
    /// Empty the local cluster's database, and the sandbox gateway's books with it
    Reset {
        /// Don't ask
        #[arg(long)]
        yes: bool,
    },
    /// Check a keyed endpoint of any HTTP service from outside
    Verify(Box<verify::Args>),
}

/// What can be done with accounts.
#[derive(Clone, Debug, Subcommand)]
pub enum AccountAction {
    /// Make an account and show its API key, once
    Create {
        /// What to call it: 1 to 255 characters
        #[arg(value_parser = values::name)]
        name: String,
    },
    /// List all accounts, oldest first
    List,
}

/// What can be done with API keys.
#[derive(Clone, Debug, Subcommand)]
pub enum KeyAction {
    /// Make one more key for an account and show it, once
    Create {
        /// The account: its name or its id
        #[arg(value_parser = values::name)]
        account: String,
    },
    /// List the keys of an account by their ids: a key itself is kept nowhere
    List {
        /// The account: its name or its id
        #[arg(value_parser = values::name)]
        account: String,
    },
    /// Revoke a key: it stops working within ten seconds
    Revoke {
        /// The key's id, as `key list` shows it, or the key itself
        #[arg(value_parser = values::name)]
        key: String,
    },
}

/// Where and how it runs.
#[derive(Clone, Debug, Args)]
pub struct Settings {
    /// Where the API listens
    #[arg(long, env, global = true, default_value = "127.0.0.1:8080", value_parser = values::address)]
    pub bind: SocketAddr,
    /// The PostgreSQL database; without it, a local cluster is made and used
    #[arg(long, env, global = true, hide_env_values = true)]
    pub database_url: Option<String>,
    /// Where the local cluster is kept; by default in the home directory, for root below /var/tmp
    #[arg(long, env, global = true)]
    pub dev_postgres_dir: Option<PathBuf>,
    /// The payment gateway; without it, a sandbox gateway is started
    #[arg(long, env, global = true, value_parser = values::gateway_url)]
    pub gateway_url: Option<String>,
    /// Where the sandbox gateway listens
    #[arg(long, env, global = true, default_value = "127.0.0.1:8081", value_parser = values::address)]
    pub sandbox_bind: SocketAddr,
    /// Seconds until the sandbox gateway forgets a key; real ones keep them for a day
    #[arg(long, env, global = true, default_value = "86400", value_parser = values::seconds::<1, 86_400>)]
    pub sandbox_key_ttl: Duration,
    /// Database connections, each with a thread
    #[arg(long, env, global = true, default_value = "10", value_parser = values::pool_size)]
    pub db_pool_size: u32,
    /// Seed the demo accounts and catalogue; by default where there is no `DATABASE_URL`
    #[arg(long, env, global = true, num_args = 0..=1, default_missing_value = "true", value_parser = values::truth)]
    pub demo: Option<bool>,
    /// Seconds between two sweeps of expired idempotency records
    #[arg(long, env, global = true, default_value = "60", value_parser = values::seconds::<1, 86_400>)]
    pub sweep_interval: Duration,
    /// The web origins that may call the API, with commas between; with the demo, any port of localhost
    #[arg(long, env, global = true, value_parser = values::origins)]
    pub cors_origins: Option<Origins>,
    /// Seconds that an idle client connection is kept
    #[arg(long, env, global = true, default_value = "75", value_parser = values::seconds::<1, 3600>)]
    pub keep_alive: Duration,
    /// Seconds that requests are still accepted after SIGTERM, while /health/ready says no
    #[arg(long, env, global = true, default_value = "0", value_parser = values::seconds::<0, 300>)]
    pub drain_delay: Duration,
    /// What to log: a level, or several target=level with commas between
    #[arg(long, env, global = true, default_value = "info", value_parser = values::log_filters)]
    pub rust_log: String,
    /// Log lines for people (text) or for machines (json)
    #[arg(long, env, global = true, default_value = "text", value_parser = values::log_format)]
    pub log_format: Format,
}

impl Settings {
    /// Whether the demo is to be seeded.
    #[must_use]
    pub fn seeds_demo(&self) -> bool {
        self.demo.unwrap_or(self.database_url.is_none())
    }

    /// The origins that may call: those of `CORS_ORIGINS`, or any port of localhost where the demo is.
    #[must_use]
    pub fn origins(&self) -> Vec<String> {
        match &self.cors_origins {
            Some(origins) => origins.0.clone(),
            None if self.seeds_demo() => Origins::of_demo(),
            None => Vec::new(),
        }
    }
}

impl Command {
    /// Reads the command line and the environment.
    ///
    /// # Errors
    /// For a wrong value, and for `--help`: what there was to say is printed, and the process should exit with this.
    pub fn read() -> Result<Self, ExitCode> {
        let mut command = Self::try_parse().map_err(|error| {
            match one_line(&error) {
                Some(line) => eprintln!("payments: {line}"),
                // Where the terminal is gone there is nobody to tell.
                None => drop(error.print()),
            }
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        })?;
        // Compose files and unit files pass on a variable that is not set as an empty one.
        let settings = &mut command.settings;
        settings.database_url.take_if(|url| url.trim().is_empty());
        settings.dev_postgres_dir.take_if(|dir| dir.as_os_str().is_empty());
        Ok(command)
    }
}

/// A wrong value as one line with the variable's name.
fn one_line(error: &clap::Error) -> Option<String> {
    if !matches!(error.kind(), ErrorKind::InvalidValue | ErrorKind::ValueValidation) {
        return None;
    }
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let flag = text(ContextKind::InvalidArg)?;
    let name = flag.trim_matches(['-', '<', '>']).split([' ', '[', '=']).next()?.to_ascii_uppercase().replace('-', "_");
    let value = text(ContextKind::InvalidValue).unwrap_or_default();
    let right = std::error::Error::source(error)
        .map_or_else(|| "it is not one of the possible values".to_owned(), ToString::to_string);
    Some(Wrong::new(&name, &value, right).to_string())
}
