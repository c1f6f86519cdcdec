//! The API keys that this process found a moment ago, and when each was last used.
//!
//! Guarantees: no request waits until its key's use is recorded. A background task records the uses, each in one
//! statement, at most once a minute for a key.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix_web::rt::time::sleep;
use diesel::dsl::now;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::Timestamptz;
use idempotency::{Database as _, interval};

use super::Account;
use crate::db::{Db, NOTES};
use crate::http::ApiError;
use crate::schema::api_keys;

/// How long a process trusts a key that it found, before the process looks the key up again.
pub const BELIEVED_FOR: Duration = Duration::from_secs(10);

/// The most keys that a process remembers, some 100 bytes each. One process serves fewer accounts within ten seconds.
const REMEMBERED_KEYS: usize = 10_000;

/// How often uses are written. A process that is killed loses the uses since the last time, so this is short.
const WRITE_EVERY: Duration = Duration::from_secs(5);

/// A key's use is written again only after this time: an operator wants to know whether a key is still in use, and a
/// minute is close enough.
const NOTED_FOR: Duration = Duration::from_secs(60);

/// How many keys are written at once. Each takes about a millisecond, so the work is far from its time limit.
const WRITTEN_AT_ONCE: usize = 500;

/// The keys that were found within [`BELIEVED_FOR`]. Clones share them.
#[derive(Clone, Default)]
pub struct KnownKeys(Arc<Mutex<Found>>);

/// What is known of each key's hash.
type Found = HashMap<[u8; 32], Known>;

struct Known {
    account: Account,
    found_at: Instant,
    /// A request came with the key, and no statement has written that yet.
    used: bool,
    written_at: Option<Instant>,
}

impl KnownKeys {
    /// The account of a key that a request came with.
    pub(super) fn get(&self, hash: &[u8; 32]) -> Option<Account> {
        let mut found = self.lock();
        let known = found.get_mut(hash).filter(|known| known.found_at.elapsed() < BELIEVED_FOR)?;
        known.used = true;
        Some(known.account)
    }

    /// Remembers a live key that a request came with.
    pub(super) fn insert(&self, hash: [u8; 32], account: Account) {
        let mut found = self.lock();
        if found.len() >= REMEMBERED_KEYS && !found.contains_key(&hash) {
            // Rare, and the keys come back with their next requests.
            found.clear();
        }
        let written_at = found.get(&hash).and_then(|known| known.written_at);
        found.insert(hash, Known { account, found_at: Instant::now(), used: true, written_at });
    }

    /// Writes uses while the process lives.
    pub async fn keep_uses_written(self, db: Db) {
        loop {
            sleep(WRITE_EVERY).await;
            for hashes in self.to_write().chunks(WRITTEN_AT_ONCE) {
                let uses = hashes.to_vec();
                // A use that could not be written is written later.
                if db.run(NOTES, move |conn| write(conn, &uses)).await.is_ok() {
                    self.written(hashes);
                }
            }
        }
    }

    fn to_write(&self) -> Vec<[u8; 32]> {
        let is_old = |known: &Known| known.written_at.is_none_or(|at| at.elapsed() >= NOTED_FOR);
        let found = self.lock();
        found.iter().filter(|(_, known)| known.used && is_old(known)).map(|(hash, _)| *hash).collect()
    }

    fn written(&self, hashes: &[[u8; 32]]) {
        let mut found = self.lock();
        for hash in hashes {
            if let Some(known) = found.get_mut(hash) {
                (known.used, known.written_at) = (false, Some(Instant::now()));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Found> {
        // No code that may panic runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A statement for each key, so that two replicas never deadlock. If another replica has written the key's use
/// recently, the statement changes nothing.
fn write(conn: &mut PgConnection, hashes: &[[u8; 32]]) -> Result<(), ApiError> {
    let clock = now.into_sql::<Timestamptz>();
    for hash in hashes {
        let is_old =
            api_keys::last_used_at.is_null().or(api_keys::last_used_at.le((clock - interval(NOTED_FOR)).nullable()));
        diesel::update(api_keys::table.find(hash.as_slice()).filter(is_old.assume_not_null()))
            .set(api_keys::last_used_at.eq(clock.nullable()))
            .execute(conn)?;
    }
    Ok(())
}
