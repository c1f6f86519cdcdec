//! The steps of a request's transaction, in the order in which transaction.rs and store.rs take them.

use super::Record;
use super::world::{Answer, At, Reply, Row, Shareable, Step, Transaction, World};

impl Record {
    /// The claim: ours, here is the record, or another transaction has the key.
    pub(super) fn try_lock(&self, world: &mut World, i: usize) {
        let At::Leads(Step::TryLock { seen }) = world.requests[i].at else { return };
        let got = !self.rules.advisory_lock || !(world.leaked || world.others(i).any(|other| other.has_lock));
        let Some(transaction) = &mut world.requests[i].transaction else { return };
        let now = transaction.now;
        transaction.has_lock = got && self.rules.advisory_lock;
        match seen {
            Some(row) if row.is_live_at(now) => {
                world.requests[i].transaction = None;
                self.replay(world, i, row);
            }
            _ if !got => world.pause(i, None),
            None => self.own(world, i),
            Some(_) => world.requests[i].at = At::Leads(Step::LockRecord),
        }
    }

    /// The snapshot of `SELECT .. FOR UPDATE`: if it has no record, nothing is locked.
    pub(super) fn lock_record(&self, world: &mut World, i: usize) {
        if self.rules.expired_record_is_locked {
            match world.row {
                Some(seen) => world.requests[i].at = At::Leads(Step::TakeOver { seen }),
                None => self.own(world, i),
            }
            return;
        }
        // Without the lock there is only the DELETE.
        let row = world.row;
        if let Some(transaction) = &mut world.requests[i].transaction {
            let deletes = row.is_some_and(|row| !(self.rules.delete_states_expiry && row.is_live_at(transaction.now)));
            (transaction.deletes, transaction.locks_record) = (deletes, deletes);
        }
        self.own(world, i);
    }

    /// The row lock is free. If the snapshot's record is gone, the statement returns nothing, even if there is a new
    /// one.
    pub(super) fn take_over(&self, world: &mut World, i: usize) {
        let At::Leads(Step::TakeOver { seen }) = world.requests[i].at else { return };
        let newest = world.row.filter(|row| row.by == seen.by);
        let Some(transaction) = &mut world.requests[i].transaction else { return };
        match newest {
            Some(row) if row.is_live_at(transaction.now) => {
                world.requests[i].transaction = None;
                self.replay(world, i, row);
            }
            Some(_) => {
                (transaction.deletes, transaction.locks_record) = (true, true);
                self.own(world, i);
            }
            None => self.own(world, i),
        }
    }

    /// The key is this transaction's until the transaction ends.
    fn own(&self, world: &mut World, i: usize) {
        for flight in world.flights.iter_mut().flatten().filter(|flight| flight.leader == i) {
            flight.has_key = true;
        }
        if !self.rules.reply_comes_with_record {
            let body = world.requests[i].body;
            world.row = Some(Row { by: i, body, reply: Reply::None, expires: None });
        }
        world.requests[i].at = At::Leads(Step::Body);
    }

    /// A final failure is stored under cache-failures, without the body's writes. Under success-only all is rolled back.
    pub(super) fn body(&self, world: &mut World, i: usize, succeeds: bool) {
        let Some(transaction) = &mut world.requests[i].transaction else { return };
        let reply = match (succeeds, self.bounds.provisional) {
            (true, false) => Reply::Success,
            (true, true) => Reply::Provisional,
            (false, _) => Reply::Failure,
        };
        // The body wrote before it failed, and only the savepoint takes that back.
        transaction.has_effect = succeeds || !self.rules.savepoint;
        if !succeeds && !self.bounds.cache_failures {
            self.roll_back(world, i);
            world.requests[i].at = At::Leads(Step::LookAfterFailure);
            return;
        }
        if !self.rules.one_transaction {
            let has_effect = std::mem::take(&mut transaction.has_effect);
            world.apply(&Transaction { deletes: false, inserts: None, has_effect, ..*transaction_of(world, i) });
        }
        world.requests[i].at = At::Leads(Step::Insert(reply));
    }

    /// One plain INSERT. A record that another transaction has committed since the claim's snapshot makes it fail.
    pub(super) fn insert(&self, world: &mut World, i: usize) {
        let At::Leads(Step::Insert(reply)) = world.requests[i].at else { return };
        let body = world.requests[i].body;
        let taken = world.row.is_some_and(|row| row.by != i || row.reply != Reply::None);
        let Some(transaction) = &mut world.requests[i].transaction else { return };
        if taken && !transaction.deletes && self.rules.primary_key {
            self.roll_back(world, i);
            return self.run_again(world, i);
        }
        let never = reply == Reply::Provisional && self.rules.provisional_never_expires;
        let expires = (!never).then_some(world.clock + 1);
        transaction.inserts = Some(Row { by: i, body, reply, expires });
        world.requests[i].at = At::Leads(Step::Commit(reply));
    }

    pub(super) fn commit(&self, world: &mut World, i: usize) {
        let Some(transaction) = world.requests[i].transaction.take() else { return };
        world.apply(&transaction);
        if let Some(row) = world.row {
            self.finish(world, i, Shareable::Record(row), Answer::Reply { row, replayed: false });
        }
    }

    /// ROLLBACK frees the lock, unless the lock is the session's.
    fn roll_back(&self, world: &mut World, i: usize) {
        let transaction = world.requests[i].transaction.take();
        world.leaked |= !self.rules.lock_ends_with_transaction && transaction.is_some_and(|it| it.has_lock);
        if world.row.is_some_and(|row| row.by == i && row.reply == Reply::None) {
            world.row = None;
        }
    }

    /// The body failed, and nothing was stored. The reason may be another transaction of the key.
    pub(super) fn look_after_failure(&self, world: &mut World, i: usize) {
        match world.row.filter(|row| world.is_live(row) && self.rules.failure_looks_again) {
            Some(row) => self.replay(world, i, row),
            None => self.finish(world, i, Shareable::Failed, Answer::Failed { own: true }),
        }
    }

    /// The key has a live record.
    pub(super) fn replay(&self, world: &mut World, i: usize, row: Row) {
        let is_same = !self.rules.fingerprint || row.body == world.requests[i].body;
        let answer = match row.reply {
            Reply::None => return world.pause(i, None),
            _ if row.by == i && self.rules.knows_own_record => Answer::Reply { row, replayed: false },
            _ if !is_same => Answer::Reused { own: false },
            Reply::Provisional => return world.pause(i, Some(row)),
            _ => Answer::Reply { row, replayed: true },
        };
        self.finish(world, i, Shareable::Record(row), answer);
    }

    /// The connection is lost. The database goes on with the transaction until it notices, or until a COMMIT takes effect.
    pub(super) fn lose(&self, world: &mut World, i: usize) {
        world.losses += 1;
        world.orphan(i);
        self.run_again(world, i);
    }
}

fn transaction_of(world: &World, i: usize) -> &Transaction {
    world.requests[i].transaction.as_ref().unwrap_or_else(|| unreachable!("the body runs in a transaction"))
}

impl World {
    /// Goes to the database, as the leader. A process that answered the key recently reads first.
    pub(super) fn run(&mut self, i: usize) {
        let remembers = self.remembers[self.requests[i].process];
        self.requests[i].at = At::Leads(if remembers { Step::Look } else { Step::Begin });
    }

    /// BEGIN fixes `now()`. The claim statement's snapshot is taken before its lock is tried.
    pub(super) fn begin(&mut self, i: usize) {
        let seen = self.row;
        self.requests[i].transaction = Some(Transaction {
            now: self.clock,
            has_lock: false,
            locks_record: false,
            deletes: false,
            inserts: None,
            has_effect: false,
            committing: false,
        });
        self.requests[i].at = At::Leads(Step::TryLock { seen });
    }

    pub(super) fn orphan(&mut self, i: usize) {
        let committing = matches!(self.requests[i].at, At::Leads(Step::Commit(_)));
        if let Some(transaction) = self.requests[i].transaction.take() {
            self.orphans.push(Transaction { committing, ..transaction });
            self.orphans.sort_unstable();
        }
    }
}
