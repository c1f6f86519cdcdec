//! What the holder of a lease does: outcome.rs (what to send, what counts), resolve.rs, and the statements of lease.rs.

use super::world::{Answer, Charge, Holder, Name, Sending, Step, World};
use super::{Call, Check, charge_of};

impl Call {
    /// Takes a lease: attempts + 1, and the note that a sending is unanswered, written in advance. After enough
    /// attempts it parks the call.
    pub(super) fn take(&self, world: &mut World, i: usize) {
        let Some(row) = &mut world.row else { return };
        if row.parked {
            world.resumes += 1;
        } else if row.attempts >= self.bounds.max_attempts {
            row.parked = true;
            return;
        }
        let times = &self.times;
        let refusal_counts_after =
            if self.rules.refusal_counts_proxies { times.refusal_counts_after } else { times.lease };
        world.holders[i] = Some(Holder {
            attempt: row.attempts + 1,
            reference: row.reference,
            age: 0,
            look_first: times.key_lifetime.is_none_or(|lifetime| row.age > lifetime) && self.rules.looks_first,
            earlier_unanswered: row.unanswered.is_some_and(|age| age < refusal_counts_after),
            earlier: row.unanswered,
            unanswered: false,
            repeats: 0,
            step: Step::Start,
        });
        row.attempts += 1;
        (row.due_in, row.leased, row.parked) = (times.lease, true, false);
        if self.rules.written_ahead {
            row.unanswered = Some(0);
        }
    }

    /// A holder that was suspended must not send: its sending would begin later than the row's note says.
    fn is_late(&self, holder: &Holder) -> bool {
        holder.age >= self.times.lease
    }

    pub(super) fn start(&self, world: &mut World, i: usize) {
        let Some(holder) = &mut world.holders[i] else { return };
        if self.rules.check != Check::Never && self.is_late(holder) {
            return holder.gives_back(false);
        }
        holder.step = if holder.look_first { Step::LookFirst } else { Step::Send };
    }

    pub(super) fn send(&self, world: &mut World, i: usize) {
        let generation = world.restores + world.retries;
        let Some(holder) = &mut world.holders[i] else { return };
        if self.rules.check == Check::EachSending && self.is_late(holder) {
            return holder.gives_back(holder.unanswered);
        }
        let name = Name { generation, attempt: holder.attempt, repeat: holder.repeats };
        holder.step = Step::Await { name, answer: None };
        // A full network loses the sending.
        if world.sendings.len() < self.bounds.sendings {
            world.sendings.push(Sending { name, reference: holder.reference, age: 0 });
            world.sendings.sort_unstable();
        }
    }

    pub(super) fn read(&self, world: &mut World, i: usize) {
        let Some(holder) = &mut world.holders[i] else { return };
        let Step::Await { answer: Some(answer), .. } = holder.step else { return };
        let keeps_keys = self.times.key_lifetime.is_some() || !self.rules.no_repeat_without_keys;
        holder.step = match answer {
            Answer::Captured | Answer::Declined => Step::Record(charge_of(answer)),
            Answer::Refused if self.rules.refusal_is_looked_up => Step::LookAfter { refused: true },
            Answer::Refused => self.refused(holder),
            Answer::Error => {
                holder.unanswered = true;
                if keeps_keys && holder.repeats < self.bounds.quick_repeats {
                    holder.repeats += 1;
                    Step::Send
                } else {
                    Step::LookAfter { refused: false }
                }
            }
        };
    }

    /// Refused, and the books are empty. If a sending went unanswered, it may still take effect.
    fn refused(&self, holder: &Holder) -> Step {
        let own = holder.unanswered && self.rules.refusal_minds_own_lease;
        let earlier = holder.earlier_unanswered && self.rules.refusal_waits;
        if own || earlier { Step::GiveBack { unanswered: holder.unanswered } } else { Step::Record(Charge::Failed) }
    }

    /// The books answer, or the look fails.
    pub(super) fn look_up(&self, world: &mut World, i: usize, answers: bool) {
        let Some(holder) = world.holders[i] else { return };
        let found = answers.then(|| world.listed(holder.reference));
        let step = match (holder.step, found) {
            (_, Some(Some(charge))) => Step::Record(charge),
            // Nothing is sent if the look failed, or if an earlier sending may still arrive.
            (Step::LookFirst, None) if self.rules.failed_look_stops => Step::GiveBack { unanswered: false },
            (Step::LookFirst, _) if holder.earlier_unanswered && self.rules.old_sendings_end_first => {
                Step::GiveBack { unanswered: false }
            }
            (Step::LookFirst, _) => Step::Send,
            (Step::LookAfter { refused: true }, Some(None)) => self.refused(&holder),
            _ => Step::GiveBack { unanswered: holder.unanswered },
        };
        world.holders[i] = Some(Holder { step, ..holder });
    }

    /// The second transaction's first statement: is this lease the newest of an open call?
    pub(super) fn fence(&self, world: &mut World, i: usize) {
        let (Some(row), Some(holder)) = (world.row, &mut world.holders[i]) else { return };
        let Step::Record(charge) = holder.step else { return };
        let holds =
            (row.attempts == holder.attempt || !self.rules.fence) && !(row.resolved && self.rules.resolved_once);
        if holds {
            holder.step = Step::Locked(charge);
        } else {
            // The record has the final reply, or another holder will write it.
            world.holders[i] = None;
        }
    }

    /// Gives the lease back, if the holder still has it: due again after a pause, or parked.
    pub(super) fn give_back(&self, world: &mut World, i: usize) {
        let (Some(row), Some(holder)) = (&mut world.row, world.holders[i]) else { return };
        let Step::GiveBack { unanswered } = holder.step else { return };
        world.holders[i] = None;
        if row.resolved || row.attempts != holder.attempt {
            return;
        }
        row.due_in = if row.hinted { 0 } else { self.times.pause };
        (row.leased, row.hinted) = (false, false);
        row.parked = holder.attempt >= self.bounds.max_attempts;
        row.unanswered = match unanswered {
            true => Some(0),
            false if self.rules.earlier_note_restored => holder.earlier,
            false => None,
        };
    }
}

impl World {
    /// COMMIT. If its answer is lost, the transaction runs again.
    pub(super) fn apply(&mut self, i: usize, heard: bool) {
        let (Some(row), Some(holder)) = (&mut self.row, self.holders[i]) else { return };
        let Step::Locked(charge) = holder.step else { return };
        row.charge = charge;
        row.applied = (row.applied + 1).min(2);
        (row.resolved, row.parked, row.leased, row.hinted) = (true, false, false, false);
        row.due_in = 0;
        self.holders[i] = (!heard).then_some(Holder { step: Step::Record(charge), ..holder });
    }
}
