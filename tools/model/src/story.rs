//! A counterexample as a story: numbered lines for a terminal, or a sequence diagram for the page.

use std::fmt::Write as _;

use stateright::{Checker as _, Model};

/// A model whose steps can be told as a story.
pub trait Tells: Model {
    /// Who may appear in a story, from left to right.
    fn actors(&self) -> Vec<String>;
    /// One step.
    fn tell(&self, before: &Self::State, action: &Self::Action, after: &Self::State) -> Line;
}

/// One step of a story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    from: String,
    to: Option<String>,
    text: String,
}

impl Line {
    /// Something that one actor does to another.
    #[must_use]
    pub fn new(from: &str, to: &str, text: &str) -> Self {
        Self { from: from.to_owned(), to: Some(to.to_owned()), text: text.to_owned() }
    }

    /// Something that one actor does alone.
    #[must_use]
    pub fn note(actor: &str, text: &str) -> Self {
        Self { from: actor.to_owned(), to: None, text: text.to_owned() }
    }
}

/// The story of the shortest path to a state in which `property` does not hold. None if there is no such state.
///
/// The model must check only this property, on one thread, breadth first, so that the first counterexample is a
/// shortest one.
pub fn shortest<M>(model: &M, property: &'static str) -> Option<Story>
where
    M: Tells + Clone + Send + Sync + 'static,
    M::State: Clone + std::fmt::Debug + std::hash::Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + std::fmt::Debug + PartialEq + Send + Sync + 'static,
{
    let actors = model.actors();
    let checker = model.clone().checker().spawn_bfs().join();
    let steps = checker.discovery(property)?.into_vec();
    let told = steps.windows(2).filter_map(|pair| {
        let [(before, Some(action)), (after, _)] = pair else { return None };
        Some(model.tell(before, action, after))
    });
    Some(Story { actors, lines: told.collect() })
}

/// A path from the first state to one in which a property does not hold.
#[derive(Clone, Debug)]
pub struct Story {
    actors: Vec<String>,
    lines: Vec<Line>,
}

impl Story {
    /// How many steps it has.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.lines.len()
    }

    /// Numbered lines.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (i, Line { from, to, text: what }) in self.lines.iter().enumerate() {
            let to = to.as_ref().map_or(String::new(), |to| format!(" -> {to}"));
            let _ = writeln!(text, "  {:2}. {from}{to}: {what}", i + 1);
        }
        text
    }

    /// A Mermaid sequence diagram, with the actors that take part.
    #[must_use]
    pub fn mermaid(&self) -> String {
        let takes_part =
            |actor: &&String| self.lines.iter().any(|line| line.from == **actor || line.to.as_ref() == Some(*actor));
        let actors: Vec<&String> = self.actors.iter().filter(takes_part).collect();
        let short = |name: &String| actors.iter().position(|actor| *actor == name).unwrap_or_default();
        let mut text = "```mermaid\nsequenceDiagram\n".to_owned();
        for (i, actor) in actors.iter().enumerate() {
            let _ = writeln!(text, "    participant p{i} as {actor}");
        }
        for Line { from, to, text: what } in &self.lines {
            // A semicolon would end the statement.
            let what = what.replace(';', ",");
            let _ = match to {
                Some(to) => writeln!(text, "    p{}->>p{}: {what}", short(from), short(to)),
                None => writeln!(text, "    Note over p{}: {what}", short(from)),
            };
        }
        text + "```\n"
    }
}
