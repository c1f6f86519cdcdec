//! The network, which delays, loses and copies sendings, and the provider, which may do anything that the code must be
//! ready for.

use super::world::{Answer, Charge, Kept, World};
use super::{Action, Call, Reaction};

impl Call {
    pub(super) fn outside_actions(&self, world: &World, actions: &mut Vec<Action>) {
        for (place, sending) in world.sendings.iter().enumerate() {
            // Of two equal sendings, one is enough.
            if place > 0 && world.sendings[place - 1] == *sending {
                continue;
            }
            let mut arrive = |reaction| actions.push(Action::Arrive(place, reaction));
            if world.keys[sending.reference].is_some() {
                arrive(Reaction::Replay);
            } else {
                arrive(Reaction::Capture);
                if self.bounds.declines {
                    arrive(Reaction::Decline);
                }
                if self.bounds.stores_errors {
                    arrive(Reaction::StoreError { captures: true });
                    arrive(Reaction::StoreError { captures: false });
                }
            }
            // A firewall or the credentials check may refuse what the key would answer.
            if self.bounds.refuses {
                arrive(Reaction::Refuse);
            }
            actions.extend([Action::Drop(place), Action::ProxyFails(place)]);
            if world.copies < self.bounds.copies && world.sendings.len() < self.bounds.sendings {
                actions.push(Action::Copy(place));
            }
        }
        let in_time = self.assumptions.restored_in_time && self.bounds.restores > 0;
        if !in_time && world.keys.iter().flatten().any(|kept| kept.age >= self.times.keys_kept) {
            actions.push(Action::Forget);
        }
    }

    /// A sending arrives. The answer goes back at once; a holder that has stopped waiting never reads it.
    pub(super) fn arrive(&self, world: &mut World, place: usize, reaction: Reaction) {
        let sending = world.sendings.remove(place);
        let reference = sending.reference;
        let answer = match reaction {
            Reaction::Capture => Answer::Captured,
            Reaction::Decline => Answer::Declined,
            Reaction::Refuse => Answer::Refused,
            Reaction::StoreError { .. } => Answer::Error,
            Reaction::Replay => world.keys[reference].map_or(Answer::Error, |kept| kept.answer),
        };
        if matches!(reaction, Reaction::Capture | Reaction::StoreError { captures: true }) {
            // Two are too many already.
            world.captures[reference] = (world.captures[reference] + 1).min(2);
            world.unlisted = (self.times.list_lags > 0).then_some(0);
        }
        world.declined[reference] |= reaction == Reaction::Decline;
        if !matches!(reaction, Reaction::Refuse | Reaction::Replay) && self.times.keys_kept > 0 {
            world.keys[reference] = Some(Kept { answer, age: 0 });
        }
        if reaction == Reaction::Refuse && self.assumptions.refusal_ends_copies {
            world.sendings.retain(|other| other.name != sending.name);
        }
        world.answer(sending.name, answer);
    }
}

impl World {
    /// What the books say about a call. None if they have no such call.
    pub fn listed(&self, reference: usize) -> Option<Charge> {
        let captured = self.captures[reference] > 0 && self.unlisted.is_none();
        if captured {
            return Some(Charge::Succeeded);
        }
        self.declined[reference].then_some(Charge::Failed)
    }
}
