//! Who is next: work waits by account, and the accounts take turns.
//!
//! Guarantees:
//! - Accounts take turns. An account with one piece of work waits for one piece of each other account at most.
//! - One account never holds all connections. An account takes another connection only while more connections are free
//!   than the account holds. So an account alone gets half of them (rounded up), and of what is left the next account
//!   finds half. The connections that stay free are the price: they are there when another account comes, also when every
//!   connection of the first account is stuck at a locked row. A fixed limit would be simpler by a line, but a second stuck
//!   account would then take all that is left.
//! - One account never fills the queue: the same rule holds for the places in it.
//!
//! Not guaranteed: that nobody waits when many accounts are stuck at once. With ten connections, four stuck accounts hold
//! them all.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use uuid::Uuid;

/// Work of type `T`, between those who bring it and the threads that do it.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    /// Told when a thread that waits may find a turn, or the end.
    changed: Condvar,
}

struct State<T> {
    connections: usize,
    places: usize,
    /// Only accounts with something that waits or runs.
    accounts: HashMap<Uuid, Account<T>>,
    /// Every account with something that waits, once; the first one has waited longest for its turn.
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

/// A piece of work whose turn comes, or has come.
pub(super) struct Turn<T> {
    pub account_id: Uuid,
    pub since: Instant,
    pub work: T,
    number: u64,
}

/// Finds a piece of work again that may still wait.
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
    /// For so many threads, each with a connection, and so many pieces of work that wait for them.
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

    /// Takes work back that still waits. None where a thread has begun with it.
    pub fn withdraw(&self, ticket: &Ticket) -> Option<T> {
        self.lock().withdraw(ticket)
    }

    /// Waits for the next turn. `done` is the account whose work the thread has ended. None when the queue is closed and
    /// all that was accepted has been taken.
    pub fn next(&self, done: Option<Uuid>) -> Option<Turn<T>> {
        let mut state = self.lock();
        if let Some(account_id) = done {
            state.done(account_id);
        }
        loop {
            if let Some(turn) = state.take() {
                // One connection came free and one was taken, but by another account: a third one may be next now.
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

    /// Accepts nothing more.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// How many pieces run, and how many wait.
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
        // No code that may panic runs under this lock, so a poisoned state is a whole state.
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

    /// The place in `turns` of the first account that may take another connection. It costs little: where a connection is
    /// free, every account that is passed over holds at least one.
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
