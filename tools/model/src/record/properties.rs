//! What must hold in every state of the record's world, and what must be possible, so that the model is not empty.

use stateright::{Model, Property};

use super::world::{Answer, At, Reply, Row, World};
use super::{Action, Body, Record};

/// The properties' names.
pub mod names {
    #![expect(missing_docs, reason = "each text says what it is")]

    pub const ONE_EFFECT: &str = "a key has at most one effect";
    pub const ONE_REPLY: &str = "all who get a final reply get the same one";
    pub const OTHERS_ARE_REFUSED: &str = "no request gets the reply of another request";
    pub const OWN_IS_NOT_REFUSED: &str = "no request is refused under its own key";
    pub const REPLY_WITH_RECORD: &str = "no record commits without its reply";
    pub const FAILURE_WITHOUT_EFFECT: &str = "a stored failure has no effect";
    pub const MARKER: &str = "only the request whose body ran answers without the replay marker";
    pub const OWN_FAILURE: &str = "a request gets no failure of another request, and none that its own key caused";
    pub const NO_WAIT_INSIDE: &str = "no duplicate holds a connection while it waits";
    pub const AT_REST: &str = "at rest the key is free or has its final reply";
}
use names::{
    AT_REST, FAILURE_WITHOUT_EFFECT, MARKER, NO_WAIT_INSIDE, ONE_EFFECT, ONE_REPLY, OTHERS_ARE_REFUSED, OWN_FAILURE,
    OWN_IS_NOT_REFUSED, REPLY_WITH_RECORD,
};

pub(super) fn properties() -> Vec<Property<Record>> {
    vec![
        Property::always(ONE_EFFECT, |_, world: &World| world.effects <= 1),
        Property::always(ONE_REPLY, |_, world: &World| {
            let mut finals = replies(world).filter(|row| row.reply != Reply::Provisional);
            // Replies from two lives of the key may differ.
            finals.all(|one| {
                replies(world).all(|row| {
                    row.expires != one.expires
                        || row.reply == Reply::Provisional
                        || (row.by, row.reply) == (one.by, one.reply)
                })
            })
        }),
        Property::always(OTHERS_ARE_REFUSED, |_, world: &World| {
            let mut answers = world.requests.iter().map(|request| (request.body, &request.at));
            answers.all(|(body, at)| !matches!(at, At::Answered(Answer::Reply { row, .. }) if row.body != body))
        }),
        Property::always(OWN_IS_NOT_REFUSED, |_, world: &World| !has_answer(world, &Answer::Reused { own: true })),
        Property::always(REPLY_WITH_RECORD, |_, world: &World| world.row.is_none_or(|row| row.reply != Reply::None)),
        Property::always(FAILURE_WITHOUT_EFFECT, |_, world: &World| {
            world.row.is_none_or(|row| row.reply != Reply::Failure || world.effects == 0)
        }),
        Property::always(MARKER, |_, world: &World| {
            let mut answers = world.requests.iter().enumerate();
            answers.all(|(i, request)| match request.at {
                At::Answered(Answer::Reply { row, replayed }) => replayed == (row.by != i),
                _ => true,
            })
        }),
        Property::always(OWN_FAILURE, |model: &Record, world: &World| {
            // A second cancellation fails only because of the first, and all have one key.
            let by_own_key = model.bounds.body == Body::Cancel && has_answer(world, &Answer::Failed { own: true });
            !has_answer(world, &Answer::Failed { own: false }) && !by_own_key
        }),
        Property::always(NO_WAIT_INSIDE, |model: &Record, world: &World| {
            (0..world.requests.len()).all(|i| world.blocker(model, i).is_none())
        }),
        Property::always(AT_REST, |model: &Record, world: &World| !is_at_rest(model, world) || is_clean(world)),
    ]
}

fn replies(world: &World) -> impl Iterator<Item = &Row> {
    world.requests.iter().filter_map(|request| match &request.at {
        At::Answered(Answer::Reply { row, .. }) => Some(row),
        _ => None,
    })
}

fn has_answer(world: &World, answer: &Answer) -> bool {
    world.requests.iter().any(|request| matches!(&request.at, At::Answered(its) if its == answer))
}

/// Nothing more can happen.
fn is_at_rest(model: &Record, world: &World) -> bool {
    let mut actions: Vec<Action> = Vec::new();
    model.actions(world, &mut actions);
    actions.is_empty()
}

/// The next request of the key would run or get a final reply. Every request has its answer.
fn is_clean(world: &World) -> bool {
    world.requests.iter().all(|request| matches!(request.at, At::Answered(_)))
        && world.flights.iter().all(Option::is_none)
        && world.transactions().next().is_none()
        && !world.leaked
        && world.row.is_none_or(|row| !matches!(row.reply, Reply::None | Reply::Provisional))
}
