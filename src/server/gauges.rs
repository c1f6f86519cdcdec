//! The gauges that only the database knows: the backlog of charges and refunds, and how far behind the sweeper is.
//!
//! Guarantees: a scrape never waits for the database. A task in the background looks, and a scrape gets what the last look found.
//! If the database is away or silent, the gauges soon are missing: an old number would look like a new one. A look has its turn
//! as any account's work has, so it also ends while one account fills the pool.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::rt::time::sleep;
use diesel::pg::PgConnection;
use external_calls::Backlog;
use idempotency::Database as _;

use crate::db::{Db, NOTES};
use crate::http::ApiError;

/// The rest after a look. Prometheus scrapes every 5 to 60 s, so a scrape finds a look that is about as young as its neighbours.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The rest is at least this many times as long as the look took. After a long outage very many calls may be open, and counting
/// them must not take more than a tenth of one connection.
const RESTS_TIMES: u32 = 9;

/// Longer ago, a look says nothing about now. A look that meets a silent database ends after some ten seconds, and two of them
/// must fail in a row.
const STALE_AFTER: Duration = Duration::from_secs(30);

/// What the last look found. Clones share it.
#[derive(Clone, Default)]
pub struct Gauges(Arc<Mutex<Option<(Instant, Known)>>>);

/// What a look found.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The open charges and refunds.
    pub backlog: Backlog,
    /// How long ago the oldest record expired that is still there.
    pub sweep_lag: Duration,
}

impl Gauges {
    /// Looks for as long as the process lives.
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

    /// None: there was no look lately.
    pub fn known(&self) -> Option<Known> {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.filter(|(looked, _)| looked.elapsed() < STALE_AFTER).map(|(_, known)| known)
    }
}

fn look(conn: &mut PgConnection) -> Result<Known, ApiError> {
    Ok(Known { backlog: external_calls::backlog(conn)?, sweep_lag: idempotency::sweep_lag(conn)? })
}
