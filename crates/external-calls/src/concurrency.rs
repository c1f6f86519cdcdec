// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many calls the resolver makes at once, and for whom.
//!
//! Guarantees: external calls that keep failing take at most half of the slots, so that a first retry finds a free slot
//! while other calls hang. One account takes at most three quarters of all slots, and three quarters of that half.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use uuid::Uuid;

/// From this attempt on, an external call counts as one that keeps failing. The request itself takes the first lease,
/// and a lost answer explains a second one. A third lease means that something is wrong outside.
const KEEPS_FAILING: i32 = 3;

/// The slots of one process. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    at_once: usize,
    in_flight: Arc<Mutex<Vec<InFlight>>>,
    freed: Arc<Notify>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct InFlight {
    account_id: Uuid,
    /// Whether the external call keeps failing.
    fails: bool,
}

/// The right to make one call, until dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Slots,
    this: InFlight,
}

impl Slots {
    pub fn new(at_once: usize) -> Self {
        Self { at_once, in_flight: Arc::default(), freed: Arc::default() }
    }

    /// None if no slot is free for this external call.
    pub fn try_begin(&self, account_id: Uuid, attempts: i32) -> Option<Slot> {
        let this = InFlight { account_id, fails: attempts >= KEEPS_FAILING };
        let mut in_flight = self.lock();
        // At most `at_once` calls are counted.
        let is_free = |which: fn(&&InFlight) -> bool, of: usize| {
            let all = in_flight.iter().filter(which);
            let of_account = all.clone().filter(|call| call.account_id == this.account_id);
            all.clone().count() < of && of_account.count() < of - of / 4
        };
        if !is_free(|_| true, self.at_once) || (this.fails && !is_free(|call| call.fails, self.at_once / 2)) {
            return None;
        }
        in_flight.push(this);
        Some(Slot { slots: self.clone(), this })
    }

    /// Waits until a slot is free for this external call.
    pub async fn begin(&self, account_id: Uuid, attempts: i32) -> Slot {
        loop {
            // Registered before the check, so that a call that ends in between is not missed.
            let freed = self.freed.notified();
            if let Some(slot) = self.try_begin(account_id, attempts) {
                return slot;
            }
            freed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<InFlight>> {
        // No code that may panic runs under this lock, so a poisoned list is still consistent.
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut in_flight = self.slots.lock();
        if let Some(place) = in_flight.iter().position(|other| *other == self.this) {
            in_flight.swap_remove(place);
        }
        drop(in_flight);
        self.slots.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn begin_all(slots: &Slots, account: u128, attempts: i32) -> Vec<Slot> {
        std::iter::from_fn(|| slots.try_begin(Uuid::from_u128(account), attempts)).collect()
    }

    #[test]
    fn each_account_and_what_keeps_failing_leave_calls_to_others() {
        let slots = Slots::new(64);
        assert_eq!(begin_all(&slots, 1, 1).len(), 48);

        let failing_of_one = begin_all(&slots, 1, 3);
        let failing_of_all = begin_all(&slots, 2, 9);
        assert_eq!((failing_of_one.len(), failing_of_all.len()), (24, 8));
        let first_of_one = begin_all(&slots, 1, 2);
        let first_of_all = begin_all(&slots, 2, 1);
        assert_eq!((first_of_one.len(), first_of_all.len()), (24, 8));
        assert!(slots.try_begin(Uuid::from_u128(3), 1).is_none());

        drop(failing_of_one);
        assert_eq!(begin_all(&slots, 3, 3).len(), 24);
    }

    #[test]
    fn no_count_is_left_behind() {
        let slots = Slots::new(4);
        drop(begin_all(&slots, 1, 5));
        assert!(slots.lock().is_empty());
        assert_eq!(begin_all(&slots, 2, 1).len(), 3);
    }

    #[tokio::test]
    async fn a_call_that_ends_wakes_a_waiter() {
        let slots = Slots::new(2);
        let held = begin_all(&slots, 1, 1);
        let other = Uuid::from_u128(2);
        assert_eq!((held.len(), slots.try_begin(other, 1).is_some()), (2, false));
        let waits = async {
            tokio::join!(slots.begin(other, 1), async {
                tokio::task::yield_now().await;
                drop(held);
            })
        };
        let woken = tokio::time::timeout(Duration::from_secs(5), waits).await;
        assert!(woken.is_ok(), "nobody woke the waiter");
    }
}
