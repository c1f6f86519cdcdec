//! The answers that the requests of one key may get.

use std::collections::{BTreeMap, BTreeSet};

use super::Broken;
use crate::facts::Facts;
use crate::line::{Answer, Books, Request};

type Key<'a> = (&'a str, &'a str, &'a str);

fn name((account, scope, key): Key<'_>) -> String {
    if scope == "account" { format!("key {key} of {account}") } else { format!("key {key} of {account} for {scope}") }
}

fn answers<'a>(requests: &[&'a Request]) -> impl Iterator<Item = (&'a Request, &'a Answer)> {
    requests.iter().filter_map(|request| Some((*request, request.answer.as_ref()?)))
}

fn finals<'a>(requests: &[&'a Request]) -> impl Iterator<Item = (&'a Request, &'a Answer)> {
    answers(requests).filter(|(_, answer)| answer.is_final)
}

/// The answers to requests that were called after a final answer of their key had returned.
fn after_final<'a>(requests: &[&'a Request]) -> impl Iterator<Item = (&'a Request, &'a Answer)> {
    let first = finals(requests).map(|(request, _)| request.span.returned).min();
    answers(requests).filter(move |(request, _)| first.is_some_and(|first| first < request.span.called))
}

/// G1: however often a key is sent, it makes one object.
pub fn one_effect(facts: &Facts<'_>, broken: &mut Broken) {
    let mut made: BTreeMap<(&str, &str, &str), BTreeSet<&str>> = BTreeMap::new();
    for seen in facts.seen.values().flatten() {
        if let Some(key) = &seen.object.key {
            made.entry((seen.account, &seen.object.kind, key)).or_default().insert(&seen.object.id);
        }
    }
    for (book, rows) in facts.last(Books::Feed) {
        for row in rows {
            if let Some(key) = &row.object.key {
                made.entry((&book.account, &row.object.kind, key)).or_default().insert(&row.object.id);
            }
        }
    }
    for ((account, kind, key), ids) in made.iter().filter(|(_, ids)| ids.len() > 1) {
        broken.by(format_args!("key {key} of {account} made {} objects, each a {kind}: {ids:?}", ids.len()));
    }
    // A key may also take effect twice without a new object: the same change.
    for (key, requests) in &facts.keys {
        let locations: BTreeSet<_> = answers(requests).filter_map(|(_, answer)| answer.location.as_ref()).collect();
        if locations.len() > 1 {
            broken.by(format_args!("{} has {} locations: {locations:?}", name(*key), locations.len()));
        }
    }
}

/// Only the request whose own body ran answers without the replay marker.
pub fn one_fresh_answer(facts: &Facts<'_>, broken: &mut Broken) {
    for (key, requests) in &facts.keys {
        let is_fresh = |answer: &Answer| (answer.is_final || answer.status == 202) && !answer.is_replay;
        let fresh: Vec<_> = answers(requests).filter(|(_, answer)| is_fresh(answer)).collect();
        if fresh.len() > 1 {
            let at: Vec<_> = fresh.iter().map(|(request, _)| request.span.called).collect();
            broken.by(format_args!("{}: {} answers are no replays, of the calls at {at:?}", name(*key), fresh.len()));
        }
    }
}

/// G3.
pub fn equal_answers(facts: &Facts<'_>, broken: &mut Broken) {
    for (key, requests) in &facts.keys {
        let different: BTreeSet<_> = finals(requests).map(|(_, answer)| (answer.status, &answer.digest)).collect();
        if different.len() > 1 {
            broken.by(format_args!("{} has {} different final answers: {different:?}", name(*key), different.len()));
        }
    }
}

/// Only a 202 is provisional: the final reply takes its place.
pub fn no_late_202(facts: &Facts<'_>, broken: &mut Broken) {
    for (key, requests) in &facts.keys {
        for (request, _) in after_final(requests).filter(|(_, answer)| answer.status == 202) {
            broken.by(format_args!("{}: the call at {} got a 202", name(*key), request.span.called));
        }
    }
}

/// Nobody is told to change something, or to take a new key, when the key has its answer.
pub fn stays_final(facts: &Facts<'_>, broken: &mut Broken) {
    for (key, requests) in &facts.keys {
        let own: BTreeSet<_> = finals(requests).map(|(request, _)| (&request.route, &request.body)).collect();
        for (request, answer) in after_final(requests) {
            // A 408 from before routing is not a problem document, but means `again` too.
            let is_again =
                answer.status == 408 || answer.advice.as_deref() == Some("again") && answer.problem.is_some();
            let is_own = own.contains(&(&request.route, &request.body));
            // Other rules cover the 202 and the refusal.
            if is_own && !answer.is_final && !is_again && answer.status != 202 && !is_reused(answer) {
                let (status, problem) = (answer.status, answer.problem.as_deref().unwrap_or_default());
                broken.by(format_args!("{}: the call at {} got {status} {problem}", name(*key), request.span.called));
            }
        }
    }
}

/// G4: a key belongs to one request.
pub fn others_are_refused(facts: &Facts<'_>, broken: &mut Broken) {
    for (key, requests) in &facts.keys {
        let served = answers(requests).filter(|(_, answer)| answer.is_final || answer.status < 300);
        let served: BTreeSet<_> = served.map(|(request, _)| (&request.route, &request.body)).collect();
        if served.len() > 1 {
            broken.by(format_args!("{} served {} different requests: {served:?}", name(*key), served.len()));
        }
    }
}

/// A request that its key has served is never told that the key belongs to another request.
pub fn own_is_not_refused(facts: &Facts<'_>, broken: &mut Broken) {
    for (key, requests) in &facts.keys {
        let own: BTreeSet<_> = finals(requests).map(|(request, _)| (&request.route, &request.body)).collect();
        for (request, _) in answers(requests).filter(|(_, answer)| is_reused(answer)) {
            if own.contains(&(&request.route, &request.body)) {
                broken.by(format_args!("{}: the call at {} was refused", name(*key), request.span.called));
            }
        }
    }
}

fn is_reused(answer: &Answer) -> bool {
    answer.problem.as_deref() == Some("idempotency-key-reused")
}
