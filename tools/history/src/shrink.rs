//! Cuts a history that breaks a rule down to a small one that breaks it in the same way: first key by key, then line by
//! line.
//!
//! A cut must not invent a fault: a list without the row that was cut out would look like a lost write. So a smaller
//! history counts only if it has the very same violation, with all the numbers and ids that the violation names.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::Violation;
use crate::line::{Fault, Line, Object, Span};
use crate::rules::{RULES, Rule, check_by};

/// Faults that ended longer than this before the first request are left out, in microseconds: a hanging call is over
/// after 75 s, the longest time in the contract.
const FAULTS_BEFORE: u64 = 75_000_000;

/// A small history that breaks the same rule in the same way. It includes the faults of its time, except those of other
/// calls.
#[must_use]
pub fn shrink(history: &[Line], violation: &Violation) -> Vec<Line> {
    let rule: Vec<Rule> = RULES.into_iter().filter(|rule| rule.name == violation.rule).collect();
    let fails = |lines: &[&Line]| check_by(&rule, lines).contains(violation);
    let lines = history.iter().filter(|line| !matches!(line, Line::Fault(_)));

    let names = Names::of(history);
    let mut by_key: BTreeMap<String, Vec<&Line>> = BTreeMap::new();
    for (place, line) in lines.enumerate() {
        by_key.entry(names.key_of(line).unwrap_or_else(|| format!("line {place}"))).or_default().push(line);
    }
    let keys = without_needless(by_key.into_values().collect(), |keys: &[Vec<&Line>]| fails(&keys.concat()));
    let lines = without_needless(keys.concat(), fails);

    let first = lines.iter().map(|line| span(line).called).min().unwrap_or_default();
    let last = lines.iter().map(|line| span(line).returned).max().unwrap_or_default();
    let references: HashSet<&str> = lines.iter().filter_map(|line| object(line)?.reference.as_deref()).collect();
    let is_near = |line: &&Line| match line {
        Line::Fault(Fault { span, of, .. }) => {
            let is_of_these = of.as_deref().is_none_or(|of| references.contains(of));
            is_of_these && span.returned + FAULTS_BEFORE >= first && span.called <= last
        }
        _ => false,
    };
    let faults = history.iter().filter(is_near);
    let mut small: Vec<Line> = lines.into_iter().chain(faults).cloned().collect();
    small.sort_by_key(|line| span(line).called);
    small
}

/// When a line happened. A row has no time, since it was read with its book.
pub(crate) fn span(line: &Line) -> Span {
    match line {
        Line::Request(request) => request.span,
        Line::Read(read) => read.span,
        Line::Book(book) => book.span,
        Line::Row(_) => Span { called: u64::MAX, returned: 0 },
        Line::Fault(fault) => fault.span,
    }
}

/// Drops half of the parts, quarters, and so on down to single parts, as long as the rest still fails (delta debugging).
fn without_needless<T: Clone>(mut parts: Vec<T>, fails: impl Fn(&[T]) -> bool) -> Vec<T> {
    let mut size = parts.len().div_ceil(2);
    while size > 0 {
        let mut from = 0;
        while from < parts.len() {
            let to = parts.len().min(from + size);
            let rest = [&parts[..from], &parts[to..]].concat();
            if fails(&rest) {
                parts = rest;
            } else {
                from = to;
            }
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    parts
}

/// The keys of lines without a key: an object that was read, and a payment at the gateway.
struct Names<'a>(HashMap<&'a str, &'a str>);

impl<'a> Names<'a> {
    fn of(history: &'a [Line]) -> Self {
        let mut names = HashMap::new();
        for object in history.iter().filter_map(object) {
            if let Some(key) = &object.key {
                names.insert(object.id.as_str(), key.as_str());
                names.extend(object.reference.as_deref().map(|reference| (reference, key.as_str())));
            }
        }
        Self(names)
    }

    /// The key that a line belongs to, if any.
    fn key_of(&self, line: &Line) -> Option<String> {
        match line {
            Line::Request(request) => Some(request.key.clone()),
            Line::Read(read) => self.0.get(read.id.as_str()).map(|key| (*key).to_owned()),
            Line::Row(row) => {
                let reference = row.object.reference.as_deref().unwrap_or_default();
                let name = self.0.get(row.object.id.as_str()).or_else(|| self.0.get(reference));
                name.map(|key| (*key).to_owned())
            }
            Line::Book(_) | Line::Fault(_) => None,
        }
    }
}

fn object(line: &Line) -> Option<&Object> {
    match line {
        Line::Request(request) => request.answer.as_ref()?.object.as_ref(),
        Line::Read(read) => read.object.as_ref(),
        Line::Row(row) => Some(&row.object),
        Line::Book(_) | Line::Fault(_) => None,
    }
}
