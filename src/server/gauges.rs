//! The gauges that need the database: the backlog of charges and refunds, and how far behind the sweeper is.
//!
//! Guarantees: a scrape never waits for the database. A background task looks, and a scrape gets what the last look
//! found. If the database is away or silent, the gauges soon disappear, since an old number would pass for a new one. A
//! look gets its turn like any account's work, so it succeeds even while one account fills the pool.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::rt::time::sleep;
use diesel::pg::PgConnection;
use external_calls::Backlog;
use idempotency::Database as _;

use crate::db::{Db, NOTES};
use crate::http::ApiError;

/// The pause after a look. Prometheus scrapes every 5 to 60 s, so these numbers are about as fresh as the others in a
/// scrape.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The pause is at least this many times as long as the look took. After a long outage very many calls may be open, and
/// counting them must not use more than a tenth of one connection.
const RESTS_TIMES: u32 = 9;

/// An older look says nothing about the present. A look at a silent database ends after some ten seconds, so two in a
/// row must fail.
const STALE_AFTER: Duration = Duration::from_secs(30);

/// What the last look found. Clones share it.
#[derive(Clone, Default)]
pub struct Gauges(Arc<Mutex<Option<(Instant, Known)>>>);

/// What a look found.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The open charges and refunds.
    pub backlog: Backlog,
    /// How long ago the oldest remaining record expired.
    pub sweep_lag: Duration,
}

impl Gauges {
    /// Looks while the process lives.
    pub async fn keep_fresh(self, db: Db) {
        loop {
            let began = Instant::now();
            // In an outage every look fails, and the pool logs the outage.
            if let Ok(known) = db.run(NOTES, look).await {
                *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), known));
            }
            sleep(LOOK_EVERY.max(began.elapsed() * RESTS_TIMES)).await;
        }
    }

    /// None if no recent look succeeded.
    pub fn known(&self) -> Option<Known> {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.filter(|(looked, _)| looked.elapsed() < STALE_AFTER).map(|(_, known)| known)
    }
}

fn look(conn: &mut PgConnection) -> Result<Known, ApiError> {
    Ok(Known { backlog: external_calls::backlog(conn)?, sweep_lag: idempotency::sweep_lag(conn)? })
}
