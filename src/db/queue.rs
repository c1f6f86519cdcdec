//! The queue of work for the database. Work waits by account, and the accounts take turns.
//!
//! Guarantees:
//! - Accounts take turns. An account with one piece of work waits for at most one piece of work of each other account.
//! - One account never holds all connections, if there are two or more. An account takes another connection only while more
//!   connections are free than the account holds. So an account alone gets half of the connections (rounded up), and the next
//!   account gets half of the rest.
//! - One account never fills the queue: the same rule holds for the places in the queue.
//!
//! The price: some connections stay free. They are there when another account comes, even if a locked row blocks every
//! connection of the first account. With a fixed limit, a second stuck account would take all the other connections.
//!
//! Not guaranteed: that no account waits while many accounts are stuck. For example, with ten connections, four stuck accounts
//! hold all connections.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use uuid::Uuid;

/// Work of type `T`. Requests push work, and threads take it.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    /// Notified when a waiting thread may find a turn, or when the queue is closed.
    changed: Condvar,
}

struct State<T> {
    connections: usize,
    places: usize,
    /// Only accounts with work that waits or runs.
    accounts: HashMap<Uuid, Account<T>>,
    /// Every account with waiting work, once. The first account has waited longest for its turn.
    turns: VecDeque<Uuid>,
    waiting: usize,
    running: usize,
    /// Threads that wait for a turn.
    idle: usize,
    tickets: u64,
    closed: bool,
}

struct Account<T> {
    waiting: VecDeque<Turn<T>>,
    running: usize,
}

/// A piece of work in the queue, or just taken from the queue.
pub(super) struct Turn<T> {
    pub account_id: Uuid,
    pub since: Instant,
    pub work: T,
    number: u64,
}

/// Names a piece of work, to withdraw the work while it waits.
pub(super) struct Ticket {
    account_id: Uuid,
    number: u64,
}

/// Why work was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The account has its share of the places.
    Full,
    Closed,
}

impl<T> Queue<T> {
    /// `connections` is the number of threads. `places` is the most work that may wait.
    pub fn new(connections: usize, places: usize) -> Self {
        let state = State {
            connections,
            places,
            accounts: HashMap::new(),
            turns: VecDeque::new(),
            waiting: 0,
            running: 0,
            idle: 0,
            tickets: 0,
            closed: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Queues work. Never blocks.
    pub fn push(&self, account_id: Uuid, work: T) -> Result<Ticket, Refused> {
        let mut state = self.lock();
        let number = state.push(account_id, work)?;
        self.wake_one(&state);
        Ok(Ticket { account_id, number })
    }

    /// Takes back work that still waits. `None` if a thread has taken the work.
    pub fn withdraw(&self, ticket: &Ticket) -> Option<T> {
        self.lock().withdraw(ticket)
    }

    /// Waits for the next turn. `done` is the account whose work the thread has ended. `None` if the queue is closed and
    /// empty.
    pub fn next(&self, done: Option<Uuid>) -> Option<Turn<T>> {
        let mut state = self.lock();
        if let Some(account_id) = done {
            state.done(account_id);
        }
        loop {
            if let Some(turn) = state.take() {
                // This thread gave back a connection of one account, and took one for another account. Now a third account may
                // be next.
                self.wake_one(&state);
                return Some(turn);
            }
            if state.closed && state.waiting == 0 {
                self.changed.notify_all();
                return None;
            }
            state.idle += 1;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    /// Refuses new work.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// The numbers of pieces of work that run, and that wait.
    pub fn load(&self) -> (usize, usize) {
        let state = self.lock();
        (state.running, state.waiting)
    }

    fn wake_one(&self, state: &State<T>) {
        if state.idle > 0 && state.whose_turn().is_some() {
            self.changed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No code that may panic runs under this lock, so the state is right even if the lock is poisoned.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn push(&mut self, account_id: Uuid, work: T) -> Result<u64, Refused> {
        if self.closed {
            return Err(Refused::Closed);
        }
        let waiting = self.accounts.get(&account_id).map_or(0, |account| account.waiting.len());
        if waiting >= self.places - self.waiting {
            return Err(Refused::Full);
        }
        let number = self.tickets;
        self.tickets += 1;
        let account = self.accounts.entry(account_id).or_insert(Account { waiting: VecDeque::new(), running: 0 });
        account.waiting.push_back(Turn { account_id, since: Instant::now(), work, number });
        self.waiting += 1;
        if waiting == 0 {
            self.turns.push_back(account_id);
        }
        Ok(number)
    }

    /// The place in `turns` of the first account that may take another connection. The search is short: if a connection is
    /// free, every account that the search passes holds at least one connection.
    fn whose_turn(&self) -> Option<usize> {
        let free = self.connections - self.running;
        if free == 0 {
            return None;
        }
        self.turns.iter().position(|id| self.accounts.get(id).is_some_and(|account| account.running < free))
    }

    fn take(&mut self) -> Option<Turn<T>> {
        let account_id = self.turns.remove(self.whose_turn()?)?;
        let account = self.accounts.get_mut(&account_id)?;
        let turn = account.waiting.pop_front()?;
        account.running += 1;
        if !account.waiting.is_empty() {
            self.turns.push_back(account_id);
        }
        self.waiting -= 1;
        self.running += 1;
        Some(turn)
    }

    fn done(&mut self, account_id: Uuid) {
        self.running -= 1;
        if let Some(account) = self.accounts.get_mut(&account_id) {
            account.running -= 1;
            self.forget_if_idle(account_id);
        }
    }

    fn withdraw(&mut self, ticket: &Ticket) -> Option<T> {
        let account = self.accounts.get_mut(&ticket.account_id)?;
        let place = account.waiting.binary_search_by_key(&ticket.number, |turn| turn.number).ok()?;
        let turn = account.waiting.remove(place)?;
        self.waiting -= 1;
        if account.waiting.is_empty() {
            self.turns.retain(|id| *id != ticket.account_id);
            self.forget_if_idle(ticket.account_id);
        }
        Some(turn.work)
    }

    fn forget_if_idle(&mut self, account_id: Uuid) {
        if self.accounts.get(&account_id).is_some_and(|account| account.running == 0 && account.waiting.is_empty()) {
            self.accounts.remove(&account_id);
        }
    }
}

#[cfg(test)]
mod tests;
