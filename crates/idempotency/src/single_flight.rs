// SPDX-License-Identifier: MIT OR Apache-2.0
//! Single flight: of the requests with one key in this process, one goes to the database, the leader. The others, the followers,
//! wait in memory for what the leader finds.
//!
//! The protocol is correct without single flight, by its primary key. Followers hold no connection, and each compares the
//! leader's record with its own request. If the leader's client leaves, nothing is lost: a follower leads next.

use std::any::Any;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::key::Address;
use crate::store::Record;

/// The requests in flight in this process, and the keys that it answered lately. Clones share their contents.
#[derive(Clone, Default)]
pub struct SingleFlight(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Bounded by the number of requests in flight.
    in_flight: Mutex<HashMap<Address, Flight>>,
    answered: Answered,
}

/// The leader of a key.
struct Flight {
    fingerprint: [u8; 32],
    progress: watch::Receiver<Progress>,
}

/// How far the leader is.
#[derive(Clone, Default)]
pub(crate) struct Progress {
    /// The provisional record that the leader has met and waits for. A follower whose wait ends first answers with it.
    pub provisional: Option<Arc<Record>>,
    result: Option<Shareable>,
}

/// What a leader leaves to its followers.
#[derive(Clone)]
pub(crate) enum Shareable {
    Record(Arc<Record>),
    /// The leader failed, and nothing was stored. The error is of the service's type.
    Failure(Arc<dyn Any + Send + Sync>),
    /// The leader's wait ended while another process had the key.
    InFlight,
}

/// A request's part in the flight of its key.
pub(crate) enum Part {
    Leader(Leader),
    Follower(Follower),
}

/// Goes to the database for all. If the leader is dropped without a result, a follower leads next.
pub(crate) struct Leader {
    single_flight: SingleFlight,
    address: Address,
    pub progress: watch::Sender<Progress>,
}

pub(crate) struct Follower {
    progress: watch::Receiver<Progress>,
    /// Whether the leader's request has another fingerprint than this one.
    pub is_other: bool,
}

impl SingleFlight {
    pub(crate) fn join(&self, address: &Address, fingerprint: [u8; 32]) -> Part {
        match self.in_flight().entry(address.clone()) {
            Entry::Occupied(flight) => {
                let Flight { fingerprint: leading, progress } = flight.get();
                Part::Follower(Follower { progress: progress.clone(), is_other: *leading != fingerprint })
            }
            Entry::Vacant(place) => {
                let (progress, receiver) = watch::channel(Progress::default());
                place.insert(Flight { fingerprint, progress: receiver });
                Part::Leader(Leader { single_flight: self.clone(), address: address.clone(), progress })
            }
        }
    }

    fn in_flight(&self) -> MutexGuard<'_, HashMap<Address, Flight>> {
        // No code that may panic runs under this lock, so a poisoned map is a whole map.
        self.0.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers that the key of this hash has a record.
    pub(crate) fn remember(&self, hash: i64) {
        self.0.answered.place(hash).store(hash, Ordering::Relaxed);
    }

    /// Whether the key of this hash probably has a record. The record may be gone, or another process may have made it.
    pub(crate) fn was_answered(&self, hash: i64) -> bool {
        self.0.answered.place(hash).load(Ordering::Relaxed) == hash
    }
}

impl Leader {
    pub fn share(self, result: Shareable) {
        self.progress.send_modify(|progress| progress.result = Some(result));
        // Drop takes the flight off the map, so the next request of the key leads.
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.single_flight.in_flight().remove(&self.address);
    }
}

impl Follower {
    /// Waits for the leader. None: the leader was dropped without a result.
    ///
    /// Another request than the leader's waits too, and is not refused at once: until there is a record, nobody knows whose key
    /// it is. Even a leader that has claimed the key may be the wrong one of the two, if its claim read the table just before
    /// another process recorded the right one.
    pub async fn result(&mut self) -> Option<Shareable> {
        let progress = self.progress.wait_for(|progress| progress.result.is_some()).await.ok()?;
        progress.result.clone()
    }

    /// The provisional record that the leader waits for, if it met one.
    pub fn provisional(&self) -> Option<Arc<Record>> {
        self.progress.borrow().provisional.clone()
    }
}

/// How many answered keys are remembered: 65,536, in half a mebibyte. At 1,000 requests a second a key is remembered for
/// about a minute. Most retries come within that minute.
const REMEMBERED: usize = 1 << 16;

/// Which keys this process answered lately. A key's hash names its one place, and a later key overwrites an earlier one.
/// The guess only chooses the cheaper first read. It decides nothing.
struct Answered(Box<[AtomicI64]>);

impl Default for Answered {
    fn default() -> Self {
        Self((0..REMEMBERED).map(|_| AtomicI64::new(0)).collect())
    }
}

impl Answered {
    fn place(&self, hash: i64) -> &AtomicI64 {
        // Two bytes of a SHA-256 are as good as any other two.
        let [.., high, low] = hash.to_be_bytes();
        &self.0[usize::from(u16::from_be_bytes([high, low]))]
    }
}
