//! How a test acts in the middle of the work.

use std::sync::{Arc, Mutex, PoisonError};

use external_calls::Step;

/// A place in the code at which a test acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// In the second transaction, after the fence and before the service's writes.
    Apply,
    Step(Step),
}

type Deed = Box<dyn FnOnce() + Send>;

/// Notes each place, and runs a test's function once, at a place. The function may name the next place.
#[derive(Clone, Default)]
pub struct Hook {
    deed: Arc<Mutex<Option<(At, Deed)>>>,
    places: Arc<Mutex<Vec<At>>>,
}

impl Hook {
    pub fn once(&self, at: At, deed: impl FnOnce() + Send + 'static) {
        *self.deed.lock().unwrap() = Some((at, Box::new(deed)));
    }

    /// The places since the last look.
    pub fn places(&self) -> Vec<At> {
        std::mem::take(&mut *self.places.lock().unwrap())
    }

    pub fn reached(&self, at: At) {
        self.places.lock().unwrap().push(at);
        let mut hook = self.deed.lock().unwrap_or_else(PoisonError::into_inner);
        let due = hook.take_if(|(when, _)| *when == at);
        drop(hook);
        if let Some((_, deed)) = due {
            deed();
        }
    }
}
