//! What the lists, the feed and the gateway's books must say once nobody writes any longer.

use std::collections::{BTreeMap, BTreeSet};

use super::Broken;
use crate::facts::Facts;
use crate::line::{Books, Object, Row};

/// What must have happened to an object that is in this state.
fn events_of(object: &Object) -> Vec<String> {
    let Object { kind, status, .. } = object;
    match (kind.as_str(), status.as_str()) {
        ("order", "pending") => vec!["order.created".to_owned()],
        ("order", "refunded") => ["order.created", "order.paid", "order.refunded"].map(str::to_owned).to_vec(),
        ("order", _) => vec!["order.created".to_owned(), format!("order.{status}")],
        (_, "processing") => Vec::new(),
        _ => vec![format!("{kind}.{status}")],
    }
}

/// Each change has exactly one event, and each event an object.
pub fn lists_and_feed_agree(facts: &Facts<'_>, broken: &mut Broken) {
    for (feed, events) in facts.last(Books::Feed) {
        let mut told: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for row in events {
            told.entry(&row.object.id).or_default().extend(row.event.clone());
        }
        for (which, kind) in [(Books::Orders, "order"), (Books::Charges, "charge"), (Books::Refunds, "refund")] {
            let Some(rows) = facts.rows(&feed.account, which) else { continue };
            for Row { object, .. } in rows {
                let mut told = told.remove(object.id.as_str()).unwrap_or_default();
                let mut expected = events_of(object);
                told.sort_unstable();
                expected.sort_unstable();
                if told != expected {
                    let Object { id, status, .. } = object;
                    broken.by(format_args!("{kind} {id} is {status}, and its events are {told:?}"));
                }
                if status_is_final(object) == Some(false) {
                    broken.by(format_args!("{kind} {} is still processing", object.id));
                }
            }
            let strangers = events.iter().filter(|row| row.object.kind == kind);
            let strangers: BTreeSet<_> =
                strangers.map(|row| row.object.id.as_str()).filter(|id| told.contains_key(id)).collect();
            for id in strangers {
                broken.by(format_args!("the feed has {kind} {id}, the list has not"));
            }
        }
    }
}

fn status_is_final(object: &Object) -> Option<bool> {
    matches!(object.kind.as_str(), "charge" | "refund").then_some(object.status != "processing")
}

/// A client that follows the feed meets each event, in the feed's order.
pub fn feed_keeps_its_order(facts: &Facts<'_>, broken: &mut Broken) {
    for (book, followed) in facts.last(Books::Followed) {
        let Some(feed) = facts.rows(&book.account, Books::Feed) else { continue };
        let name = |row: &&Row| (row.cursor.clone(), row.event.clone(), row.object.id.clone());
        let (met, all): (Vec<_>, Vec<_>) = (followed.iter().map(name).collect(), feed.iter().map(name).collect());
        let (is_met, is_there): (BTreeSet<_>, BTreeSet<_>) = (met.iter().collect(), all.iter().collect());
        for (cursor, event, id) in is_there.symmetric_difference(&is_met) {
            let (cursor, event) = (cursor.as_deref().unwrap_or_default(), event.as_deref().unwrap_or_default());
            let who = if is_met.contains(&(Some(cursor.to_owned()), Some(event.to_owned()), id.clone())) {
                "only the client that followed the feed"
            } else {
                "not the client that followed the feed"
            };
            broken.by(format_args!("{event} of {id}, at {cursor}: {who} met it"));
        }
        let both = met.iter().filter(|event| is_there.contains(event));
        let mut in_order = both.zip(all.iter().filter(|event| is_met.contains(event)));
        if let Some((met, there)) = in_order.find(|(met, there)| met != there) {
            broken.by(format_args!("{} met {met:?} where the feed has {there:?}", book.account));
        }
    }
}

/// G6.
pub fn paid_once(facts: &Facts<'_>, broken: &mut Broken) {
    for (book, orders) in facts.last(Books::Orders) {
        let Some(charges) = facts.rows(&book.account, Books::Charges) else { continue };
        let mut paid: BTreeMap<&str, Vec<&Object>> = BTreeMap::new();
        for Row { object, .. } in charges.iter().filter(|row| row.object.status == "succeeded") {
            paid.entry(object.of.as_deref().unwrap_or_default()).or_default().push(object);
        }
        for Row { object: order, .. } in orders {
            let payments = paid.remove(order.id.as_str()).unwrap_or_default();
            let amounts: Vec<_> = payments.iter().map(|charge| charge.amount).collect();
            let expected =
                if matches!(order.status.as_str(), "paid" | "refunded") { vec![order.amount] } else { vec![] };
            if amounts != expected {
                let Object { id, status, amount, .. } = order;
                broken.by(format_args!("order {id} of {amount} is {status}, and was paid {amounts:?}"));
            }
        }
    }
}

/// A charge counts what its refunds returned, and they never return more than it took.
pub fn refunds_add_up(facts: &Facts<'_>, broken: &mut Broken) {
    for (book, charges) in facts.last(Books::Charges) {
        let Some(refunds) = facts.rows(&book.account, Books::Refunds) else { continue };
        let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
        for Row { object, .. } in refunds.iter().filter(|row| row.object.status == "succeeded") {
            *sums.entry(object.of.as_deref().unwrap_or_default()).or_default() += object.amount;
        }
        let orders = facts.rows(&book.account, Books::Orders).unwrap_or_default();
        let orders: BTreeMap<&str, &str> =
            orders.iter().map(|row| (row.object.id.as_str(), row.object.status.as_str())).collect();
        for Row { object: charge, .. } in charges {
            let sum = sums.get(charge.id.as_str()).copied().unwrap_or_default();
            let Object { id, amount, refunded, .. } = charge;
            if sum != *refunded || sum > *amount {
                broken.by(format_args!("charge {id} of {amount} says {refunded}, and its refunds are {sum}"));
            }
            let order = charge.of.as_deref().and_then(|order| orders.get(order));
            if let Some(order) = order.filter(|_| charge.status == "succeeded")
                && (*order == "refunded") != (sum == *amount)
            {
                broken.by(format_args!("charge {id} of {amount} was refunded {sum}, and its order is {order}"));
            }
        }
    }
}

/// G5: no charge twice, no charge lost. The gateway's list has every payment that succeeded there, of all accounts.
pub fn gateway_agrees(facts: &Facts<'_>, broken: &mut Broken) {
    for (ours, theirs, what) in
        [(Books::Charges, Books::Payments, "charge"), (Books::Refunds, Books::Repayments, "refund")]
    {
        let Some((_, moved)) = facts.last(theirs).next() else { continue };
        let mut balance: BTreeMap<(&str, i64), Balance<'_>> = BTreeMap::new();
        for (_, rows) in facts.last(ours) {
            for Row { object, .. } in rows {
                let balance =
                    balance.entry((object.reference.as_deref().unwrap_or_default(), object.amount)).or_default();
                balance.ours.push(object);
            }
        }
        for Row { object, .. } in moved {
            balance.entry((object.reference.as_deref().unwrap_or_default(), object.amount)).or_default().moved += 1;
        }
        for ((reference, amount), Balance { ours, moved }) in balance {
            let succeeded = ours.iter().filter(|object| object.status == "succeeded").count();
            if (succeeded, moved) == (1, 1) || (succeeded, moved) == (0, 0) {
                continue;
            }
            let shown: Vec<_> = ours.iter().map(|object| format!("{} is {}", object.id, object.status)).collect();
            let told: BTreeSet<_> = ours
                .iter()
                .filter_map(|object| facts.seen.get(object.id.as_str()))
                .flatten()
                .filter(|seen| seen.is_acknowledged)
                .map(|seen| seen.object.status.as_str())
                .collect();
            broken.by(format_args!(
                "{what} {shown:?} of {amount}, clients were told {told:?}, and money moved {moved} times: {reference}"
            ));
        }
    }
}

/// What both sides say about a call.
#[derive(Default)]
struct Balance<'a> {
    ours: Vec<&'a Object>,
    moved: usize,
}
