//! Single flight: of the requests with one key in this process, one goes to the database, the leader. The others wait for
//! the leader's answer in memory, the followers.
//!
//! Guarantees: followers hold no connection. Each follower compares the leader's record with its own request.
//!
//! The protocol is correct without single flight, by its primary key. Each process has its own flights. If the leader's client
//! leaves, nothing is lost: a follower leads next.

use std::any::Any;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::key::Address;
use super::store::Record;

/// The keys in flight in this process, and those answered lately.
#[derive(Clone, Default)]
pub struct Flights(Arc<Shared>);

type InFlight = HashMap<Address, Flight>;

/// One key's requests in this process.
struct Flight {
    /// Of the leader's request.
    fingerprint: [u8; 32],
    progress: watch::Receiver<Progress>,
}

#[derive(Default)]
struct Shared {
    /// Bounded by the number of requests under way.
    in_flight: Mutex<InFlight>,
    answered: Answered,
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

/// How far a flight is.
#[derive(Clone, Default)]
struct Progress {
    /// The leader's transaction has claimed the key: its body runs.
    holds_key: bool,
    /// The provisional record that the leader has met and waits for. If a follower's wait ends first, the follower answers
    /// with it.
    seen: Option<Arc<Record>>,
    landing: Option<Landing>,
}

/// What a leader leaves to its followers.
#[derive(Clone)]
pub(super) enum Landing {
    /// The record as it is now.
    Record(Arc<Record>),
    /// The leader failed, and nothing was stored. The error is the caller's type.
    Failed(Arc<dyn Any + Send + Sync>),
    /// The leader's wait ended while another process held the key.
    InFlight,
    /// The leader is another request under the same key, and holds the key.
    HeldByOther,
}

/// A request's place in its key's flight.
pub(super) enum Seat {
    Leader(Leader),
    Follower(Follower),
}

/// Goes to the database for all. If the leader is dropped without a landing, a follower leads next.
pub(super) struct Leader {
    flights: Flights,
    address: Address,
    progress: watch::Sender<Progress>,
}

pub(super) struct Follower {
    progress: watch::Receiver<Progress>,
    /// Whether the leader's request has another fingerprint than this one.
    pub is_other: bool,
}

impl Flights {
    pub(super) fn board(&self, address: &Address, fingerprint: [u8; 32]) -> Seat {
        match self.lock().entry(address.clone()) {
            Entry::Occupied(flight) => {
                let Flight { fingerprint: leading, progress } = flight.get();
                Seat::Follower(Follower { progress: progress.clone(), is_other: *leading != fingerprint })
            }
            Entry::Vacant(place) => {
                let (progress, receiver) = watch::channel(Progress::default());
                place.insert(Flight { fingerprint, progress: receiver });
                Seat::Leader(Leader { flights: self.clone(), address: address.clone(), progress })
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, InFlight> {
        // No code that may panic runs under this lock, so a poisoned map is a whole map.
        self.0.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers that the key of this hash has a record.
    pub(super) fn remember(&self, hash: i64) {
        self.0.answered.place(hash).store(hash, Ordering::Relaxed);
    }

    /// Whether the key of this hash probably has a record. The record may be gone, or be made by another process.
    pub(super) fn was_answered(&self, hash: i64) -> bool {
        self.0.answered.place(hash).load(Ordering::Relaxed) == hash
    }
}

impl Leader {
    /// To be called when the leader's transaction has claimed the key.
    pub(super) fn on_claim(&self) -> impl FnOnce() + Send + use<> {
        let progress = self.progress.clone();
        move || progress.send_modify(|progress| progress.holds_key = true)
    }

    /// To be called when the leader's transaction rolled back and will run again: another process may claim the key first.
    pub(super) fn has_let_go(&self) {
        self.progress.send_modify(|progress| progress.holds_key = false);
    }

    pub(super) fn has_seen(&self, provisional: Record) {
        self.progress.send_modify(|progress| progress.seen = Some(Arc::new(provisional)));
    }

    pub(super) fn land(self, landing: Landing) {
        self.progress.send_modify(|progress| progress.landing = Some(landing));
        // Drop takes the flight off the map. The next request of the key leads a flight of its own.
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.address);
    }
}

impl Follower {
    /// Waits for the leader. None: the leader was dropped without a landing.
    ///
    /// On purpose: another request is refused only when the leader *holds* the key. Before, nobody knows whose key it is: the
    /// leader may be the wrong one of the two, and then the leader's record is this request's own.
    pub(super) async fn landing(&mut self) -> Option<Landing> {
        let is_other = self.is_other;
        let knows = |progress: &Progress| progress.landing.is_some() || (is_other && progress.holds_key);
        let progress = self.progress.wait_for(knows).await.ok()?;
        Some(progress.landing.clone().unwrap_or(Landing::HeldByOther))
    }

    /// The provisional record that the leader waits for, if the leader met one.
    pub(super) fn seen(&self) -> Option<Arc<Record>> {
        self.progress.borrow().seen.clone()
    }
}
