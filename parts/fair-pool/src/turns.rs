// SPDX-License-Identifier: MIT OR Apache-2.0
//! Accounts take turns at the connections. Work waits here without a thread.
//!
//! Guarantees:
//! - Accounts take turns. An account with one piece of work waits for at most one piece of work of each other account.
//! - One account never holds all connections, if there are two or more: the last free ones (one, or two if there are at
//!   least six) go to accounts that hold none. So an account alone gets nearly all, and the next account still gets
//!   one, even if a locked row blocks every connection of the first.
//! - One account never fills the queue: alone it gets seven eighths of the places, the next account seven eighths of
//!   the rest.
//! - Work waits for at most [`QUEUE_WAIT`]. Work whose caller has left is forgotten.
//!
//! Not guaranteed: that no account waits while several accounts are stuck. Three stuck accounts can hold all of ten
//! connections.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;
use uuid::Uuid;

use super::{AUTHENTICATION, NOBODY, NOTES};

/// How long work waits for its turn. A client that gets 503 after two seconds still has time for another try. If work
/// has to wait longer, the database or the account is stuck, and a longer wait would only lengthen the queue.
pub const QUEUE_WAIT: Duration = Duration::from_secs(2);

/// The places in the queue for each connection. If a transaction takes a millisecond, the last place waits some 60 ms.
/// In a longer queue, clients would only time out.
const PLACES_PER_CONNECTION: usize = 64;

/// An account may have this many pieces of work in the queue for each place that is free.
const WAITING_PER_FREE_PLACE: usize = 7;

/// Whose turn it is. Clones share the connections.
#[derive(Clone)]
pub(super) struct Turns(Arc<Mutex<State>>);

/// The right to use one connection. When dropped, it goes to the next in the queue.
pub(super) struct Turn {
    turns: Turns,
    account_id: Uuid,
}

/// How much work got no turn since the start, by reason and by whose work was in the way: the account's own if it had
/// more than half of all work that ran or waited, else that of others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// At once, since the account's part of the queue was full.
    pub queue_full: ByLoad,
    /// After the longest wait in the queue.
    pub waited: ByLoad,
}

/// A number of refusals, by whose work was in the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByLoad {
    /// The refused account's own work.
    pub own: u64,
    /// Other accounts' work.
    pub others: u64,
}

struct State {
    connections: usize,
    /// Only accounts with work that waits or runs.
    accounts: HashMap<Uuid, Account>,
    /// Every account with waiting work, once. The first account has waited longest for its turn.
    order: VecDeque<Uuid>,
    waiting: usize,
    running: usize,
    /// The number of the newest piece of work.
    next: u64,
    refusals: Refusals,
}

#[derive(Default)]
struct Account {
    waiting: VecDeque<(u64, oneshot::Sender<Turn>)>,
    running: usize,
}

impl Turns {
    pub fn new(connections: usize) -> Self {
        let (accounts, order, refusals) = (HashMap::new(), VecDeque::new(), Refusals::default());
        Self(Arc::new(Mutex::new(State { connections, accounts, order, waiting: 0, running: 0, next: 0, refusals })))
    }

    /// Waits for the account's turn. None if the account's part of the queue is full, or after [`QUEUE_WAIT`].
    pub async fn take(&self, account_id: Uuid) -> Option<Turn> {
        let (sender, turn) = oneshot::channel();
        let pushed = self.0.lock().push(account_id, sender);
        let Some(number) = pushed else {
            self.0.lock().refused(account_id, |refusals| &mut refusals.queue_full);
            return None;
        };
        let _waiting = Waiting { turns: self, account_id, number };
        self.hand_out();
        let turn = timeout(QUEUE_WAIT, turn).await.ok().and_then(Result::ok);
        if turn.is_none() {
            self.0.lock().refused(account_id, |refusals| &mut refusals.waited);
        }
        turn
    }

    /// How much work runs, and how much waits.
    pub fn load(&self) -> (usize, usize) {
        let state = self.0.lock();
        (state.running, state.waiting)
    }

    /// The load for the log: that of the account whose work was refused, and that of the busiest other account.
    pub fn load_of(&self, refused: Uuid) -> String {
        let state = self.0.lock();
        let of = |id: &Uuid| state.accounts.get(id).map_or((0, 0), |account| (account.running, account.waiting.len()));
        let name = |id: &Uuid| {
            if [AUTHENTICATION, NOBODY, NOTES].contains(id) {
                "work of no account".to_owned()
            } else {
                format!("account {id}")
            }
        };
        let row = |id: &Uuid| format!("{} runs {} and waits with {}", name(id), of(id).0, of(id).1);
        let most = state.accounts.keys().filter(|id| **id != refused).max_by_key(|id| of(id));
        let most = most.map(|most| format!("; most of the others: {}", row(most))).unwrap_or_default();
        format!("{}, of {} connections{most}", row(&refused), state.connections)
    }

    pub fn refusals(&self) -> Refusals {
        self.0.lock().refusals
    }

    fn hand_out(&self) {
        loop {
            // The lock must be free when the turn is sent: if the caller has left, the turn is dropped, which takes the
            // lock.
            let next = self.0.lock().next_turn();
            let Some((account_id, sender)) = next else { return };
            let _ = sender.send(Turn { turns: self.clone(), account_id });
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.0.lock().done(self.account_id);
        self.turns.hand_out();
    }
}

/// A caller in the queue. When it leaves, its work is withdrawn.
struct Waiting<'a> {
    turns: &'a Turns,
    account_id: Uuid,
    number: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.turns.0.lock().withdraw(self.account_id, self.number);
    }
}

impl State {
    /// Queues the work and returns its number. None if the account's part of the queue is full.
    fn push(&mut self, account_id: Uuid, sender: oneshot::Sender<Turn>) -> Option<u64> {
        let free = self.connections * PLACES_PER_CONNECTION - self.waiting;
        let waiting = self.accounts.get(&account_id).map_or(0, |account| account.waiting.len());
        if waiting >= free * WAITING_PER_FREE_PLACE {
            return None;
        }
        self.next += 1;
        self.accounts.entry(account_id).or_default().waiting.push_back((self.next, sender));
        self.waiting += 1;
        if waiting == 0 {
            self.order.push_back(account_id);
        }
        Some(self.next)
    }

    /// The search is short: every account that it passes holds at least one connection.
    fn next_turn(&mut self) -> Option<(Uuid, oneshot::Sender<Turn>)> {
        let free = self.connections - self.running;
        let kept = if self.connections < 6 { 1 } else { 2 };
        let may_run =
            |id| free > kept || (free > 0 && self.accounts.get(id).is_some_and(|account| account.running == 0));
        let account_id = self.order.remove(self.order.iter().position(may_run)?)?;
        let account = self.accounts.get_mut(&account_id)?;
        let (_, sender) = account.waiting.pop_front()?;
        account.running += 1;
        if !account.waiting.is_empty() {
            self.order.push_back(account_id);
        }
        self.waiting -= 1;
        self.running += 1;
        Some((account_id, sender))
    }

    /// Counts a refusal.
    fn refused(&mut self, account_id: Uuid, of: fn(&mut Refusals) -> &mut ByLoad) {
        let own = self.accounts.get(&account_id).map_or(0, |account| account.running + account.waiting.len());
        let count = of(&mut self.refusals);
        if 2 * own > self.running + self.waiting {
            count.own += 1;
        } else {
            count.others += 1;
        }
    }

    fn done(&mut self, account_id: Uuid) {
        self.running -= 1;
        if let Some(account) = self.accounts.get_mut(&account_id) {
            account.running -= 1;
        }
        self.forget_if_idle(account_id);
    }

    /// Does nothing if the work has had its turn.
    fn withdraw(&mut self, account_id: Uuid, number: u64) {
        let Some(account) = self.accounts.get_mut(&account_id) else { return };
        let Ok(place) = account.waiting.binary_search_by_key(&number, |(number, _)| *number) else { return };
        account.waiting.remove(place);
        self.waiting -= 1;
        if account.waiting.is_empty() {
            self.order.retain(|id| *id != account_id);
            self.forget_if_idle(account_id);
        }
    }

    fn forget_if_idle(&mut self, account_id: Uuid) {
        if self.accounts.get(&account_id).is_some_and(|account| account.running == 0 && account.waiting.is_empty()) {
            self.accounts.remove(&account_id);
        }
    }
}

#[cfg(test)]
mod tests;
