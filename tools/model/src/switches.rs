//! Each rule of the code as a switch: the world in which the rule is needed, and what happens without it.

mod call;
mod record;

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::OnceLock;

use crate::check::{Checked, Limits, check};
use crate::story::{Story, Tells, shortest};

pub use self::call::{assumptions, call};
pub use self::record::record;

/// A rule, and the model with and without it.
#[derive(Clone, Debug)]
pub struct Switch<M> {
    /// The rule, as a sentence.
    pub rule: &'static str,
    /// What its absence does.
    pub breaks: Breaks,
    /// The model with the rule. It checks every property.
    pub on: M,
    /// The model without the rule.
    pub off: M,
}

/// What a rule's absence does within the bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breaks {
    /// This property, in a story with this title.
    Property(&'static str, &'static str),
    /// Nothing, and why.
    Nothing(&'static str),
}

/// What the checker finds without a rule.
#[derive(Clone, Debug)]
pub struct Told {
    /// The rule, as a sentence.
    pub rule: &'static str,
    /// What was expected.
    pub breaks: Breaks,
    /// The shortest counterexample.
    pub story: Option<Story>,
    /// Whether the checker found what was expected.
    pub is_as_expected: bool,
}

impl Told {
    /// For a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        match (self.breaks, &self.story) {
            (Breaks::Property(name, title), Some(story)) => {
                format!("  Without it: {title}.\n  Broken: {name}.\n{}", story.text())
            }
            (Breaks::Nothing(why), _) if self.is_as_expected => {
                format!("  Without it the checker finds nothing: {why}.\n")
            }
            (Breaks::Nothing(_), _) => "  UNEXPECTED: without it a property does not hold.\n".to_owned(),
            (Breaks::Property(name, _), None) => {
                format!("  UNEXPECTED: without it the checker finds nothing ({name}).\n")
            }
        }
    }
}

/// A switch of either specification.
pub trait AnySwitch {
    /// The rule, as a sentence.
    fn rule(&self) -> &'static str;
    /// Looks for the counterexample.
    fn tell(&self) -> Told;
    /// Visits every state of the model with the rule.
    fn check_on(&self) -> Checked;
    /// The world of the switch. Equal worlds are checked only once.
    fn world(&self) -> String;
}

impl<M> AnySwitch for Switch<M>
where
    M: Tells + Clone + Debug + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync + 'static,
{
    fn rule(&self) -> &'static str {
        self.rule
    }

    fn tell(&self) -> Told {
        let Self { rule, breaks, .. } = *self;
        let (story, is_as_expected) = match breaks {
            Breaks::Property(name, _) => {
                let story = shortest(&self.off, name);
                let found = story.is_some();
                (story, found)
            }
            Breaks::Nothing(_) => {
                let checked = check(self.off.clone(), Limits::SMALL);
                (None, checked.complete && checked.broken.is_empty())
            }
        };
        Told { rule, breaks, story, is_as_expected }
    }

    fn check_on(&self) -> Checked {
        check(self.on.clone(), Limits::SMALL)
    }

    fn world(&self) -> String {
        format!("{:?}", self.on)
    }
}

/// What a switch belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// A rule of the record.
    Record,
    /// A rule of the external call.
    Call,
    /// What the external call relies on.
    Assumption,
}

/// All switches.
#[must_use]
pub fn all() -> Vec<(Group, Box<dyn AnySwitch>)> {
    fn boxed<M>(group: Group, switches: Vec<Switch<M>>) -> impl Iterator<Item = (Group, Box<dyn AnySwitch>)>
    where
        Switch<M>: AnySwitch + 'static,
    {
        switches.into_iter().map(move |switch| (group, Box::new(switch) as Box<dyn AnySwitch>))
    }
    let record = boxed(Group::Record, record());
    record.chain(boxed(Group::Call, call())).chain(boxed(Group::Assumption, assumptions())).collect()
}

/// What the checker finds without each rule. It runs once per process.
pub fn told() -> &'static [(Group, Told)] {
    static TOLD: OnceLock<Vec<(Group, Told)>> = OnceLock::new();
    TOLD.get_or_init(|| all().into_iter().map(|(group, switch)| (group, switch.tell())).collect())
}
