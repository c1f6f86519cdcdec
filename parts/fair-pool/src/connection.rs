// SPDX-License-Identifier: MIT OR Apache-2.0
//! A connection of the pool: when it is trusted and when it is closed.
//!
//! Guarantees: every connection has its time limits. A connection that a fault has spoiled does no more work: see
//! `server.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};
use diesel::pg::PgConnection;
use diesel::result::Error;
use idempotency::{Fault, fault, seeing_errors};

use super::cause::{Cause, words_of};
use super::server::Server;

/// A connection that was idle for longer is tested before its next use: a restart or a firewall may have cut it. After
/// a second of rest, one more round trip costs little.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// After this many pieces of work, a connection plans its statements again, and once more each time the number has
/// doubled.
///
/// PostgreSQL keeps the plan of a prepared statement until a table is analyzed, which may take minutes. A plan that was
/// made for an empty table reads all rows of an account to find one: on a fresh database, the last of 4,000 paid orders
/// cost PostgreSQL 5.8 ms each, and 4.4 ms with this. With the doubling, a connection has always made its plans after
/// at least half of its work so far.
const FIRST_PLANS_SERVE: u32 = 64;

/// A connection and its state.
pub(super) struct Session {
    conn: PgConnection,
    epoch: u64,
    works: u32,
    used: Instant,
    server: Arc<Server>,
}

impl Session {
    /// The kept connection if it is still good, else a fresh one.
    ///
    /// # Errors
    /// [`idempotency::Error::Unreachable`].
    pub fn open(server: &Arc<Server>, kept: Option<Self>) -> Result<Self, idempotency::Error> {
        if let Some(mut session) = kept
            && session.is_good()
        {
            return Ok(session);
        }
        let (conn, epoch) = server.connect()?;
        Ok(Self { conn, epoch, works: 0, used: Instant::now(), server: Arc::clone(server) })
    }

    /// Whether the connection may do more work. After a rest, one round trip shows whether it was cut.
    fn is_good(&mut self) -> bool {
        let rests = self.used.elapsed() > TRUSTED_FOR;
        self.is_current() && (!rests || self.watch(|conn| conn.batch_execute("SELECT 1")).is_ok())
    }

    pub fn run<R>(&mut self, work: impl FnOnce(&mut PgConnection) -> R) -> R {
        self.works = self.works.wrapping_add(1);
        if self.works >= FIRST_PLANS_SERVE && self.works.is_power_of_two() {
            // If this fails, the connection is dead, and the work reports the fault.
            let _ = self.conn.batch_execute("DISCARD PLANS");
        }
        self.watch(work)
    }

    /// Whether the connection may do more work: no later fault closes it, and no transaction is open.
    pub fn is_fit(&mut self) -> bool {
        self.used = Instant::now();
        self.is_current() && !AnsiTransactionManager::is_broken_transaction_manager(&mut self.conn)
    }

    fn is_current(&self) -> bool {
        self.epoch == self.server.epoch()
    }

    /// Runs work, and reports to [`Server`] the first statement that failed because of the server, and the first that
    /// spoiled the connection. Later statements, such as the ROLLBACK, fail too and are not reported. [`Server`] knows
    /// of the fault before the work can run again.
    fn watch<R>(&mut self, work: impl FnOnce(&mut PgConnection) -> R) -> R {
        let failed = Arc::new(AtomicBool::new(false));
        let (seen, server, epoch) = (Arc::clone(&failed), Arc::clone(&self.server), self.epoch);
        let mut told = None;
        let see = move |error: &Error| {
            let Some(cause) = Cause::of(error) else { return };
            let met = Some(fault(error));
            if told == met || told == Some(Fault::Reconnect) {
                return;
            }
            told = met;
            seen.store(true, Ordering::Relaxed);
            server.met(cause, || words_of(error));
            match (met, cause) {
                (Some(Fault::Reconnect), Cause::ReadOnly) => server.found_read_only(epoch),
                (Some(Fault::Reconnect), _) => server.close_up_to(epoch),
                _ => {}
            }
        };
        let result = seeing_errors(&mut self.conn, see, work);
        if !failed.load(Ordering::Relaxed) {
            self.server.served();
        }
        result
    }
}
