//! A small history, for people.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::line::{Answer, Line, Object, Span};
use crate::{Violation, shrink};

/// One line for each line of the history, with times in seconds.
#[must_use]
fn tell(history: &[Line]) -> String {
    let mut text = String::new();
    for line in history {
        let _ = match line {
            Line::Request(request) => {
                let answer = request.answer.as_ref().map_or("no answer".to_owned(), answered);
                let (account, key, route, body) = (&request.account, &request.key, &request.route, &request.body);
                writeln!(text, "{} {account} {route} key={key} {body} -> {answer}", time(request.span))
            }
            Line::Read(read) => {
                let found = read.object.as_ref().map_or("404".to_owned(), shown);
                writeln!(text, "{} {} reads {} -> {found}", time(read.span), read.account, read.id)
            }
            Line::Book(book) => {
                let of = book.of.as_ref().map_or(String::new(), |of| format!(" of {of}"));
                writeln!(text, "{} {} reads all {:?}{of}", time(book.span), book.account, book.book)
            }
            Line::Row(row) => {
                let (event, cursor) = (row.event.as_deref().unwrap_or(""), row.cursor.as_deref().unwrap_or(""));
                writeln!(text, "{:>23}   row: {event} {cursor} {}", "", shown(&row.object))
            }
            Line::Fault(fault) => {
                let of = fault.of.as_ref().map_or(String::new(), |of| format!(" ({of})"));
                writeln!(text, "{} FAULT: {}{of}", time(fault.span), fault.what)
            }
        };
    }
    text
}

#[expect(clippy::cast_precision_loss, reason = "a time for people")]
fn time(Span { called, returned }: Span) -> String {
    let seconds = |micros: u64| micros as f64 / 1e6;
    format!("{:>10.3} ..{:>10.3}", seconds(called), seconds(returned))
}

fn answered(answer: &Answer) -> String {
    let Answer { status, problem, is_final, is_replay, digest, object, .. } = answer;
    let problem = problem.as_ref().map_or(String::new(), |problem| format!(" {problem}"));
    let finality = if *is_final { " final" } else { "" };
    let replay = if *is_replay { " replay" } else { "" };
    let object = object.as_ref().map_or(String::new(), |object| format!(" {}", shown(object)));
    format!("{status}{problem}{finality}{replay}{object} [{digest}]")
}

fn shown(object: &Object) -> String {
    let Object { kind, id, status, amount, refunded, of, reference, key } = object;
    let optional =
        |name: &str, value: &Option<String>| value.as_ref().map_or(String::new(), |value| format!(" {name}={value}"));
    let refunded = if *refunded > 0 { format!(" refunded={refunded}") } else { String::new() };
    let more = [optional("of", of), optional("key", key), optional("reference", reference)].concat();
    format!("{kind} {id} {status} {amount}{refunded}{more}")
}

/// All violations of the contract, and a small history for the first violation of each rule.
#[must_use]
pub fn report(history: &[Line], violations: &[Violation]) -> String {
    let mut text = format!("{} lines of history, {} violations of the contract\n", history.len(), violations.len());
    let mut told = BTreeSet::new();
    for violation in violations.iter().filter(|violation| told.insert(violation.rule)) {
        let like_it = violations.iter().filter(|other| other.rule == violation.rule).count();
        let _ = writeln!(text, "\nBROKEN, {like_it} times: {}\n  {}", violation.rule, violation.what);
        text += &tell(&shrink(history, violation));
    }
    text
}
