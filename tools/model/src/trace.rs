//! Holds the program against the model: a trace of what the program told, step by step, must be a way through the model.
//!
//! The program tells of some of its steps only, and later than it takes them. So the checker keeps every state that the model may
//! be in after what was told so far. Between two told steps everything may happen that needs no telling: the network, other
//! processes, the clock, and one more step of each actor, which the actor tells later. If no state is left, the model does
//! not allow the step.

use std::collections::{HashSet, VecDeque};
use std::fmt::Debug;
use std::hash::Hash;

use stateright::Model;

/// More states than this are not looked at: a second's work. The longest trace of the crates' tests that fits has 25,841.
const MOST_STATES: usize = 60_000;

/// A model whose actors tell of their steps.
pub trait Told: Model
where
    Self::State: Clone + Eq + Hash,
    Self::Action: Clone,
{
    /// What is told.
    type Step: Copy + Debug + Eq + Hash;

    /// Who takes this action. None: the world around the actors.
    fn actor(&self, action: &Self::Action) -> Option<usize>;

    /// What the actor tells after this action.
    fn tells(&self, before: &Self::State, action: &Self::Action, after: &Self::State) -> Option<Self::Step>;

    /// What the actor tells before this action.
    fn announces(&self, action: &Self::Action) -> Option<Self::Step>;

    /// Whether the actor may tell this in this state, without an action.
    fn may_tell(&self, state: &Self::State, actor: usize, step: Self::Step) -> bool;

    /// Whether the program takes this action in its own way. The model may leave open who does something.
    fn happens(&self, _: &Self::State, _: &Self::Action) -> bool {
        true
    }

    /// Who falls silent by this action: a crash. It happens only to an actor that has told of all its steps so far, and tells of no
    /// more.
    fn silences(&self, _: &Self::Action) -> Option<usize> {
        None
    }

    /// What the actors tell of before anything happens.
    fn first(&self) -> Vec<(usize, Self::Step)> {
        Vec::new()
    }

    /// Whether the trace may end here, with nothing owed. None: it may end anywhere, since its processes may.
    fn may_end(&self, _: &Self::State) -> Option<bool> {
        None
    }
}

/// What is between an actor's last told step and the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Note<S> {
    Nothing,
    /// The actor has taken a step, and tells of it next.
    Owes(S),
    /// The actor has told of the step that it takes next.
    Announced(S),
}

/// A state of the model, and a note for each actor.
type Place<M> = (<M as Model>::State, Vec<Note<<M as Told>::Step>>);

/// A trace that the model allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Told steps that were followed.
    pub steps: usize,
    /// False: there were too many states after these steps.
    pub is_whole: bool,
    /// States that the model may have been in, at most.
    pub most_states: usize,
}

/// Why the model does not allow a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The step with this place in the trace can't come now.
    Step(usize),
    /// After the last step, the model can't be where the trace ends.
    End,
}

/// Follows a trace: who told what, in order.
///
/// # Errors
/// [`Refused`].
pub fn follow<M: Told>(model: &M, actors: usize, trace: &[(usize, M::Step)]) -> Result<Allowed, Refused>
where
    M::State: Clone + Eq + Hash,
    M::Action: Clone,
{
    let mut notes = vec![Note::Nothing; actors];
    for (actor, step) in model.first() {
        notes[actor] = Note::Owes(step);
    }
    let mut places: HashSet<Place<M>> = model.init_states().into_iter().map(|state| (state, notes.clone())).collect();
    let mut most_states = 0;
    let silent = |rest: &[(usize, M::Step)]| -> Vec<bool> {
        (0..actors).map(|actor| rest.iter().all(|(teller, _)| *teller != actor)).collect()
    };
    for (number, (actor, step)) in trace.iter().enumerate() {
        let is_over = silent(&trace[number..]);
        let Some(reachable) = reach(model, places, &is_over) else {
            return Ok(Allowed { steps: number, is_whole: false, most_states: MOST_STATES });
        };
        most_states = most_states.max(reachable.len());
        places = reachable.into_iter().filter_map(|place| tell(model, place, *actor, *step)).collect();
        if places.is_empty() {
            return Err(Refused::Step(number));
        }
    }
    let Some(reachable) = reach(model, places, &silent(&[])) else {
        return Ok(Allowed { steps: trace.len(), is_whole: false, most_states: MOST_STATES });
    };
    let owes_nothing = |notes: &[Note<M::Step>]| notes.iter().all(|note| !matches!(note, Note::Owes(_)));
    let may_end =
        |(state, notes): &Place<M>| model.may_end(state).is_none_or(|is_at_rest| is_at_rest && owes_nothing(notes));
    if !reachable.iter().any(may_end) {
        return Err(Refused::End);
    }
    Ok(Allowed { steps: trace.len(), is_whole: true, most_states })
}

fn tell<M: Told>(model: &M, (state, mut notes): Place<M>, actor: usize, step: M::Step) -> Option<Place<M>>
where
    M::State: Clone + Eq + Hash,
    M::Action: Clone,
{
    notes[actor] = match notes[actor] {
        Note::Owes(owed) if owed == step => Note::Nothing,
        Note::Nothing | Note::Announced(_) if model.may_tell(&state, actor, step) => Note::Announced(step),
        _ => return None,
    };
    Some((state, notes))
}

/// All places that can be reached without a telling. None: too many.
fn reach<M: Told>(model: &M, from: HashSet<Place<M>>, is_over: &[bool]) -> Option<HashSet<Place<M>>>
where
    M::State: Clone + Eq + Hash,
    M::Action: Clone,
{
    let mut next: VecDeque<Place<M>> = from.iter().cloned().collect();
    let mut seen = from;
    let mut actions = Vec::new();
    while let Some((state, notes)) = next.pop_front() {
        model.actions(&state, &mut actions);
        for action in actions.drain(..) {
            let Some(place) = act(model, &state, &notes, action, is_over) else { continue };
            if seen.insert(place.clone()) {
                next.push_back(place);
            }
        }
        if seen.len() > MOST_STATES {
            return None;
        }
    }
    Some(seen)
}

fn act<M: Told>(
    model: &M,
    state: &M::State,
    notes: &[Note<M::Step>],
    action: M::Action,
    is_over: &[bool],
) -> Option<Place<M>>
where
    M::State: Clone + Eq + Hash,
    M::Action: Clone,
{
    let actor = model.actor(&action);
    let announced = model.announces(&action);
    let may = match actor.map(|actor| notes[actor]) {
        Some(Note::Owes(_)) => false,
        Some(Note::Announced(step)) => announced.is_none_or(|needed| needed == step),
        Some(Note::Nothing) | None => announced.is_none(),
    };
    if !may || !model.happens(state, &action) {
        return None;
    }
    let may_crash = |actor: usize| is_over[actor] && !matches!(notes[actor], Note::Owes(_));
    if !model.silences(&action).is_none_or(may_crash) {
        return None;
    }
    let after = model.next_state(state, action.clone())?;
    let mut notes = notes.to_vec();
    if let Some(actor) = actor {
        notes[actor] = model.tells(state, &action, &after).map_or(Note::Nothing, Note::Owes);
    }
    Some((after, notes))
}
