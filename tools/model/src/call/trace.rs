//! The steps that an attempt reports (crates/external-calls, `ExternalSystem::reached`). The holder of the first lease
//! is the handler, and the holder of lease n is worker n - 1, so there are as many workers as leases.

use super::world::{Step as Place, World};
use super::{Action, Call};
use crate::trace::Told;

/// A step as the service sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they are the names of `external_calls::Step`")]
pub enum Step {
    Begun,
    Leased,
    Sending,
    Called,
    Applied,
    Recorded,
    GivenBack,
}

impl Told for Call {
    type Step = Step;

    fn actor(&self, action: &Action) -> Option<usize> {
        match *action {
            Action::Take(i)
            | Action::Resume(i)
            | Action::Start(i)
            | Action::LookUp(i)
            | Action::LookUpFails(i)
            | Action::Send(i)
            | Action::Read(i)
            | Action::TimeOut(i)
            | Action::Fence(i)
            | Action::Apply(i)
            | Action::ApplyUnheard(i)
            | Action::RollBack(i)
            | Action::NotRecorded(i)
            | Action::GiveBack(i) => Some(i),
            Action::Crash(_)
            | Action::Arrive(..)
            | Action::Drop(_)
            | Action::Copy(_)
            | Action::ProxyFails(_)
            | Action::Forget
            | Action::Hint
            | Action::Tick
            | Action::BackUp
            | Action::Restore
            | Action::Retry => None,
        }
    }

    fn tells(&self, before: &World, action: &Action, after: &World) -> Option<Step> {
        let i = self.actor(action)?;
        let step = after.holders[i].map(|holder| holder.step);
        match action {
            Action::Take(_) | Action::Resume(_) => step.map(|_| Step::Leased),
            Action::Start(_) => (!matches!(step, Some(Place::GiveBack { .. }))).then_some(Step::Sending),
            Action::LookUp(_) | Action::LookUpFails(_) | Action::Send(_) | Action::Read(_) | Action::TimeOut(_) => {
                matches!(step, Some(Place::Record(_) | Place::GiveBack { .. })).then_some(Step::Called)
            }
            // This lease has recorded the outcome, and the answer to COMMIT was lost. Or the lease is lost, and giving it
            // back has no effect.
            Action::Fence(_) if step.is_none() => {
                let (row, attempt) = (after.row?, before.holders[i]?.attempt);
                Some(if row.resolved && row.attempts == attempt { Step::Recorded } else { Step::GivenBack })
            }
            Action::Apply(_) => Some(Step::Recorded),
            Action::GiveBack(_) => Some(Step::GivenBack),
            _ => None,
        }
    }

    fn announces(&self, action: &Action) -> Option<Step> {
        matches!(action, Action::Apply(_) | Action::ApplyUnheard(_)).then_some(Step::Applied)
    }

    fn may_tell(&self, world: &World, actor: usize, step: Step) -> bool {
        let is_locked = world.holders[actor].is_some_and(|holder| matches!(holder.step, Place::Locked(_)));
        step == Step::Applied && is_locked
    }

    fn happens(&self, world: &World, action: &Action) -> bool {
        match *action {
            Action::Take(i) | Action::Resume(i) => world.row.is_some_and(|row| usize::from(row.attempts) == i),
            _ => true,
        }
    }

    fn silences(&self, action: &Action) -> Option<usize> {
        if let Action::Crash(i) = action { Some(*i) } else { None }
    }

    fn first(&self) -> Vec<(usize, Step)> {
        vec![(0, Step::Begun)]
    }
}
