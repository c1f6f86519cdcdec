//! The command line. Every flag is also an environment variable. A wrong value ends the process with a single line that
//! names the variable.
//!
//! `values` checks the form of each value. [`Settings::check`] checks the values against the machine and the database server,
//! before the program changes anything.

mod actions;
mod check;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser};

pub use self::actions::{AccountAction, Action, KeyAction, Listing};
pub use self::check::{SANDBOX_CONNECTIONS, check_server};
use self::values::Origins;
pub use self::values::When;
use crate::process::logging::Format;
use crate::process::wrong::{HIDDEN, Wrong};
use stripe_gateway::Key;
use stripe_gateway::webhook::Secrets;

/// Payments that can be retried: orders, charges, refunds and entitlements behind idempotency keys.
#[derive(Debug, Parser)]
#[command(name = "payments", version)]
pub struct Command {
    /// The command. The default is `serve`.
    #[command(subcommand)]
    pub action: Option<Action>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap shows a flattened field's comment as help of the whole command")]
    pub settings: Settings,
}

/// The settings of the process.
#[derive(Clone, Debug, Args)]
pub struct Settings {
    /// The address on which the API listens
    #[arg(long, env, global = true, default_value = "127.0.0.1:8080", value_parser = values::address)]
    pub bind: SocketAddr,
    /// The PostgreSQL database. Without it, the program creates and uses a local cluster
    #[arg(long, env, global = true, hide_env_values = true, value_parser = values::database_url)]
    pub database_url: Option<String>,
    /// The directory of the local cluster. The default is in the home directory, for root below /var/tmp
    #[arg(long, env, global = true, value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub dev_postgres_dir: Option<PathBuf>,
    /// The payment gateway: <https://api.stripe.com>, or a server that speaks Stripe's API. With the demo, the default is a
    /// sandbox gateway that the program starts
    ///
    /// Its key is read from the variable `GATEWAY_KEY` (`sk_..` or `rk_..`), and the signing secret of its webhook from
    /// `GATEWAY_WEBHOOK_SECRET` (one, or two separated by a comma): a flag would show them to everyone who lists the
    /// processes.
    #[arg(long, env, global = true, hide_env_values = true, value_parser = values::gateway_url)]
    pub gateway_url: Option<String>,
    /// The gateway's key: only from the environment.
    #[arg(skip)]
    pub gateway_key: Option<Key>,
    /// The signing secrets of the webhook: only from the environment.
    #[arg(skip)]
    pub webhook_secrets: Secrets,
    /// The address on which the sandbox gateway listens
    #[arg(long, env, global = true, default_value = "127.0.0.1:8081", value_parser = values::address)]
    pub sandbox_bind: SocketAddr,
    /// Seconds until the sandbox gateway forgets a key. Real gateways keep a key for a day
    #[arg(long, env, global = true, default_value = "86400", value_parser = values::seconds::<1, 86_400>)]
    pub sandbox_key_ttl: Duration,
    /// Where `sandbox-gateway` sends its events, for example `http://127.0.0.1:8080/webhooks/stripe`, signed with
    /// `GATEWAY_WEBHOOK_SECRET`
    #[arg(long, env, global = true, hide_env_values = true, value_parser = values::gateway_url)]
    pub sandbox_webhook_url: Option<String>,
    /// Database connections in the pool. /health/ready uses one more
    #[arg(long, env, global = true, default_value = "10", value_parser = values::pool_size)]
    pub db_pool_size: u32,
    /// Seed the demo accounts and catalogue. The default is true if `DATABASE_URL` is not set
    #[arg(long, env, global = true, num_args = 0..=1, default_missing_value = "true")]
    pub demo: Option<bool>,
    /// Seconds between two sweeps of expired idempotency records
    #[arg(long, env, global = true, default_value = "60", value_parser = values::seconds::<1, 86_400>)]
    pub sweep_interval: Duration,
    /// The web origins that may call the API, separated by commas. With the demo, the default is any port of localhost
    #[arg(long, env, global = true, value_parser = values::origins)]
    pub cors_origins: Option<Origins>,
    /// Seconds until the server closes an idle client connection
    #[arg(long, env, global = true, default_value = "75", value_parser = values::seconds::<1, 3600>)]
    pub keep_alive: Duration,
    /// Seconds for which the server still accepts requests after SIGTERM, while /health/ready answers 503
    #[arg(long, env, global = true, default_value = "0", value_parser = values::seconds::<0, 300>)]
    pub shutdown_delay: Duration,
    /// The log level, or a list of target=level separated by commas
    #[arg(long, env, global = true, default_value = "info", value_parser = values::log_filters)]
    pub rust_log: String,
    /// Log lines for people (text) or for machines (json)
    #[arg(long, env, global = true, value_enum, default_value = "text")]
    pub log_format: Format,
}

impl Settings {
    fn read_secrets(&mut self) -> Result<(), Wrong> {
        let variable = |name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        if let Some(text) = variable("GATEWAY_KEY") {
            let key = Key::parse(&text).map_err(|wrong| Wrong::new("GATEWAY_KEY", HIDDEN, wrong.to_string()))?;
            self.gateway_key = Some(key);
        }
        // Compose files pass an unset variable as an empty one. Without a secret there is no webhook.
        if let Some(text) = variable("GATEWAY_WEBHOOK_SECRET").filter(|text| !text.is_empty()) {
            self.webhook_secrets = Secrets::parse(&text)
                .map_err(|wrong| Wrong::new("GATEWAY_WEBHOOK_SECRET", HIDDEN, wrong.to_string()))?;
        }
        Ok(())
    }

    /// Whether the process seeds the demo.
    #[must_use]
    pub fn seeds_demo(&self) -> bool {
        self.demo.unwrap_or(self.database_url.is_none())
    }

    /// The origins that may call the API: those of `CORS_ORIGINS`, or with the demo any port of localhost.
    #[must_use]
    pub fn origins(&self) -> Vec<String> {
        match &self.cors_origins {
            Some(origins) => origins.clone(),
            // Pages from the same machine.
            None if self.seeds_demo() => vec!["http://localhost:*".to_owned(), "http://127.0.0.1:*".to_owned()],
            None => Vec::new(),
        }
    }
}

impl Command {
    /// Reads the command line and the environment.
    ///
    /// # Errors
    /// A wrong value, or `--help`. The text is already printed, and the process should exit with this code.
    pub fn read() -> Result<Self, ExitCode> {
        let mut command = Self::try_parse().map_err(|error| {
            match one_line(&error) {
                Some(line) => eprintln!("payments: {line}"),
                // If the terminal is gone, nobody can read the text.
                None => drop(error.print()),
            }
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        })?;
        let settings = &mut command.settings;
        // Compose files and unit files pass an unset variable as an empty one.
        settings.dev_postgres_dir.take_if(|dir| dir.as_os_str().is_empty());
        settings.read_secrets().map_err(|wrong| {
            eprintln!("payments: {wrong}");
            ExitCode::from(2)
        })?;
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
    let mut value = text(ContextKind::InvalidValue).unwrap_or_default();
    // It may contain a password, or be the gateway's key.
    if ["GATEWAY_URL", "SANDBOX_WEBHOOK_URL"].contains(&name.as_str()) && !value.is_empty() {
        HIDDEN.clone_into(&mut value);
    }
    let right = match (std::error::Error::source(error), error.get(ContextKind::ValidValue)) {
        (Some(right), _) => right.to_string(),
        (None, Some(ContextValue::Strings(valid))) => format!("it must be {}", valid.join(" or ")),
        (None, _) => "it must have a value".to_owned(),
    };
    Some(Wrong::new(&name, &value, right).to_string())
}
