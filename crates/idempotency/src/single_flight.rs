// SPDX-License-Identifier: MIT OR Apache-2.0
//! Single flight: of the requests with one key in this process, one, the leader, goes to the database. The others, the
//! followers, wait in memory for what the leader finds.
//!
//! The protocol is correct without single flight: the primary key sees to that. Followers hold no connection, and each
//! compares the leader's record with its own request. If the leader's client leaves, nothing is lost: a follower leads
//! next.

use std::any::Any;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::key::Address;
use crate::store::Record;

/// The requests in flight in this process, and the keys that it answered recently. Clones share their contents.
#[derive(Clone)]
pub struct SingleFlight(Arc<Shared>);

struct Shared {
    /// Bounded by the number of requests in flight.
    in_flight: Mutex<HashMap<Address, Flight>>,
    /// Which keys this process answered recently. A key's hash names its one slot, where a later key overwrites an
    /// earlier one. A wrong guess does no harm: it only chooses the first read.
    answered: Box<[AtomicI64]>,
}

/// How many answered keys are remembered: 65,536, in half a mebibyte. At 1,000 requests a second a key is remembered
/// for about a minute, within which most retries come.
const REMEMBERED: usize = 1 << 16;

/// The leader of a key.
struct Flight {
    fingerprint: [u8; 32],
    found: watch::Receiver<Option<Found>>,
}

/// What a leader has found: a record, or a failure of the service's type that left nothing stored. While the leader is
/// still waiting, it is the provisional record that the leader waits on.
pub(crate) type Found = Result<Arc<Record>, Arc<dyn Any + Send + Sync>>;

/// A request's part in the flight of its key.
pub(crate) enum Part {
    Leader(Leader),
    Follower(Follower),
}

/// Goes to the database for all. Its part ends when it is dropped. If it has found nothing by then, a follower leads
/// next.
pub(crate) struct Leader {
    single_flight: SingleFlight,
    address: Address,
    found: watch::Sender<Option<Found>>,
}

pub(crate) struct Follower {
    found: watch::Receiver<Option<Found>>,
    /// Whether the leader's request has another fingerprint than this one.
    pub is_other: bool,
}

impl Default for SingleFlight {
    fn default() -> Self {
        let answered = (0..REMEMBERED).map(|_| AtomicI64::new(0)).collect();
        Self(Arc::new(Shared { in_flight: Mutex::default(), answered }))
    }
}

impl SingleFlight {
    pub(crate) fn join(&self, address: &Address, fingerprint: [u8; 32]) -> Part {
        match self.in_flight().entry(address.clone()) {
            Entry::Occupied(flight) => {
                let Flight { fingerprint: leading, found } = flight.get();
                Part::Follower(Follower { found: found.clone(), is_other: *leading != fingerprint })
            }
            Entry::Vacant(place) => {
                let (found, receiver) = watch::channel(None);
                place.insert(Flight { fingerprint, found: receiver });
                Part::Leader(Leader { single_flight: self.clone(), address: address.clone(), found })
            }
        }
    }

    fn in_flight(&self) -> MutexGuard<'_, HashMap<Address, Flight>> {
        // No code that may panic runs under this lock, so a poisoned map is still consistent.
        self.0.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers that the key of this hash has a record.
    pub(crate) fn remember(&self, hash: i64) {
        self.place(hash).store(hash, Ordering::Relaxed);
    }

    /// Whether the key of this hash probably has a record. The record may be gone, or another process may have made it.
    pub(crate) fn was_answered(&self, hash: i64) -> bool {
        self.place(hash).load(Ordering::Relaxed) == hash
    }

    fn place(&self, hash: i64) -> &AtomicI64 {
        // Any two bytes of a SHA-256 are as good as any others.
        let [.., high, low] = hash.to_be_bytes();
        &self.0.answered[usize::from(u16::from_be_bytes([high, low]))]
    }
}

impl Leader {
    pub fn share(&self, found: Found) {
        self.found.send_replace(Some(found));
    }
}

impl Drop for Leader {
    /// The next request of the key leads. The channel is closed after this, and wakes the followers.
    fn drop(&mut self) {
        self.single_flight.in_flight().remove(&self.address);
    }
}

impl Follower {
    /// Waits until the leader ends.
    ///
    /// A request that differs from the leader's waits too, and is not refused at once: until there is a record, nobody
    /// knows whose key it is. Even a leader that has claimed the key may be the wrong one, if its claim read the table
    /// just before another process recorded the right one.
    pub async fn until_leader_ends(&mut self) {
        // Only a closed channel ends this wait.
        let _ = self.found.wait_for(|_| false).await;
    }

    /// What the leader has found so far.
    pub fn found(&self) -> Option<Found> {
        self.found.borrow().clone()
    }
}
