//! The gateway that a command calls, and its mode (live or test money), which the database remembers.

use std::io::ErrorKind;

use actix_web::rt;
use diesel::pg::PgConnection;
use diesel::prelude::*;

use super::Fatal;
use crate::commands::args::{SANDBOX_CONNECTIONS, Settings};
use crate::schema::gateway_mode;
use stripe_gateway::{InvalidGatewayUrl, Key, Mode, Stripe};

/// A gateway: its base URL and its key.
pub(super) struct InUse {
    pub url: String,
    pub key: Key,
}

impl InUse {
    /// The gateway of the settings. None for the demo's sandbox.
    pub fn of(settings: &Settings) -> Option<Self> {
        // The settings' checks let no URL pass without a key.
        Some(Self { url: settings.gateway_url.clone()?, key: settings.gateway_key.clone()? })
    }

    /// A sandbox at this URL.
    pub fn sandbox(url: String) -> Self {
        Self { url, key: Key::of_sandbox() }
    }

    /// The gateway of the settings, or the demo's sandbox. If a sandbox already runs, for example beside a server, the command uses
    /// that sandbox. Otherwise the command starts one, on the current runtime.
    pub fn or_sandbox(settings: &Settings, url: &str) -> Result<Self, sandbox_gateway::Error> {
        if let Some(gateway) = Self::of(settings) {
            return Ok(gateway);
        }
        match sandbox_gateway::start(sandbox_config(settings, url, None)) {
            Ok(sandbox) => drop(rt::spawn(sandbox.server)),
            Err(sandbox_gateway::Error::Bind { source, .. }) if source.kind() == ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
        Ok(Self::sandbox(format!("http://{}", settings.sandbox_bind)))
    }

    /// Where its money moves.
    pub fn mode(&self) -> Mode {
        Mode::of(&self.url, &self.key)
    }

    pub fn client(&self) -> Result<Stripe, InvalidGatewayUrl> {
        Stripe::new(&self.url, &self.key)
    }
}

/// The sandbox of the settings.
pub(super) fn sandbox_config(
    settings: &Settings,
    url: &str,
    webhook: Option<sandbox_gateway::Webhook>,
) -> sandbox_gateway::Config {
    sandbox_gateway::Config {
        database_url: url.to_owned(),
        bind: settings.sandbox_bind,
        key_ttl: settings.sandbox_key_ttl,
        pool_size: SANDBOX_CONNECTIONS,
        webhook,
    }
}

/// Remembers the mode of the first gateway, and refuses any other: charges of one mode must never be sent to the
/// gateway of another, which would know nothing of them.
///
/// # Errors
/// The database has charges of another mode. The database's.
pub fn remember_mode(conn: &mut PgConnection, mode: Mode) -> Result<(), Fatal> {
    let first = diesel::insert_into(gateway_mode::table).values(gateway_mode::mode.eq(mode.as_str()));
    first.on_conflict_do_nothing().execute(conn).map_err(|error| unread(&error))?;
    check_mode(conn, mode)
}

/// Refuses a gateway whose mode is not the database's, and writes nothing. Without a mode there are no charges yet.
pub(super) fn check_mode(conn: &mut PgConnection, mode: Mode) -> Result<(), Fatal> {
    let known: Option<String> =
        gateway_mode::table.select(gateway_mode::mode).first(conn).optional().map_err(|error| unread(&error))?;
    let asked = mode.as_str();
    match known {
        Some(known) if known != asked => Err(format!(
            "this database works with a gateway in {known} mode, and GATEWAY_URL and GATEWAY_KEY name one in {asked} mode: \
             use the right gateway, or another database"
        )
        .into()),
        _ => Ok(()),
    }
}

fn unread(error: &diesel::result::Error) -> String {
    format!("can't read the gateway's mode: {error}")
}
