//! The steps of one request, in the order in which run.rs, transaction.rs and store.rs take them.

use super::world::{Answer, At, Landing, Reply, Row, Step, Transaction, World};
use super::Record;

impl Record {
    /// Goes to the database, as the leader. A process that answered the key lately reads first.
    pub(super) fn run(&self, world: &mut World, i: usize) {
        let remembers = world.remembers[world.requests[i].process];
        world.requests[i].at = At::Leads(if remembers { Step::Look } else { Step::Begin });
    }

    /// BEGIN fixes `now()`. The claim statement's snapshot is taken before its lock is tried.
    pub(super) fn begin(&self, world: &mut World, i: usize) {
        let seen = world.row;
        world.requests[i].transaction = Some(Transaction {
            now: world.clock,
            has_lock: false,
            locks_record: false,
            deletes: false,
            inserts: None,
            has_effect: false,
            committing: false,
        });
        world.requests[i].at = At::Leads(Step::TryLock { seen });
    }

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
            _ if !got => self.pause(world, i, None),
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

    /// The row lock is free. If the record of the snapshot is gone, the statement returns nothing, also if there is a new one.
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
            flight.holds_key = true;
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

    /// One plain INSERT. What another transaction has committed since the claim's snapshot makes it fail.
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
            self.finish(world, i, Landing::Record(row), Answer::Reply { row, replayed: false });
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
            None => self.finish(world, i, Landing::Failed, Answer::Failed { own: true }),
        }
    }

    /// The key has a live record.
    pub(super) fn replay(&self, world: &mut World, i: usize, row: Row) {
        let is_same = !self.rules.fingerprint || row.body == world.requests[i].body;
        let answer = match row.reply {
            Reply::None => return self.pause(world, i, None),
            _ if row.by == i && self.rules.knows_own_record => Answer::Reply { row, replayed: false },
            _ if !is_same => Answer::Reused { own: false },
            Reply::Provisional => return self.pause(world, i, Some(row)),
            _ => Answer::Reply { row, replayed: true },
        };
        self.finish(world, i, Landing::Record(row), answer);
    }

    /// Waits without a connection.
    fn pause(&self, world: &mut World, i: usize, seen: Option<Row>) {
        world.requests[i].transaction = None;
        if world.requests[i].client_left {
            world.requests[i].at = At::Answered(Answer::Nobody);
            return;
        }
        for flight in world.flights.iter_mut().flatten().filter(|flight| flight.leader == i) {
            flight.seen = seen.or(flight.seen);
        }
        world.requests[i].at = At::Leads(Step::Paused { seen });
    }

    /// A deadlock, a lost connection or a record that came first: the whole transaction runs again, a bounded number of times.
    pub(super) fn run_again(&self, world: &mut World, i: usize) {
        let request = &mut world.requests[i];
        request.severed = false;
        request.runs += 1;
        if request.client_left || request.runs >= self.bounds.runs {
            return self.finish(world, i, Landing::Broken, Answer::Broken);
        }
        for flight in world.flights.iter_mut().flatten().filter(|flight| flight.leader == i) {
            flight.holds_key = false;
        }
        self.run(world, i);
    }

    /// The leader has an answer: its followers hear of it, and the next request of the key leads a flight of its own.
    fn finish(&self, world: &mut World, i: usize, landing: Landing, answer: Answer) {
        world.requests[i].transaction = None;
        if world.requests[i].client_left {
            world.requests[i].at = At::Answered(Answer::Nobody);
            return;
        }
        let (process, body) = (world.requests[i].process, world.requests[i].body);
        world.remembers[process] |= matches!(landing, Landing::Record(_));
        world.requests[i].at = At::Answered(answer);
        self.land(world, i, |follower| match landing {
            // Another request's failure says nothing about this one, which boards again.
            Landing::Failed | Landing::Broken if follower != body && self.rules.failure_is_shared_by_equals => {
                Landing::Nothing
            }
            Landing::Failed if follower != body => Landing::OtherFailed,
            landing => landing,
        });
    }

    fn land(&self, world: &mut World, leader: usize, landing: impl Fn(char) -> Landing) {
        for flight in &mut world.flights {
            flight.take_if(|flight| flight.leader == leader);
        }
        for request in &mut world.requests {
            if request.at == (At::Follows { leader }) {
                request.at = At::Landed(landing(request.body));
            }
        }
    }

    /// A follower hears of the landing, and compares the record with its own request.
    pub(super) fn hear(&self, world: &mut World, i: usize) {
        let At::Landed(landing) = world.requests[i].at else { return };
        let is_same = |row: Row| !self.rules.fingerprint || row.body == world.requests[i].body;
        let answer = match landing {
            Landing::Nothing => return self.board(world, i),
            Landing::Record(row) if !is_same(row) => Answer::Reused { own: false },
            Landing::Record(row) if row.reply == Reply::Provisional => return self.board(world, i),
            Landing::Record(row) => Answer::Reply { row, replayed: true },
            Landing::Failed => Answer::Failed { own: true },
            Landing::OtherFailed => Answer::Failed { own: false },
            Landing::Broken => Answer::Broken,
        };
        world.requests[i].at = At::Answered(answer);
    }

    pub(super) fn wait_ends(&self, world: &mut World, i: usize) {
        let (seen, leads) = match world.requests[i].at {
            At::Leads(Step::Paused { seen }) => (seen, true),
            At::Landed(Landing::Record(row)) => (Some(row), false),
            At::Follows { leader } => (world.flight_led_by(leader).and_then(|flight| flight.seen), false),
            _ => (None, false),
        };
        let body = world.requests[i].body;
        let answer = match seen {
            Some(row) if self.rules.fingerprint && row.body != body => Answer::Reused { own: false },
            Some(row) => Answer::Reply { row, replayed: true },
            None => Answer::InFlight,
        };
        if leads {
            let landing = seen.map_or(Landing::Nothing, Landing::Record);
            self.finish(world, i, landing, answer);
        } else {
            world.requests[i].at = At::Answered(answer);
        }
    }

    /// The connection is lost. The database goes on with the transaction until it notices, or until a COMMIT takes effect.
    pub(super) fn lose(&self, world: &mut World, i: usize) {
        world.losses += 1;
        self.orphan(world, i);
        self.run_again(world, i);
    }

    fn orphan(&self, world: &mut World, i: usize) {
        let committing = matches!(world.requests[i].at, At::Leads(Step::Commit(_)));
        if let Some(transaction) = world.requests[i].transaction.take() {
            world.orphans.push(Transaction { committing, ..transaction });
            world.orphans.sort_unstable();
        }
    }

    /// The client leaves, so the request's future is dropped. A transaction that runs goes on, and its followers board again.
    pub(super) fn leave(&self, world: &mut World, i: usize) {
        world.leaves += 1;
        self.land(world, i, |_| Landing::Nothing);
        let request = &mut world.requests[i];
        request.client_left = request.transaction.is_some() || request.severed;
        if !request.client_left {
            request.at = At::Answered(Answer::Nobody);
        }
    }

    pub(super) fn kill(&self, world: &mut World, process: usize) {
        world.kills += 1;
        for i in 0..world.requests.len() {
            let is_there = !matches!(world.requests[i].at, At::Away | At::Answered(_));
            if world.requests[i].process == process && is_there {
                self.orphan(world, i);
                world.requests[i].at = At::Answered(Answer::Nobody);
            }
        }
        world.flights[process] = None;
        world.remembers[process] = false;
    }
}

fn transaction_of(world: &World, i: usize) -> &Transaction {
    world.requests[i].transaction.as_ref().unwrap_or_else(|| unreachable!("the body runs in a transaction"))
}
