//! What reads and lists may show of an object.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::Broken;
use crate::facts::Facts;
use crate::line::{Book, Books};

/// An object that an answer has reported.
struct Told<'a> {
    id: &'a str,
    at: u64,
}

/// A list: account, kind, and the order or charge if it is the list of a single one.
type List<'a> = (&'a str, &'a str, Option<&'a str>);

/// Once an answer has reported an object, each later read finds it, and so does each later list that it belongs in.
pub fn never_gone(facts: &Facts<'_>, broken: &mut Broken) {
    let mut told: BTreeMap<&str, u64> = BTreeMap::new();
    let mut lists: BTreeMap<List<'_>, Vec<Told<'_>>> = BTreeMap::new();
    for (id, seen) in &facts.seen {
        let acknowledged = || seen.iter().filter(|seen| seen.is_acknowledged);
        let Some(at) = acknowledged().map(|seen| seen.span.returned).min() else { continue };
        told.insert(id, at);
        for seen in acknowledged().take(1) {
            let of = seen.object.of.as_deref().map(Some);
            for of in [None].into_iter().chain(of) {
                lists.entry((seen.account, &seen.object.kind, of)).or_default().push(Told { id, at });
            }
        }
    }
    for read in &facts.missing {
        if let Some(told) = told.get(read.id.as_str()).filter(|told| **told < read.span.called) {
            let (id, called) = (&read.id, read.span.called);
            broken.by(format_args!("{id} was told of at {told}, and the read at {called} got 404"));
        }
    }
    for (book, rows) in &facts.books {
        let Some(kind) = kind_in(book) else { continue };
        let listed: HashSet<&str> = rows.iter().map(|row| row.object.id.as_str()).collect();
        let told = lists.get(&(book.account.as_str(), kind, book.of.as_deref()));
        for Told { id, at } in told.into_iter().flatten() {
            if *at < book.span.called && !listed.contains(id) {
                broken.by(format_args!("{kind} {id} is not in the list that was read at {}", book.span.called));
            }
        }
    }
}

fn kind_in(book: &Book) -> Option<&'static str> {
    match book.book {
        Books::Orders => Some("order"),
        Books::Charges => Some("charge"),
        Books::Refunds => Some("refund"),
        Books::Feed | Books::Followed | Books::Payments | Books::Repayments => None,
    }
}

/// Whether an object with the first status can later have the second.
fn may_follow(before: &str, after: &str) -> bool {
    before == after
        || matches!(
            (before, after),
            ("pending", "paid" | "canceled" | "refunded")
                | ("paid", "refunded")
                | ("processing", "succeeded" | "failed")
        )
}

/// A later state is the same, or one that can follow.
pub fn stays_final(facts: &Facts<'_>, broken: &mut Broken) {
    for (id, seen) in &facts.seen {
        // A replay shows how things were.
        let mut now: Vec<_> = seen.iter().filter(|seen| !seen.is_replay).collect();
        now.sort_by_key(|seen| seen.span.returned);
        for later in &now {
            let earlier = now.iter().take_while(|earlier| earlier.span.is_before(&later.span));
            let wrong = earlier.filter(|earlier| !may_follow(&earlier.object.status, &later.object.status));
            if let Some(earlier) = wrong.last() {
                let (before, after) = (&earlier.object.status, &later.object.status);
                let kind = &later.object.kind;
                broken.by(format_args!("{kind} {id} was {before}, and then {after} at {}", later.span.called));
            }
        }
    }
}

/// G7.
pub fn one_owner(facts: &Facts<'_>, broken: &mut Broken) {
    for (id, seen) in &facts.seen {
        let accounts: BTreeSet<_> = seen.iter().map(|seen| seen.account).collect();
        if accounts.len() > 1 {
            broken.by(format_args!("{id} was seen by {accounts:?}"));
        }
    }
}
