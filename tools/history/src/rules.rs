//! The rules of the contract.

mod books;
mod keys;
mod objects;

use std::fmt::Display;

use crate::Violation;
use crate::facts::Facts;
use crate::line::Line;

/// A rule of the contract.
#[derive(Clone, Copy)]
pub struct Rule {
    /// The rule, as a sentence.
    pub name: &'static str,
    /// What breaks it.
    broken: fn(&Facts<'_>, &mut Broken),
}

/// Collects what breaks one rule.
struct Broken {
    rule: &'static str,
    violations: Vec<Violation>,
}

impl Broken {
    fn by(&mut self, what: impl Display) {
        self.violations.push(Violation { rule: self.rule, what: what.to_string() });
    }
}

/// All rules.
pub const RULES: [Rule; 15] = [
    Rule { name: "a key has one effect", broken: keys::one_effect },
    Rule { name: "the body of a key runs once", broken: keys::one_fresh_answer },
    Rule { name: "all final answers of a key are equal", broken: keys::equal_answers },
    Rule { name: "no 202 comes after the final answer", broken: keys::no_late_202 },
    Rule {
        name: "after its final answer a key gets that answer, or a problem that says `again`",
        broken: keys::stays_final,
    },
    Rule { name: "another request with the key is refused", broken: keys::others_are_refused },
    Rule { name: "a request is not refused under its own key", broken: keys::own_is_not_refused },
    Rule { name: "an acknowledged write is never gone", broken: objects::never_gone },
    Rule { name: "a final state never changes", broken: objects::stays_final },
    Rule { name: "an account never sees what is another account's", broken: objects::one_owner },
    Rule { name: "lists and feed agree", broken: books::lists_and_feed_agree },
    Rule { name: "no event appears before a cursor that a client has", broken: books::feed_keeps_its_order },
    Rule { name: "an order is paid once, by its amount", broken: books::paid_once },
    Rule { name: "the refunds of a charge add up", broken: books::refunds_add_up },
    Rule { name: "the gateway's books are the server's", broken: books::gateway_agrees },
];

/// What breaks the contract in a history.
#[must_use]
pub fn check(history: &[Line]) -> Vec<Violation> {
    check_by(&RULES, &history.iter().collect::<Vec<_>>())
}

/// What breaks some rules in a history.
#[must_use]
pub fn check_by(rules: &[Rule], history: &[&Line]) -> Vec<Violation> {
    let facts = Facts::of(history);
    let broken = rules.iter().flat_map(|rule| {
        let mut broken = Broken { rule: rule.name, violations: Vec::new() };
        (rule.broken)(&facts, &mut broken);
        broken.violations
    });
    broken.collect()
}
