//! Checks the program against the model: a trace of the steps that the program reported must be a path through the
//! model.
//!
//! The program reports only some of its steps, and later than it takes them. Between two reported steps, everything
//! unreported may happen: in the network, in other processes, by the clock, and one more step of each actor, which it
//! reports later. So the checker searches for one path that reports the whole trace. It first continues the path that
//! has reported the most, with the fewest unreported steps since. If all paths end before a step, the model does not
//! allow the step.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Debug;
use std::hash::Hash;

use stateright::Model;

/// The most states that a search visits: a second's work. The longest search for a trace of the crates' tests needs
/// 2,158.
const MOST_STATES: usize = 60_000;

/// A model whose actors report their steps.
pub trait Told: Model
where
    Self::State: Clone + Eq + Hash,
    Self::Action: Clone,
{
    /// A reported step.
    type Step: Copy + Debug + Eq + Hash;

    /// Who takes this action. None for the world around the actors.
    fn actor(&self, action: &Self::Action) -> Option<usize>;

    /// What the actor reports after this action.
    fn tells(&self, before: &Self::State, action: &Self::Action, after: &Self::State) -> Option<Self::Step>;

    /// What the actor reports before this action.
    fn announces(&self, action: &Self::Action) -> Option<Self::Step>;

    /// Whether the actor may report this in this state, without an action.
    fn may_tell(&self, state: &Self::State, actor: usize, step: Self::Step) -> bool;

    /// Whether the program itself takes this action. The model may leave open who does something.
    fn happens(&self, _: &Self::State, _: &Self::Action) -> bool {
        true
    }

    /// Who falls silent by this action, a crash. It happens only to an actor that has reported all its steps so far and
    /// reports no more.
    fn silences(&self, _: &Self::Action) -> Option<usize> {
        None
    }

    /// What the actors report before anything happens.
    fn first(&self) -> Vec<(usize, Self::Step)> {
        Vec::new()
    }

    /// Whether the trace may end here, with nothing owed. None if it may end anywhere, because its processes may.
    fn may_end(&self, _: &Self::State) -> Option<bool> {
        None
    }
}

/// What is between an actor's last reported step and its next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Note<S> {
    Nothing,
    /// The actor has taken a step, and reports it next.
    Owes(S),
    /// The actor has reported the step that it takes next.
    Announced(S),
}

/// A state of the model, and a note for each actor.
type Place<M> = (<M as Model>::State, Vec<Note<<M as Told>::Step>>);

/// A trace that the model allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Reported steps that were followed.
    pub steps: usize,
    /// False if there were too many states.
    pub is_whole: bool,
    /// States that were visited.
    pub states: usize,
}

/// Why the model does not allow a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The step at this place in the trace can't come now.
    Step(usize),
    /// After the last step, the model can't be where the trace ends.
    End,
}

/// Follows a trace: who reported what, in order.
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
    // By the number of steps still to be reported, then by the number of unreported steps since the last.
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
