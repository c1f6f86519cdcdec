//! The external call: the specification of `Resolver::run` and of the resolver (crates/external-calls: lease.rs, outcome.rs,
//! resolve.rs, resolver.rs, background.rs), for one call, from the COMMIT of the first transaction on.
//!
//! Each action is one step, and others can come in between. A holder may be suspended before each of its steps, for any
//! time. `world.rs` has the state, `rules.rs` the rules and the bounds, `holder.rs` what a holder of a lease does,
//! `outside.rs` the network and the provider, `properties.rs` what must hold, `telling.rs` the words of a story.

mod holder;
mod outside;
mod properties;
mod rules;
mod telling;
mod trace;
mod world;

use stateright::{Model, Property};

pub use self::properties::names;
pub use self::rules::{Assumptions, Bounds, Check, Rules, Times};
pub use self::trace::Step as ToldStep;
use self::world::{Answer, Charge, Holder, Row, Step, World};

/// The model: a bounded world, what the code relies on in it, and the rules that the code follows.
#[derive(Clone, Debug)]
pub struct Call {
    /// How large the world is.
    pub bounds: Bounds,
    /// How long things take in it.
    pub times: Times,
    /// What the code relies on.
    pub assumptions: Assumptions,
    /// What the code does.
    pub rules: Rules,
    /// If set, only this property is checked, so that the first counterexample found is the shortest.
    pub only: Option<&'static str>,
}

/// What can happen next. A number names a worker: 0 is the handler, the others are resolvers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A resolver takes a lease on a call that is due, or parks the call.
    Take(usize),
    /// An operator resumes a parked call.
    Resume(usize),
    /// The holder checks its lease, and begins.
    Start(usize),
    /// The holder looks the call up. The provider's books answer.
    LookUp(usize),
    /// The look-up fails, or its listing is incomplete.
    LookUpFails(usize),
    /// The holder sends the call.
    Send(usize),
    /// The holder reads the answer to its sending.
    Read(usize),
    /// The holder's time for the call is over.
    TimeOut(usize),
    /// The second transaction locks the row and checks the attempt.
    Fence(usize),
    /// COMMIT of the second transaction: outcome, final reply, and the closed call.
    Apply(usize),
    /// The same, but the answer to COMMIT is lost: the holder runs the transaction again.
    ApplyUnheard(usize),
    /// The second transaction is rolled back, by a deadlock or with its connection, and runs again.
    RollBack(usize),
    /// The second transaction can't be committed, and the holder stops trying.
    NotRecorded(usize),
    /// The holder gives its lease back.
    GiveBack(usize),
    /// The worker's process is killed.
    Crash(usize),
    /// A sending (by its place) reaches the provider, which reacts like this.
    Arrive(usize, Reaction),
    /// The network loses a sending.
    Drop(usize),
    /// The network makes a second copy of a sending.
    Copy(usize),
    /// A proxy answers 5xx for a sending that is still on its way.
    ProxyFails(usize),
    /// The provider forgets the key.
    Forget,
    /// A webhook hints at the call.
    Hint,
    /// Time passes.
    Tick,
    /// A backup of the database is taken.
    BackUp,
    /// The processes are stopped, and the backup is restored.
    Restore,
    /// The client sends its request again: after a restore, or long after the record has expired.
    Retry,
}

/// What the provider does with a sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// The money moves, and the answer is stored under the key.
    Capture,
    /// The card is declined, and the answer is stored under the key.
    Decline,
    /// A 4xx before anything is done or stored.
    Refuse,
    /// A 500, which the provider stores under the key.
    StoreError {
        /// Whether the money moves nevertheless.
        captures: bool,
    },
    /// The key is known: the stored answer.
    Replay,
}

impl Model for Call {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for (i, holder) in world.holders.iter().enumerate() {
            match holder {
                None if i > 0 => {
                    // SKIP LOCKED.
                    let is_free = !(self.rules.fence_locks && world.row_is_locked());
                    match world.row.filter(|row| !row.resolved && is_free) {
                        Some(row) if row.parked && world.resumes < self.bounds.resumes => {
                            actions.push(Action::Resume(i));
                        }
                        Some(row) if !row.parked && (row.due_in == 0 || !self.rules.lease_keeps_others_away) => {
                            actions.push(Action::Take(i));
                        }
                        _ => {}
                    }
                }
                None => {}
                Some(holder) => {
                    self.holders_steps(world, i, holder, actions);
                    if world.crashes < self.bounds.crashes {
                        actions.push(Action::Crash(i));
                    }
                }
            }
        }
        self.outside_actions(world, actions);
        if self.bounds.hints && world.row.is_some_and(|row| !row.resolved && !row.parked && !row.hinted) {
            actions.push(Action::Hint);
        }
        if world.restores < self.bounds.restores {
            if world.row.is_some() && world.backup.is_none() {
                actions.push(Action::BackUp);
            }
            let waited = !self.assumptions.restore_waits || world.sendings.is_empty();
            let in_time = !self.assumptions.restored_in_time || !world.forgot;
            if waited && in_time {
                actions.push(Action::Restore);
            }
        }
        let is_late = world.row.is_some_and(|row| row.resolved && row.age > self.times.key_lifetime.unwrap_or(0));
        if world.row.is_none() || (is_late && !self.rules.one_call_a_key && world.retries == 0) {
            actions.push(Action::Retry);
        }
        if world.sendings.iter().all(|sending| sending.age < self.times.hold) {
            let mut later = world.clone();
            later.tick(self);
            if later != *world {
                actions.push(Action::Tick);
            }
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        match action {
            Action::Take(i) | Action::Resume(i) => self.take(&mut world, i),
            Action::Start(i) => self.start(&mut world, i),
            Action::LookUp(i) => self.look_up(&mut world, i, true),
            Action::LookUpFails(i) => self.look_up(&mut world, i, false),
            Action::Send(i) => self.send(&mut world, i),
            Action::Read(i) => self.read(&mut world, i),
            Action::TimeOut(i) => world.holders[i].as_mut()?.gives_back(true),
            Action::Fence(i) => self.fence(&mut world, i),
            Action::Apply(i) => world.apply(i, true),
            Action::ApplyUnheard(i) => world.apply(i, false),
            Action::RollBack(i) => {
                let holder = world.holders[i].as_mut()?;
                if let Step::Locked(charge) = holder.step {
                    holder.step = Step::Record(charge);
                }
            }
            Action::NotRecorded(i) => world.holders[i].as_mut()?.gives_back(self.rules.unrecorded_is_noted),
            Action::GiveBack(i) => self.give_back(&mut world, i),
            Action::Crash(i) => {
                world.holders[i] = None;
                world.crashes += 1;
            }
            Action::Arrive(place, reaction) => self.arrive(&mut world, place, reaction),
            Action::Drop(place) => drop(world.sendings.remove(place)),
            Action::Copy(place) => {
                let copy = world.sendings[place];
                world.sendings.insert(place, copy);
                world.copies += 1;
            }
            Action::ProxyFails(place) => {
                let name = world.sendings[place].name;
                world.answer(name, Answer::Error);
            }
            Action::Forget => {
                world.keys = [None; 2];
                world.forgot = true;
            }
            Action::Hint => self.hint(&mut world),
            Action::Tick => world.tick(self),
            Action::BackUp => world.backup = world.row,
            Action::Restore => {
                world.row = world.backup;
                world.holders.fill(None);
                world.restores += 1;
            }
            Action::Retry => {
                let retries = world.retries + 1;
                // A reference that is not derived from the key is now a new one.
                let reference = usize::from(!self.rules.reference_from_key);
                world.begin(Row { reference, ..Row::first(self.times) });
                world.retries = retries;
            }
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let all = properties::properties();
        all.into_iter().filter(|property| self.only.is_none_or(|only| only == property.name)).collect()
    }
}

impl Call {
    /// A webhook makes the call due, but never ends a lease.
    fn hint(&self, world: &mut World) {
        let Some(row) = &mut world.row else { return };
        if row.leased && self.rules.hint_leaves_lease {
            row.hinted = true;
        } else {
            row.due_in = 0;
        }
    }

    fn holders_steps(&self, world: &World, i: usize, holder: &Holder, actions: &mut Vec<Action>) {
        match holder.step {
            Step::Start => actions.push(Action::Start(i)),
            Step::LookFirst | Step::LookAfter { .. } => actions.extend([Action::LookUp(i), Action::LookUpFails(i)]),
            Step::Send => actions.push(Action::Send(i)),
            Step::Await { answer, .. } => {
                if answer.is_some() {
                    actions.push(Action::Read(i));
                }
                actions.push(Action::TimeOut(i));
            }
            // With or without the row's lock.
            Step::Record(_) => {
                if !(self.rules.fence_locks && world.row_is_locked()) {
                    actions.push(Action::Fence(i));
                }
                actions.push(Action::NotRecorded(i));
            }
            Step::Locked(_) => {
                actions.extend([
                    Action::Apply(i),
                    Action::ApplyUnheard(i),
                    Action::RollBack(i),
                    Action::NotRecorded(i),
                ]);
            }
            Step::GiveBack { .. } => {
                if !(self.rules.fence_locks && world.row_is_locked()) {
                    actions.push(Action::GiveBack(i));
                }
            }
        }
    }
}

/// The state of a charge that an outcome leads to.
fn charge_of(answer: Answer) -> Charge {
    match answer {
        Answer::Captured => Charge::Succeeded,
        Answer::Declined | Answer::Refused | Answer::Error => Charge::Failed,
    }
}
