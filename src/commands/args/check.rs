//! Checks the settings against the machine and the database server. The checks change nothing.

use std::net::{SocketAddr, TcpListener};

use diesel::connection::Connection;
use diesel::deserialize::QueryableByName;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::{Integer, Text};

use super::wrong::{HIDDEN, Wrong};
use super::{Action, Settings, database_url};
use crate::db::with_client_limits;
use crate::gateway::{Stripe, WrongKey};
use crate::process::failpoint;

/// Connections of the sandbox gateway. A call holds a connection for some milliseconds, so four are more than a demo needs.
pub const SANDBOX_CONNECTIONS: u32 = 4;

/// Connections beside the pool: one migrates and seeds, one is for `/health/ready`, and one is for an operator's `psql`.
const SPARE_CONNECTIONS: u32 = 3;

impl Settings {
    /// Checks every setting that the action uses. Returns the API's socket if the action is `serve`.
    ///
    /// # Errors
    /// The first setting that is wrong.
    pub fn check(&self, action: &Action) -> Result<Option<TcpListener>, Wrong> {
        check_failpoint()?;
        let starts_sandbox = match action {
            Action::Serve => self.gateway_url.is_none(),
            Action::SandboxGateway => true,
            _ => false,
        };
        if starts_sandbox && matches!(action, Action::Serve) && self.bind == self.sandbox_bind && self.bind.port() != 0
        {
            let right =
                "it is BIND's address, too: the sandbox gateway needs another address, for example 127.0.0.1:8081";
            return Err(Wrong::new("SANDBOX_BIND", &self.sandbox_bind.to_string(), right));
        }
        let listener = match action {
            Action::Serve => Some(listen("BIND", self.bind)?),
            _ => None,
        };
        if starts_sandbox {
            // This check gives the port back at once. The sandbox takes the port when its tables are there.
            drop(listen("SANDBOX_BIND", self.sandbox_bind)?);
        }
        if let Some(url) = &self.database_url
            && !matches!(action, Action::Openapi)
        {
            check_server(&mut connect_to(url)?, self, action, url)?;
        }
        if matches!(action, Action::Serve | Action::Resolve | Action::Reconcile { .. }) {
            self.check_gateway()?;
        }
        if matches!(action, Action::SandboxGateway)
            && let Some(url) = &self.sandbox_webhook_url
            && self.webhook_secrets.is_empty()
        {
            return Err(Wrong::new(
                "SANDBOX_WEBHOOK_URL",
                url,
                "GATEWAY_WEBHOOK_SECRET must be set, to sign the events",
            ));
        }
        Ok(listener)
    }

    /// Only the demo has a gateway of its own. A guess here would resolve real charges at a gateway that knows nothing of them.
    fn check_gateway(&self) -> Result<(), Wrong> {
        match (&self.gateway_url, &self.gateway_key) {
            (None, None) if self.seeds_demo() => Ok(()),
            (None, _) => {
                let right = "without the demo it must be set: https://api.stripe.com, or a sandbox gateway's URL";
                Err(Wrong::new("GATEWAY_URL", "", right))
            }
            (Some(_), None) => Err(Wrong::new("GATEWAY_KEY", "", WrongKey.to_string())),
            (Some(_), Some(key)) if key.is_live() && self.seeds_demo() => Err(Wrong::new(
                "GATEWAY_KEY",
                HIDDEN,
                "a live key can't be used with the demo, whose API keys everybody knows",
            )),
            (Some(url), Some(key)) => match Stripe::new(url, key) {
                Ok(_) => Ok(()),
                Err(error) => Err(Wrong::new("GATEWAY_URL", url, error.to_string())),
            },
        }
    }

    /// The most connections that this process opens, without the spare ones.
    fn connections(&self) -> u32 {
        // With GATEWAY_URL, this process starts no sandbox.
        self.db_pool_size + if self.gateway_url.is_none() { SANDBOX_CONNECTIONS } else { 0 }
    }
}

fn connect_to(url: &str) -> Result<PgConnection, Wrong> {
    let shown = database_url::shown(url)?;
    PgConnection::establish(&with_client_limits(url)).map_err(|error| {
        let cause = on_one_line(&error.to_string());
        Wrong::new(database_url::NAME, &shown, format!("no PostgreSQL answers there: {cause}"))
    })
}

/// Checks that the database's encoding fits, and that the server allows enough connections.
///
/// # Errors
/// If `DATABASE_URL` or `DB_POOL_SIZE` is wrong for this server.
pub fn check_server(conn: &mut PgConnection, settings: &Settings, action: &Action, url: &str) -> Result<(), Wrong> {
    #[derive(QueryableByName)]
    struct Server {
        #[diesel(sql_type = Text)]
        encoding: String,
        #[diesel(sql_type = Integer)]
        connections: i32,
    }
    // The lowest limit of the server, the database and the user. -1 means no limit. The reserved connections don't count.
    let looked = diesel::sql_query(
        "SELECT pg_encoding_to_char(encoding) AS encoding, least(
           current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
             - coalesce(current_setting('reserved_connections', true), '0')::int,
           nullif(datconnlimit, -1), nullif(rolconnlimit, -1)) AS connections
         FROM pg_database, pg_roles WHERE datname = current_database() AND rolname = current_user",
    );
    let wrong = |right| match database_url::shown(url) {
        Ok(shown) => Wrong::new(database_url::NAME, &shown, right),
        Err(wrong) => wrong,
    };
    let server: Server =
        looked.get_result(conn).map_err(|error| wrong(format!("the server refuses the check: {error}")))?;
    if server.encoding != "UTF8" {
        let right = format!(
            "its encoding is {}, and can't hold every customer's name: use a database made with CREATE DATABASE \
             payments TEMPLATE template0 ENCODING 'UTF8'",
            server.encoding
        );
        return Err(wrong(right));
    }
    let allowed = u32::try_from(server.connections).unwrap_or(0);
    let wanted = settings.connections() + SPARE_CONNECTIONS;
    // Only these actions open a pool of DB_POOL_SIZE.
    if matches!(action, Action::Serve | Action::Resolve) && wanted > allowed {
        let others = wanted - settings.db_pool_size;
        let right = format!(
            "the server allows {allowed} connections (max_connections, or the database's or the user's limit): it must be \
             {} or less, because the process needs {others} more beside the pool",
            allowed.saturating_sub(others)
        );
        return Err(Wrong::new("DB_POOL_SIZE", &settings.db_pool_size.to_string(), right));
    }
    Ok(())
}

fn listen(name: &str, address: SocketAddr) -> Result<TcpListener, Wrong> {
    use std::io::ErrorKind;
    TcpListener::bind(address).map_err(|error| {
        let right = match error.kind() {
            ErrorKind::AddrInUse => {
                "another process listens there already (this program?): stop that process, or take another port"
                    .to_owned()
            }
            ErrorKind::AddrNotAvailable => "this machine has no such address: take 127.0.0.1 or 0.0.0.0".to_owned(),
            ErrorKind::PermissionDenied => "this user may not listen there: take a port from 1024 on".to_owned(),
            _ => format!("the program can't listen there: {error}"),
        };
        Wrong::new(name, &address.to_string(), right)
    })
}

/// `FAILPOINT` has no flag, because it is a tool of tests.
fn check_failpoint() -> Result<(), Wrong> {
    let Some(point) = std::env::var_os("FAILPOINT").filter(|point| !point.is_empty()) else { return Ok(()) };
    let point = point.to_string_lossy();
    if !cfg!(debug_assertions) {
        return Err(Wrong::new("FAILPOINT", &point, "a release build has no failpoints: unset it"));
    }
    if failpoint::POINTS.contains(&&*point) {
        return Ok(());
    }
    Err(Wrong::new("FAILPOINT", &point, format!("it must be one of {}", failpoint::POINTS.join(", "))))
}

/// Joins the lines of libpq's messages.
fn on_one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}
