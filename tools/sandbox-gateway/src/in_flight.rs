//! The set of keys whose calls are in flight in this process.
//!
//! Guarantees: a call leaves the set whenever it ends, even by a fault. Not guaranteed: anything across processes,
//! where the lock on the key's row decides.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The keys whose calls are in flight.
#[derive(Clone, Default)]
pub struct InFlight(Arc<Mutex<HashSet<String>>>);

/// A key's place in the set. Dropping it gives the place back: when the call is answered, fails, or loses its client.
pub struct Place {
    key: String,
    in_flight: InFlight,
}

impl InFlight {
    /// Takes the key's place. `None` while another call has the place.
    pub fn enter(&self, key: &str) -> Option<Place> {
        self.keys().insert(key.to_owned()).then(|| Place { key: key.to_owned(), in_flight: self.clone() })
    }

    fn keys(&self) -> MutexGuard<'_, HashSet<String>> {
        // An insert or a remove is never half done, so the set is consistent even if the lock is poisoned.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.in_flight.keys().remove(&self.key);
    }
}
