//! The command line: every flag is also an environment variable, and a wrong value ends with one line that names it.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand};

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
    /// Accounts and their API keys
    #[command(subcommand)]
    Account(AccountAction),
    /// Run the sandbox gateway alone
    SandboxGateway,
    /// Print the OpenAPI document
    Openapi,
    /// Delete expired idempotency records once
    Sweep,
    /// Settle once what is due, and resume what is parked
    Settle,
    /// Check a keyed endpoint of any HTTP service from outside
    Verify(Box<verify::Args>),
}

/// What can be done with accounts.
#[derive(Clone, Debug, Subcommand)]
pub enum AccountAction {
    /// Make an account and show its API key, once
    Create {
        /// What to call it
        #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
        name: String,
    },
}

/// Where and how it runs.
#[derive(Clone, Debug, Args)]
pub struct Settings {
    /// Where the API listens
    #[arg(long, env, global = true, default_value = "127.0.0.1:8080")]
    pub bind: SocketAddr,
    /// The PostgreSQL database; without it, a local cluster is made and used
    #[arg(long, env, global = true, hide_env_values = true)]
    pub database_url: Option<String>,
    /// The payment gateway; without it, a sandbox gateway is started
    #[arg(long, env, global = true)]
    pub gateway_url: Option<String>,
    /// Where the sandbox gateway listens
    #[arg(long, env, global = true, default_value = "127.0.0.1:8081")]
    pub sandbox_bind: SocketAddr,
    /// Seconds until the sandbox gateway forgets a key; real ones keep them for a day
    #[arg(long, env, global = true, default_value = "86400", value_parser = whole_seconds)]
    pub sandbox_key_ttl: Duration,
    /// Database connections, each with a thread
    #[arg(long, env, global = true, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub db_pool_size: u32,
    /// Seed the demo accounts and catalogue; by default where there is no `DATABASE_URL`
    #[arg(long, env, global = true, num_args = 0..=1, default_missing_value = "true")]
    pub demo: Option<bool>,
    /// Seconds between two sweeps of expired idempotency records
    #[arg(long, env, global = true, default_value = "60", value_parser = whole_seconds)]
    pub sweep_interval: Duration,
}

impl Settings {
    /// Whether the demo is to be seeded.
    #[must_use]
    pub fn seeds_demo(&self) -> bool {
        self.demo.unwrap_or(self.database_url.is_none())
    }
}

/// At least a second, for what runs in a loop must rest; at most a day.
fn whole_seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
        _ => Err("must be a whole number of seconds from 1 to 86400".into()),
    }
}

impl Command {
    /// Reads the command line and the environment.
    ///
    /// # Errors
    /// For a wrong value, and for `--help`: what there was to say is printed, and the process should exit with this.
    pub fn read() -> Result<Self, ExitCode> {
        Self::try_parse().map_err(|error| {
            match one_line(&error) {
                Some(line) => eprintln!("{line}"),
                // Where the terminal is gone there is nobody to tell.
                None => drop(error.print()),
            }
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        })
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
    let name = flag.trim_start_matches('-').split([' ', '[', '=']).next()?.to_ascii_uppercase().replace('-', "_");
    let value = text(ContextKind::InvalidValue).unwrap_or_default();
    let cause = std::error::Error::source(error)
        .map_or_else(|| "it is not one of the possible values".to_owned(), ToString::to_string);
    Some(format!("payments: {name} is wrong: \"{value}\": {cause}"))
}
