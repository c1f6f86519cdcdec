//! What must hold in every state of the external call's world.

use stateright::{Model, Property};

use super::world::{Charge, World};
use super::{Action, Call};

/// The properties' names.
pub mod names {
    #![expect(missing_docs, reason = "each text says what it is")]

    pub const MONEY_ONCE: &str = "money moves at most once a reference";
    pub const BOOKS_AGREE: &str = "the charge's final state agrees with the provider's books";
    pub const APPLIED_ONCE: &str = "an outcome is applied at most once";
    pub const ENDS: &str = "every call ends resolved or parked";
}
use names::{APPLIED_ONCE, BOOKS_AGREE, ENDS, MONEY_ONCE};

pub(super) fn properties() -> Vec<Property<Call>> {
    vec![
        Property::always(MONEY_ONCE, |_, world: &World| world.moved() <= 1),
        // In every state: what is final now must also agree with what the network delivers later.
        Property::always(BOOKS_AGREE, |_, world: &World| match world.row.map(|row| row.charge) {
            Some(Charge::Succeeded) => world.moved() > 0,
            Some(Charge::Failed) => world.moved() == 0,
            Some(Charge::Processing) | None => true,
        }),
        Property::always(APPLIED_ONCE, |_, world: &World| world.row.is_none_or(|row| row.applied <= 1)),
        Property::always(ENDS, |model: &Call, world: &World| {
            let mut actions: Vec<Action> = Vec::new();
            model.actions(world, &mut actions);
            !actions.is_empty() || world.row.is_some_and(|row| row.resolved || row.parked)
        }),
    ]
}
