//! The record: the specification of `Policy::run` for the requests of one key. Read it side by side with
//! `transaction.rs`, `run.rs`, `single_flight.rs` and `store.rs` of crates/idempotency.
//!
//! Each action is one step, and others can come in between: a statement, a COMMIT, a message in memory. `world.rs` has
//! the state, `rules.rs` the rules and the bounds, `steps.rs` a request's transaction, `single_flight.rs` what happens
//! around it, `properties.rs` what must hold, `telling.rs` the words of a story.

mod properties;
mod rules;
mod single_flight;
mod steps;
mod telling;
mod trace;
mod world;

use stateright::{Model, Property};

pub use self::properties::names;
pub use self::rules::{Body, Bounds, Rules};
pub use self::trace::{Heard, Step as ToldStep};
use self::world::{Answer, At, Reply, Row, Shareable, Step, Swept, World};

/// The model: a bounded world, and the rules that the code follows in it.
#[derive(Clone, Debug)]
pub struct Record {
    /// How large the world is.
    pub bounds: Bounds,
    /// What the code does.
    pub rules: Rules,
    /// If set, only this property is checked, so that the first counterexample found is the shortest.
    pub only: Option<&'static str>,
}

/// What can happen next. A number names a request, or a process where the text says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A request arrives, and joins its process's flight as leader or follower (`SingleFlight::join`).
    Arrive(usize),
    /// A process that answered the key recently reads the record first, without a transaction (transaction.rs,
    /// `look_then_run`).
    Look(usize),
    /// BEGIN, and the claim statement takes its snapshot.
    Begin(usize),
    /// The claim statement tries the advisory lock, and answers from its snapshot (store.rs, `claim`).
    TryLock(usize),
    /// `SELECT .. FOR UPDATE` on an expired record takes its snapshot (store.rs, `lock`).
    LockRecord(usize),
    /// `SELECT .. FOR UPDATE` gets the row lock and reads the newest version. Then an expired record is deleted.
    TakeOver(usize),
    /// The body runs and succeeds.
    Succeed(usize),
    /// The body runs and fails for good (a 409, a 422).
    Fail(usize),
    /// INSERT of the record (store.rs, `record`). The primary key refuses a second one, and the transaction runs again.
    Insert(usize),
    /// COMMIT, and its answer arrives.
    Commit(usize),
    /// The read after a failed body: the other transaction's record may be the answer (transaction.rs, `run`).
    LookAfterFailure(usize),
    /// The pause between two looks is over.
    LookAgain(usize),
    /// `Policy::wait` is over: 409, or the 202.
    WaitEnds(usize),
    /// A follower gets its leader's result.
    Hear(usize),
    /// A follower with another body is refused, since its leader holds the key: 422. Only without `refusal_waits_for_record`.
    Refuse(usize),
    /// The connection of a request is lost. The database notices later: see [`Action::Abort`], [`Action::LateCommit`].
    Lose(usize),
    /// The database ends the transaction of a request, which notices at its next statement: see [`Action::Notice`].
    Sever(usize),
    /// A request notices that the database has ended its transaction.
    Notice(usize),
    /// The database rolls back a transaction whose client is gone.
    Abort(usize),
    /// A COMMIT that was sent before the connection was lost takes effect.
    LateCommit(usize),
    /// The client of a request leaves. If a statement is running, the transaction goes on.
    Leave(usize),
    /// A process (not a request) is killed.
    Kill(usize),
    /// The external call's outcome replaces the 202 by a final reply (store.rs, `finalize`), in one transaction.
    Resolve,
    /// The record's lifetime ends.
    Expire,
    /// The sweeper finds an expired record, without a lock (sweep.rs, `sweep`).
    FindExpired,
    /// The sweeper deletes the record that it found (sweep.rs, `delete_expired`).
    Sweep,
}

impl Model for Record {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(&self.bounds)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for (i, request) in world.requests.iter().enumerate() {
            match &request.at {
                At::Away => actions.push(Action::Arrive(i)),
                At::Follows { leader } => {
                    actions.push(Action::WaitEnds(i));
                    let flight = world.flight_led_by(*leader).filter(|_| !self.rules.refusal_waits_for_record);
                    if flight.is_some_and(|flight| flight.has_key) && request.body != world.requests[*leader].body {
                        actions.push(Action::Refuse(i));
                    }
                }
                At::Heard(result) => {
                    actions.push(Action::Hear(i));
                    if matches!(result, Shareable::Record(row) if row.reply == Reply::Provisional) {
                        actions.push(Action::WaitEnds(i));
                    }
                }
                At::Leads(step) => self.steps(world, i, step, actions),
                At::Answered(_) => {}
            }
            let is_waiting = matches!(request.at, At::Follows { .. } | At::Heard(_) | At::Leads(_));
            if is_waiting && !request.client_left && world.leaves < self.bounds.leaves {
                actions.push(Action::Leave(i));
            }
        }
        for (i, transaction) in world.orphans.iter().enumerate() {
            actions.push(Action::Abort(i));
            if transaction.committing {
                actions.push(Action::LateCommit(i));
            }
        }
        if world.kills < self.bounds.kills {
            actions.extend((0..2).filter(|process| world.runs_here(*process)).map(Action::Kill));
        }
        if world.row.is_some_and(|row| row.reply == Reply::Provisional) {
            actions.push(Action::Resolve);
        }
        match world.row {
            Some(row) if row.expires.is_none() => {}
            Some(row) if world.is_live(&row) && world.clock < self.bounds.expiries => actions.push(Action::Expire),
            Some(row) if !world.is_live(&row) && world.swept == Swept::Not => actions.push(Action::FindExpired),
            _ => {}
        }
        if world.swept == Swept::Found {
            actions.push(Action::Sweep);
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        match action {
            Action::Arrive(i) => world.join(i),
            Action::Look(i) => match world.row.filter(|row| last.is_live(row)) {
                Some(row) => self.replay(&mut world, i, row),
                None => world.requests[i].at = At::Leads(Step::Begin),
            },
            Action::Begin(i) => world.begin(i),
            Action::TryLock(i) => self.try_lock(&mut world, i),
            Action::LockRecord(i) => self.lock_record(&mut world, i),
            Action::TakeOver(i) => self.take_over(&mut world, i),
            Action::Succeed(i) => self.body(&mut world, i, true),
            Action::Fail(i) => self.body(&mut world, i, false),
            Action::Insert(i) => self.insert(&mut world, i),
            Action::Commit(i) => self.commit(&mut world, i),
            Action::LookAfterFailure(i) => self.look_after_failure(&mut world, i),
            Action::LookAgain(i) => world.run(i),
            Action::WaitEnds(i) => self.wait_ends(&mut world, i),
            Action::Hear(i) => self.hear(&mut world, i),
            Action::Refuse(i) => {
                let own = world.belongs_to(world.requests[i].body);
                world.requests[i].at = At::Answered(Answer::Reused { own });
            }
            Action::Lose(i) => self.lose(&mut world, i),
            Action::Sever(i) => {
                world.requests[i].transaction = None;
                world.requests[i].severed = true;
                world.losses += 1;
            }
            Action::Notice(i) => self.run_again(&mut world, i),
            Action::Abort(i) => drop(world.orphans.remove(i)),
            Action::LateCommit(i) => {
                let transaction = world.orphans.remove(i);
                world.apply(&transaction);
            }
            Action::Leave(i) => world.leave(i),
            Action::Kill(process) => world.kill(process),
            Action::Resolve => {
                let expires = Some(world.clock + 1);
                world.row = world.row.map(|row| Row { reply: Reply::Resolved, expires, ..row });
            }
            Action::Expire => {
                world.clock += 1;
                // If the reply was final, the next effect is the first of the key's next life.
                if world.row.is_some_and(|row| row.reply != Reply::Provisional) {
                    world.effects = 0;
                }
            }
            Action::FindExpired => world.swept = Swept::Found,
            Action::Sweep => {
                let expired = world.row.filter(|row| !last.is_live(row) || !self.rules.sweep_looks_again);
                // SKIP LOCKED: a record that a transaction has locked is left alone.
                if expired.is_some() && !world.transactions().any(|transaction| transaction.locks_record) {
                    world.row = None;
                }
                world.swept = Swept::Done;
            }
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let all = properties::properties();
        all.into_iter().filter(|property| self.only.is_none_or(|only| only == property.name)).collect()
    }

    fn format_action(&self, action: &Action) -> String {
        format!("{action:?}")
    }
}

impl Record {
    /// The next steps of a leader.
    fn steps(&self, world: &World, i: usize, step: &Step, actions: &mut Vec<Action>) {
        let request = &world.requests[i];
        if request.severed {
            return actions.push(Action::Notice(i));
        }
        // A statement that waits for another transaction has no step.
        if world.blocker(self, i).is_none() {
            match step {
                Step::Look => actions.push(Action::Look(i)),
                Step::Begin => actions.push(Action::Begin(i)),
                Step::TryLock { .. } => actions.push(Action::TryLock(i)),
                Step::LockRecord => actions.push(Action::LockRecord(i)),
                Step::TakeOver { .. } => actions.push(Action::TakeOver(i)),
                Step::Body => match self.bounds.body {
                    // The order is canceled once. Every later request fails.
                    Body::Cancel if world.effects > 0 => actions.push(Action::Fail(i)),
                    Body::Cancel | Body::Create => actions.push(Action::Succeed(i)),
                    Body::MayFail => actions.extend([Action::Succeed(i), Action::Fail(i)]),
                },
                Step::Insert(_) => actions.push(Action::Insert(i)),
                Step::Commit(_) => actions.push(Action::Commit(i)),
                Step::LookAfterFailure => actions.push(Action::LookAfterFailure(i)),
                Step::Paused { .. } => actions.extend([Action::LookAgain(i), Action::WaitEnds(i)]),
            }
        }
        if world.losses < self.bounds.losses {
            // A read outside a transaction can lose its connection too.
            if request.transaction.is_some() || matches!(step, Step::Look | Step::LookAfterFailure) {
                actions.push(Action::Lose(i));
            }
            if request.transaction.is_some() {
                actions.push(Action::Sever(i));
            }
        }
    }
}
