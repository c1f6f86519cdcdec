//! A run's own connection to the API's database. It only reads.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::dsl::{select, sql};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::Integer;
use idempotency::CONNECTION_LIMITS;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// How long a look may take. It takes milliseconds, and a run looks again after its next step. The connection's own limits end the
/// thread of a look that nobody waits for.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// What PostgreSQL must have left before a run: two replicas use six connections, and a person may want the rest.
const CONNECTIONS_LEFT: i32 = 10;

/// A connection that is opened when needed, and again after an error. Clones share it.
#[derive(Clone)]
pub struct Database {
    url: Arc<str>,
    connection: Arc<Mutex<Option<PgConnection>>>,
}

impl Database {
    /// The URL has the limits of a client.
    pub fn new(url: &str) -> Self {
        Self { url: url.into(), connection: Arc::default() }
    }

    /// The replicas must not take the last connections of the database, which others may need too.
    ///
    /// # Errors
    /// The database can't be read.
    pub async fn has_connections_left(&self) -> Result<bool, String> {
        let left = "current_setting('max_connections')::int - (SELECT count(*)::int FROM pg_stat_activity)";
        Ok(self.read(|conn| select(sql::<Integer>(left)).get_result::<i32>(conn)).await? >= CONNECTIONS_LEFT)
    }

    /// Reads on a thread that may block.
    ///
    /// # Errors
    /// The database can't be read in time. The next look takes a new connection.
    pub async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&mut PgConnection) -> QueryResult<T> + Send + 'static,
    ) -> Result<T, String> {
        let this = self.clone();
        let looked = spawn_blocking(move || {
            let mut held = this.connection.lock().unwrap_or_else(PoisonError::into_inner);
            let mut conn = match held.take() {
                Some(conn) => conn,
                None => this.connect()?,
            };
            let read = look(&mut conn).map_err(|error| error.to_string())?;
            *held = Some(conn);
            Ok(read)
        });
        let too_long = |_| "the database takes too long to read".to_owned();
        timeout(ANSWER_WITHIN, looked).await.map_err(too_long)?.map_err(|error| error.to_string())?
    }

    fn connect(&self) -> Result<PgConnection, String> {
        let mut conn = PgConnection::establish(&self.url).map_err(|error| error.to_string())?;
        conn.batch_execute(CONNECTION_LIMITS).map_err(|error| error.to_string())?;
        Ok(conn)
    }
}
