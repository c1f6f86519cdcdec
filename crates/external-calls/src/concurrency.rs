// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many calls the resolver makes at once, and for whom.
//!
//! Guarantees: external calls that keep failing use at most half of the calls, so that a first retry finds a free call while other
//! calls hang. One account uses at most three quarters of all calls, and three quarters of that half.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use uuid::Uuid;

use super::lease::Due;

/// From this attempt on an external call keeps failing. The first lease is the request's own, and the second one follows a lost
/// answer. So a third lease means that something is wrong outside.
const KEEPS_FAILING: i32 = 3;

/// The calls of one process. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Calls {
    at_once: usize,
    under_way: Arc<Mutex<UnderWay>>,
    freed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct UnderWay {
    all: Count,
    of_account: HashMap<Uuid, Count>,
}

/// Calls in flight, and how many of them keep failing.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    all: usize,
    failing: usize,
}

/// The right to make one call, until dropped.
#[derive(Debug)]
pub(super) struct Call {
    calls: Calls,
    account_id: Uuid,
    fails: bool,
}

impl Calls {
    pub fn new(at_once: usize) -> Self {
        Self { at_once, under_way: Arc::default(), freed: Arc::default() }
    }

    /// None: no call is free for this external call.
    pub fn try_begin(&self, due: &Due) -> Option<Call> {
        let (account_id, fails) = (due.account_id, due.attempts >= KEEPS_FAILING);
        let mut under_way = self.lock();
        let of_account = under_way.of_account.get(&account_id).copied().unwrap_or_default();
        let half = self.at_once / 2;
        let is_free = |all: usize, account: usize, of: usize| all < of && account < of - of / 4;
        if !is_free(under_way.all.all, of_account.all, self.at_once)
            || (fails && !is_free(under_way.all.failing, of_account.failing, half))
        {
            return None;
        }
        under_way.all.add(fails);
        under_way.of_account.entry(account_id).or_default().add(fails);
        Some(Call { calls: self.clone(), account_id, fails })
    }

    /// Waits until a call is free for this external call.
    pub async fn begin(&self, due: &Due) -> Call {
        loop {
            // Registered before the look, so that a call that ends in between is not missed.
            let freed = self.freed.notified();
            if let Some(call) = self.try_begin(due) {
                return call;
            }
            freed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        // No code that may panic runs under this lock, so a poisoned count is right.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Count {
    fn add(&mut self, fails: bool) {
        self.all += 1;
        self.failing += usize::from(fails);
    }

    fn take_off(&mut self, fails: bool) {
        self.all -= 1;
        self.failing -= usize::from(fails);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut under_way = self.calls.lock();
        under_way.all.take_off(self.fails);
        if let Some(count) = under_way.of_account.get_mut(&self.account_id) {
            count.take_off(self.fails);
            if count.all == 0 {
                under_way.of_account.remove(&self.account_id);
            }
        }
        drop(under_way);
        self.calls.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn due(account: u128, attempts: i32) -> Due {
        Due { account_id: Uuid::from_u128(account), reference: String::new(), attempts }
    }

    fn begin_all(calls: &Calls, due: &Due) -> Vec<Call> {
        std::iter::from_fn(|| calls.try_begin(due)).collect()
    }

    #[test]
    fn each_account_and_what_keeps_failing_leave_calls_to_others() {
        let calls = Calls::new(64);
        assert_eq!(begin_all(&calls, &due(1, 1)).len(), 48);

        let failing_of_one = begin_all(&calls, &due(1, 3));
        let failing_of_all = begin_all(&calls, &due(2, 9));
        assert_eq!((failing_of_one.len(), failing_of_all.len()), (24, 8));
        let first_of_one = begin_all(&calls, &due(1, 2));
        let first_of_all = begin_all(&calls, &due(2, 1));
        assert_eq!((first_of_one.len(), first_of_all.len()), (24, 8));
        assert!(calls.try_begin(&due(3, 1)).is_none());

        drop(failing_of_one);
        assert_eq!(begin_all(&calls, &due(3, 3)).len(), 24);
    }

    #[test]
    fn no_count_is_left_behind() {
        let calls = Calls::new(4);
        drop(begin_all(&calls, &due(1, 5)));
        assert!(calls.lock().of_account.is_empty());
        assert_eq!(begin_all(&calls, &due(2, 1)).len(), 3);
    }

    #[tokio::test]
    async fn a_call_that_ends_wakes_who_waits() {
        let calls = Calls::new(2);
        let held = begin_all(&calls, &due(1, 1));
        let other = due(2, 1);
        assert_eq!((held.len(), calls.try_begin(&other).is_some()), (2, false));
        let waits = async {
            tokio::join!(calls.begin(&other), async {
                tokio::task::yield_now().await;
                drop(held);
            })
        };
        let woken = tokio::time::timeout(Duration::from_secs(5), waits).await;
        assert!(woken.is_ok(), "nobody woke who waits");
    }
}
