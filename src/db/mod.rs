//! The database: the API's pool, its migrations, and jsonb columns. `parts/fair-pool` has the pool itself.

mod jsonb;
mod migrate;

use std::sync::Arc;

use diesel::pg::PgConnection;
use fair_pool::{Pool, Settings};
use uuid::Uuid;

pub use self::jsonb::Jsonb;
pub use self::migrate::{MigrateError, Migrations, migrate, unknown_migrations};
use crate::process::failpoint::InsideTheCrate;
use crate::process::logging;
pub use fair_pool::{AUTHENTICATION, Cause, NOBODY, NOTES, one_line};
use idempotency::{Database, Error, Failure, Observer, SingleFlight};

/// This program's name in PostgreSQL's views of its sessions.
const APPLICATION: &str = "payments";

/// A handle to the database: a pool whose work carries its request to another thread, so that each log line names the
/// request. Clones share the connections.
#[derive(Clone)]
pub struct Db(Pool);

impl Db {
    /// As [`Pool::start`].
    ///
    /// # Errors
    /// As [`Pool::start`].
    pub fn start(database_url: &str, size: u32) -> std::io::Result<Self> {
        // Only a debug build has failpoints.
        let failpoints = cfg!(debug_assertions).then(|| Arc::new(InsideTheCrate) as _);
        Self::start_observed(database_url, size, failpoints)
    }

    /// Like [`Db::start`], with an observer of each step of a request with a key.
    ///
    /// # Errors
    /// As [`Db::start`].
    pub fn start_observed(database_url: &str, size: u32, observer: Option<Arc<dyn Observer>>) -> std::io::Result<Self> {
        let (application_name, is_migrated) = (APPLICATION, migrate::is_migrated);
        Pool::start(Settings { database_url, application_name, size, is_migrated, observer }).map(Self)
    }

    /// As [`Pool::read`].
    ///
    /// # Errors
    /// As [`Pool::read`].
    pub async fn read<T: Send + 'static, E: Failure>(
        &self,
        account_id: Uuid,
        work: impl Fn(&mut PgConnection) -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<T, E> {
        let request = logging::request();
        self.0.read(account_id, move |conn| logging::within(request, || work(conn))).await
    }

    /// The pool, for readiness, its load and its outages. The log lines of work that runs on it directly would not name
    /// their request.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.0
    }
}

impl Database for Db {
    fn run<T, E>(
        &self,
        account_id: Uuid,
        work: impl FnOnce(&mut PgConnection) -> Result<T, E> + Send + 'static,
    ) -> impl Future<Output = Result<T, E>> + Send
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let request = logging::request();
        self.0.run(account_id, move |conn| logging::within(request, || work(conn)))
    }

    fn single_flight(&self) -> &SingleFlight {
        self.0.single_flight()
    }

    fn observer(&self) -> Option<Arc<dyn Observer>> {
        self.0.observer()
    }
}

/// Like [`fair_pool::with_client_limits`], for a connection beside the pool.
#[must_use]
pub fn with_client_limits(database_url: &str) -> String {
    fair_pool::with_client_limits(database_url, APPLICATION)
}
