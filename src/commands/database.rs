//! The database in use: the one that `DATABASE_URL` names, or the local cluster.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::commands::args::{Action, Settings, check_server};
use crate::db::with_client_limits;
use dev_postgres::{Cluster, Options};
use diesel::connection::{Connection, SimpleConnection};
use diesel::pg::PgConnection;

use super::Fatal;

/// The database's name in the local cluster.
const LOCAL: &str = "payments";

/// The time between two checks that the local server is alive. A check costs one read of `/proc`.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The time between two log lines about a server that can't be started. Whoever follows the log must see that the fault
/// persists.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// The database in use. `cluster` is the local cluster, if that is where the database is. Its drop stops it if this process
/// started it; the data stays.
pub struct Database {
    pub url: String,
    pub cluster: Option<Cluster>,
}

impl Database {
    /// Without `DATABASE_URL`, finds or creates the local cluster.
    pub fn of(settings: &Settings, action: &Action) -> Result<Self, Fatal> {
        if let Some(url) = settings.database_url.clone() {
            return Ok(Self { url, cluster: None });
        }
        let cluster = dev_postgres::start(&Options::kept(settings.dev_postgres_dir.as_deref())?)?;
        cluster.create_database(LOCAL)?;
        let url = cluster.url(LOCAL);
        check_server(&mut PgConnection::establish(&url)?, settings, action)?;
        Ok(Self { url, cluster: Some(cluster) })
    }

    /// Starts the local server again if it has died. Returns when the sender is dropped.
    pub fn keep_alive(&self, until: &Receiver<()>) {
        let Some(cluster) = &self.cluster else { return };
        let mut told: Option<Instant> = None;
        while let Err(RecvTimeoutError::Timeout) = until.recv_timeout(LOOK_EVERY) {
            match cluster.revive() {
                Ok(true) => log::warn!("the local PostgreSQL had died; now it runs again, with its data"),
                Ok(false) => told = None,
                Err(error) if told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) => {
                    log::error!("the local PostgreSQL has died and can't be started; the next try follows: {error}");
                    told = Some(Instant::now());
                }
                Err(_) => {}
            }
        }
    }
}

/// A connection for a command, with the same limits as the API's connections.
pub fn connect(url: &str) -> Result<PgConnection, Fatal> {
    let mut conn = PgConnection::establish(&with_client_limits(url))?;
    conn.batch_execute(idempotency::CONNECTION_LIMITS)?;
    Ok(conn)
}
