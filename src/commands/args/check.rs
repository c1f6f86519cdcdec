//! Checks the settings against the machine and the database server. The checks change nothing.

use std::net::{SocketAddr, TcpListener};

use diesel::connection::Connection;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::{Integer, Text};

use super::{Action, Settings};
use crate::db::{one_line, with_client_limits};
use crate::process::failpoint;
use crate::process::wrong::{HIDDEN, Wrong};
use stripe_gateway::{Stripe, WrongKey};

/// Connections of the sandbox gateway. A call holds a connection for a few milliseconds, so four are more than a demo
/// needs.
pub const SANDBOX_CONNECTIONS: u32 = 4;

/// Connections besides the pool: one migrates and seeds, one is for `/health/ready`, and one for an operator's `psql`.
const SPARE_CONNECTIONS: u32 = 3;

impl Settings {
    /// Checks every setting that the action uses. Returns the API's socket if the action is `serve`.
    ///
    /// # Errors
    /// The first setting that is wrong.
    pub fn check(&self, action: &Action) -> Result<Option<TcpListener>, Wrong> {
        check_failpoint()?;
        let (serves, is_sandbox) = (matches!(action, Action::Serve), matches!(action, Action::SandboxGateway));
        let listener = serves.then(|| listen("BIND", self.bind)).transpose()?;
        if is_sandbox || (serves && self.gateway_url.is_none()) {
            // This check gives the port back at once. The sandbox takes it when its tables are there.
            drop(listen("SANDBOX_BIND", self.sandbox_bind)?);
        }
        if let Some(url) = &self.database_url
            && !matches!(action, Action::Openapi)
        {
            check_server(&mut connect_to(url)?, self, action)?;
        }
        if matches!(action, Action::Serve | Action::Resolve | Action::Reconcile { .. }) {
            self.check_gateway()?;
        }
        if is_sandbox
            && let Some(url) = &self.sandbox_webhook_url
            && self.webhook_secrets.is_empty()
        {
            let right = "GATEWAY_WEBHOOK_SECRET must be set, to sign the events";
            return Err(Wrong::new("SANDBOX_WEBHOOK_URL", url, right));
        }
        Ok(listener)
    }

    /// Only the demo brings its own gateway. A guess here would resolve real charges at a gateway that knows nothing of
    /// them.
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
            (Some(url), Some(key)) => {
                Stripe::new(url, key).map(drop).map_err(|error| Wrong::new("GATEWAY_URL", url, error.to_string()))
            }
        }
    }
}

/// What a right `DATABASE_URL` looks like.
const RIGHT_URL: &str = "it must be a URL such as postgres://user:password@host/database, or libpq's key=value form. In a URL, \
                         percent-encode the password's special characters: %40 for @, %2F for /, %3A for :, %25 for %, %20 for a space";

/// How libpq's messages begin once it has understood the text. Its other messages repeat what it does not understand,
/// which may be part of a password.
const UNDERSTOOD: [&str; 4] = [
    "connection to server ",
    "could not translate host name ",
    // libpq 13.
    "could not connect to server",
    "invalid sslmode value: ",
];

fn connect_to(url: &str) -> Result<PgConnection, Wrong> {
    let wrong = |right: &str| Wrong::new("DATABASE_URL", HIDDEN, right);
    if !ends_its_password(url) {
        return Err(wrong(RIGHT_URL));
    }
    PgConnection::establish(&with_client_limits(url)).map_err(|error| {
        let words = one_line(&error.to_string());
        if UNDERSTOOD.iter().any(|begin| words.starts_with(begin)) {
            wrong(&format!("no PostgreSQL answers there: {words}"))
        } else {
            wrong(RIGHT_URL)
        }
    })
}

/// Whether the password of a URL ends where libpq takes it to end. If the password is not percent-encoded, libpq takes
/// its rest for a host or a port, and prints it.
fn ends_its_password(url: &str) -> bool {
    let rest = url.strip_prefix("postgres://").or(url.strip_prefix("postgresql://"));
    rest.is_none_or(|rest| {
        let user_and_password = rest.rsplit_once('@').map_or("", |(before, _)| before);
        !user_and_password.contains(['@', '/', '?']) && !rest.contains(char::is_whitespace)
    })
}

/// Checks that the database's encoding fits, and that the server allows enough connections.
///
/// # Errors
/// `DATABASE_URL` or `DB_POOL_SIZE` is wrong for this server.
pub fn check_server(conn: &mut PgConnection, settings: &Settings, action: &Action) -> Result<(), Wrong> {
    // The lowest limit of the server, the database and the user. -1 means no limit. The reserved connections don't count.
    let looked = diesel::dsl::sql::<(Text, Integer)>(
        "SELECT pg_encoding_to_char(encoding), least(
           current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
             - coalesce(current_setting('reserved_connections', true), '0')::int,
           nullif(datconnlimit, -1), nullif(rolconnlimit, -1))
         FROM pg_database, pg_roles WHERE datname = current_database() AND rolname = current_user",
    );
    let wrong = |right| Wrong::new("DATABASE_URL", HIDDEN, right);
    let (encoding, connections): (String, i32) =
        looked.get_result(conn).map_err(|error| wrong(format!("the server refuses the check: {error}")))?;
    if encoding != "UTF8" {
        let right = format!(
            "its encoding is {encoding}, and can't hold every customer's name: use a database made with CREATE DATABASE \
             payments TEMPLATE template0 ENCODING 'UTF8'"
        );
        return Err(wrong(right));
    }
    let allowed = u32::try_from(connections).unwrap_or(0);
    // With GATEWAY_URL, this process starts no sandbox.
    let others = SPARE_CONNECTIONS + if settings.gateway_url.is_none() { SANDBOX_CONNECTIONS } else { 0 };
    // Only these actions open a pool of DB_POOL_SIZE.
    if matches!(action, Action::Serve | Action::Resolve) && settings.db_pool_size + others > allowed {
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
                "something listens there already, perhaps this program: stop it, or choose another port".to_owned()
            }
            ErrorKind::AddrNotAvailable => "this machine has no such address: take 127.0.0.1 or 0.0.0.0".to_owned(),
            ErrorKind::PermissionDenied => "this user may not listen there: take a port from 1024 on".to_owned(),
            _ => format!("the program can't listen there: {error}"),
        };
        Wrong::new(name, &address.to_string(), right)
    })
}

/// `FAILPOINT` has no flag, because only tests use it.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A port where nobody listens, so that the machine refuses every well-formed URL.
    const NOBODY: &str = "127.0.0.1:1";

    #[test]
    fn libpqs_words_are_shown_if_it_has_understood_the_password() {
        for text in [
            format!("postgres://u:secret@{NOBODY}/db"),
            format!("postgres://u:s%40cret#secret:secret@{NOBODY}/db"),
            format!("postgresql://u@{NOBODY}/db?sslmode=disable&password=secret"),
            format!("postgres://u:secret@{NOBODY},[::1]:1/db"),
            "host=127.0.0.1 port=1 password = 'secret \\' secret' user=u".to_owned(),
            "host=127.0.0.1 port=1 password=se\\ cret".to_owned(),
        ] {
            let wrong = connect_to(&text).err().unwrap().to_string();
            let begin = "DATABASE_URL=\"..\" is wrong: no PostgreSQL answers there: connection to server at \"127.0.0.1\", port 1 ";
            assert!(wrong.starts_with(begin) && !wrong.contains("cret"), "{text}: {wrong}");
        }
        let wrong = connect_to("postgres://u:secret@127.0.0.1:1/db?sslmode=maybe").err().unwrap().to_string();
        assert!(wrong.ends_with("there: invalid sslmode value: \"maybe\""), "{wrong}");
        let wrong = connect_to("postgres://u:secret@%2Fnowhere/db").err().unwrap().to_string();
        assert!(wrong.contains("connection to server on socket \"/nowhere/"), "{wrong}");
    }

    #[test]
    fn nothing_is_shown_of_any_other_text() {
        for text in [
            "postgres://u:sec@ret@127.0.0.1:1/db",
            "postgres://u:sec/ret@127.0.0.1:1/db",
            "postgres://u:12/ret@127.0.0.1:1/db",
            "postgres://u:sec?ret@127.0.0.1:1/db",
            "postgres://u:12?ret@127.0.0.1:1/db",
            "postgres://u:sec%ret@127.0.0.1:1/db",
            "postgres://u:secret%00@127.0.0.1:1/db",
            "postgres://u:sec ret@127.0.0.1:1/db",
            "postgres://127.0.0.1:secret",
            "postgres://127.0.0.1:secret/db",
            "postgres://u@127.0.0.1:1/db?password=sec&ret",
            "postgres://u@127.0.0.1:1/db?password=sec&ret=x",
            "postgres://u@127.0.0.1:1/db?password=sec=ret",
            "postgres://u@127.0.0.1:1/db?password=sec@ret",
            "postgres://u@127.0.0.1:1/db?passwort=secret",
            "u:secret@127.0.0.1:1/db",
            "mysql://u:secret@127.0.0.1:1/db",
            "postgres:/u:secret@127.0.0.1:1/db",
            "host=127.0.0.1 port=1 password=sec ret user=u",
            "host=127.0.0.1 port=1 password=sec ret=x user=u",
            "host=127.0.0.1 port=1 password='secret user=u",
            "host=127.0.0.1 port=1 password='sec'ret user=u",
            "secret",
        ] {
            let wrong = connect_to(text).err().unwrap().to_string();
            assert!(wrong.starts_with("DATABASE_URL=\"..\" is wrong: it must be a URL "), "{text}: {wrong}");
            assert!(!wrong.contains("sec") && !wrong.contains("ret"), "{text}: {wrong}");
            assert!(wrong.contains("percent-encode") && wrong.contains("%40"), "{wrong}");
        }
    }
}
