//! Single flight: of the duplicates of one key in this process, one goes to the database and the others wait for it.
//!
//! It keeps duplicates off the connections; it is not what makes them safe. Processes don't share it, and a leader that
//! vanishes takes nothing with it: a follower takes its place.

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

/// Keys remembered as answered, half a mebibyte of them: at a thousand requests a second about a minute, when most retries
/// come.
const REMEMBERED: usize = 1 << 16;

/// Which keys this process answered lately, each in the one place that its hash has: a later key overwrites an earlier one.
/// A guess that saves a replay the transaction; never a decision.
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
    /// The provisional record that the leader met and is waiting by: what a follower answers whose own wait ends first.
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
    /// The leader ran out of patience while another process held the key.
    InFlight,
}

/// A request's place in its key's flight.
pub(super) enum Seat {
    Leader(Leader),
    Follower(Follower),
    /// The flight is another request's, under the same key: this one is refused at once.
    OtherRequest,
}

/// Goes to the database for all. Dropped without a landing, it leaves the seat to a follower.
pub(super) struct Leader {
    flights: Flights,
    address: Address,
    progress: watch::Sender<Progress>,
}

pub(super) struct Follower(watch::Receiver<Progress>);

impl Flights {
    pub(super) fn board(&self, address: &Address, fingerprint: [u8; 32]) -> Seat {
        match self.lock().entry(address.clone()) {
            Entry::Occupied(flight) if flight.get().fingerprint != fingerprint => Seat::OtherRequest,
            Entry::Occupied(flight) => Seat::Follower(Follower(flight.get().progress.clone())),
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

    /// Whether the key of this hash probably has a record: it may have gone, and another process may know better.
    pub(super) fn was_answered(&self, hash: i64) -> bool {
        self.0.answered.place(hash).load(Ordering::Relaxed) == hash
    }
}

impl Leader {
    pub(super) fn has_seen(&self, provisional: Record) {
        self.progress.send_modify(|progress| progress.seen = Some(Arc::new(provisional)));
    }

    pub(super) fn land(self, landing: Landing) {
        self.progress.send_modify(|progress| progress.landing = Some(landing));
        // Drop takes the flight off the map. Who boards from then on leads a flight of its own, and asks the database.
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.address);
    }
}

impl Follower {
    /// Waits for the leader. None where it vanished without a landing.
    pub(super) async fn landing(&mut self) -> Option<Landing> {
        let progress = self.0.wait_for(|progress| progress.landing.is_some()).await.ok()?;
        progress.landing.clone()
    }

    /// The provisional record that the leader is waiting by, if it met one.
    pub(super) fn seen(&self) -> Option<Arc<Record>> {
        self.0.borrow().seen.clone()
    }
}
