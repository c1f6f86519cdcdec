//! Holds the program against the model: a trace of what the program told, step by step, must be a way through the model.
//!
//! The program tells of some of its steps only, and later than it takes them. Between two told steps everything may happen that
//! needs no telling: the network, other processes, the clock, and one more step of each actor, which the actor tells later. So
//! the checker searches for one way that tells the whole trace. It goes on first where most is told by the fewest steps that nobody
//! told. If all ways end before a step, the model does not allow the step.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Debug;
use std::hash::Hash;

use stateright::Model;

/// More states than this are not looked at: a second's work. The longest search for a trace of the crates' tests needs 2,158.
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
    /// False: there were too many states.
    pub is_whole: bool,
    /// States that were looked at.
    pub states: usize,
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
    let last_told: Vec<_> = (0..actors)
        .map(|actor| trace.iter().rposition(|(teller, _)| *teller == actor).map_or(0, |last| last + 1))
        .collect();
    // By the number of steps that are still to tell, then by the number of steps since that nobody told.
    let mut open: BTreeMap<(usize, usize), Vec<Place<M>>> = BTreeMap::new();
    let mut seen: HashSet<(usize, Place<M>)> = HashSet::new();
    let mut reach = |open: &mut BTreeMap<_, Vec<_>>, to_tell: usize, untold: usize, place: Place<M>| {
        if seen.insert((to_tell, place.clone())) {
            open.entry((to_tell, untold)).or_default().push(place);
        }
        seen.len()
    };
    let (mut states, mut least, mut actions) = (0, trace.len(), Vec::new());
    for state in model.init_states() {
        states = reach(&mut open, trace.len(), 0, (state, notes.clone()));
    }
    while let Some(mut first) = open.first_entry() {
        let (to_tell, untold) = *first.key();
        let Some(place) = first.get_mut().pop() else {
            first.remove();
            continue;
        };
        least = least.min(to_tell);
        if states > MOST_STATES {
            return Ok(Allowed { steps: trace.len() - least, is_whole: false, states });
        }
        let told = trace.len() - to_tell;
        match trace.get(told) {
            Some((actor, step)) => {
                if let Some(place) = tell(model, place.clone(), *actor, *step) {
                    states = reach(&mut open, to_tell - 1, 0, place);
                }
            }
            None if may_end(model, &place) => return Ok(Allowed { steps: told, is_whole: true, states }),
            None => {}
        }
        let (state, notes) = place;
        model.actions(&state, &mut actions);
        for action in actions.drain(..) {
            let is_over = |actor: usize| last_told[actor] <= told;
            if let Some(place) = act(model, &state, &notes, action, is_over) {
                states = reach(&mut open, to_tell, untold + 1, place);
            }
        }
    }
    Err(if least == 0 { Refused::End } else { Refused::Step(trace.len() - least) })
}

/// Whether the trace may end here.
fn may_end<M: Told>(model: &M, (state, notes): &Place<M>) -> bool
where
    M::State: Clone + Eq + Hash,
    M::Action: Clone,
{
    let owes_nothing = || notes.iter().all(|note| !matches!(note, Note::Owes(_)));
    model.may_end(state).is_none_or(|is_at_rest| is_at_rest && owes_nothing())
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

fn act<M: Told>(
    model: &M,
    state: &M::State,
    notes: &[Note<M::Step>],
    action: M::Action,
    is_over: impl Fn(usize) -> bool,
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
    let may_crash = |actor: usize| is_over(actor) && !matches!(notes[actor], Note::Owes(_));
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
