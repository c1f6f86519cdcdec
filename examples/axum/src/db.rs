//! Where transactions run: a pool of deadpool. It closes a connection that `watched` has marked, since its check asks Diesel.

use std::time::Duration;

use deadpool_diesel::postgres::{Hook, HookError, Manager, Pool};
use deadpool_diesel::{Connection, Runtime, Timeouts};
use diesel::connection::SimpleConnection;
use diesel::pg::PgConnection;
use idempotency::{CONNECTION_LIMITS, Database, Error, SingleFlight, watched};
use uuid::Uuid;

#[derive(Clone)]
pub struct Db {
    pool: Pool,
    single_flight: SingleFlight,
}

impl Db {
    pub fn open(url: &str) -> Self {
        let limits = Hook::async_fn(|conn: &mut Connection<PgConnection>, _| {
            Box::pin(async move {
                let set = conn.interact(|conn| conn.batch_execute(CONNECTION_LIMITS)).await;
                set.map_err(|error| HookError::message(error.to_string()))?
                    .map_err(|error| HookError::message(error.to_string()))
            })
        });
        // Clients give up after some ten seconds, so refuse early, with 503 and Retry-After.
        let two_seconds = Some(Duration::from_secs(2));
        let pool = Pool::builder(Manager::new(url, Runtime::Tokio1))
            .max_size(4)
            .timeouts(Timeouts { wait: two_seconds, create: two_seconds, recycle: two_seconds })
            .runtime(Runtime::Tokio1)
            .post_create(limits)
            .build()
            .expect("the pool's settings");
        Self { pool, single_flight: SingleFlight::default() }
    }
}

impl Database for Db {
    async fn run<T, E>(
        &self,
        _account_id: Uuid,
        work: impl FnOnce(&mut PgConnection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let conn = self.pool.get().await.map_err(|error| Error::Unreachable(error.to_string()))?;
        let end = conn.interact(|conn| watched(conn, work).0).await;
        end.unwrap_or_else(|_| Err(Error::Panicked.into()))
    }

    fn single_flight(&self) -> &SingleFlight {
        &self.single_flight
    }
}
