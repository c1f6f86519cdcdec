//! Tells whether a call of the same key is under way in this process; a call leaves the set however it ends.
//!
//! It guarantees nothing across processes: there, the key's row does.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The keys whose calls are under way.
#[derive(Clone, Default)]
pub struct InFlight(Arc<Mutex<HashSet<String>>>);

/// A key's place in the set, given back when this is dropped: when the call is answered, fails, or loses its client.
pub struct Place {
    key: String,
    in_flight: InFlight,
}

impl InFlight {
    /// Takes the key's place, or `None` while another call has it.
    pub fn enter(&self, key: &str) -> Option<Place> {
        self.keys().insert(key.to_owned()).then(|| Place { key: key.to_owned(), in_flight: self.clone() })
    }

    fn keys(&self) -> MutexGuard<'_, HashSet<String>> {
        // An insert or a remove is whole or has not happened, so a panic elsewhere leaves nothing to fear here.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.in_flight.keys().remove(&self.key);
    }
}
