//! Wrong histories for each rule: the right one with one thing changed.

use std::collections::BTreeSet;

use payments_history::{Answer, Book, Books, Line, Object, RULES, Read, Request, Row, check, check_by};

use crate::right::{ACME, charge, final_answer, history, object, order, problem, refund, replay, request, row, span};

type Wrong = (&'static str, &'static str, fn(&mut Vec<Line>));

fn charged(called: u64, answer: Answer) -> Line {
    Line::Request(request("key-of-c1", "POST /v1/charges", called, Some(answer)))
}

fn paid() -> Answer {
    final_answer(201, "d-c1", Some(object("charge", "c1", "succeeded", 900, Some("o1"))))
}

/// The rows of a book that `is_it` names.
fn rows(lines: &mut [Line], number: u64, is_it: fn(&Row) -> bool) -> impl Iterator<Item = &mut Row> {
    lines.iter_mut().filter_map(move |line| match line {
        Line::Row(row) if row.number == number && is_it(row) => Some(row),
        _ => None,
    })
}

fn without_rows(lines: &mut Vec<Line>, books: &[u64], is_it: fn(&Row) -> bool) {
    lines.retain(|line| !matches!(line, Line::Row(row) if books.contains(&row.number) && is_it(row)));
}

fn add_row(lines: &mut Vec<Line>, number: u64, object: Object) {
    lines.push(Line::Row(Row { number, ..row(object) }));
}

fn is_of_c1(row: &Row) -> bool {
    row.object.id == "c1" || row.object.id == "pi_1"
}

/// Rule, what happens, how.
const WRONG: [Wrong; 27] = [
    ("a key has one effect", "a retry answers with another charge", |lines| {
        let answer = Answer { location: Some("/v1/charges/c9".to_owned()), object: None, ..paid() };
        lines.push(charged(200, Answer { is_replay: true, ..answer }));
    }),
    ("a key has one effect", "an order that no answer reported is in the list", |lines| {
        let twin = Object { key: Some("key-of-o1".to_owned()), ..object("order", "o9", "canceled", 900, None) };
        add_row(lines, 1, twin.clone());
        for number in [4, 5] {
            for (event, cursor) in [("order.created", "8"), ("order.canceled", "9")] {
                let (event, cursor) = (Some(event.to_owned()), Some(cursor.to_owned()));
                lines.push(Line::Row(Row { number, event, cursor, ..row(twin.clone()) }));
            }
        }
    }),
    ("the body of a key runs once", "two answers without the replay marker", |lines| {
        lines.push(charged(200, paid()));
    }),
    ("all final answers of a key are equal", "a replay has other bytes", |lines| {
        lines.push(charged(200, replay(&Answer { digest: "other".to_owned(), ..paid() })));
    }),
    ("all final answers of a key are equal", "a decline after a success", |lines| {
        let failed = Object { id: "c1".to_owned(), ..object("charge", "c1", "failed", 900, Some("o1")) };
        let answer = final_answer(402, "d-c1", Some(failed));
        lines.push(charged(200, Answer { location: None, is_replay: true, ..answer }));
    }),
    ("no 202 comes after the final answer", "a retry gets 202 again", |lines| {
        lines.push(charged(200, replay(&Answer { status: 202, is_final: false, ..paid() })));
    }),
    (
        "after its final answer a key gets that answer, or a problem that says `again`",
        "the retry of a paid charge runs into its own order",
        |lines| lines.push(charged(200, problem(409, "order-not-payable", "fix"))),
    ),
    (
        "after its final answer a key gets that answer, or a problem that says `again`",
        "a success that is not stored",
        |lines| lines.push(charged(200, replay(&Answer { is_final: false, ..paid() }))),
    ),
    ("another request with the key is refused", "another body gets the stored reply", |lines| {
        let other = request("key-of-c1", "POST /v1/charges", 200, Some(replay(&paid())));
        lines.push(Line::Request(Request { body: "body-3".to_owned(), ..other }));
    }),
    ("another request with the key is refused", "another route gets the stored reply", |lines| {
        let other = request("key-of-c1", "POST /v1/orders", 200, Some(replay(&paid())));
        lines.push(Line::Request(other));
    }),
    ("a request is not refused under its own key", "before its record", |lines| {
        lines.push(charged(45, problem(422, "idempotency-key-reused", "new-key")));
    }),
    ("a request is not refused under its own key", "after its record", |lines| {
        lines.push(charged(200, problem(422, "idempotency-key-reused", "new-key")));
    }),
    ("an acknowledged write is never gone", "a read gets 404", |lines| {
        lines.push(Line::Read(Read {
            span: span(200, 201),
            account: ACME.to_owned(),
            id: "c1".to_owned(),
            object: None,
        }));
    }),
    ("an acknowledged write is never gone", "the 202 was not committed", |lines| {
        lines.push(Line::Read(Read {
            span: span(60, 61),
            account: ACME.to_owned(),
            id: "c1".to_owned(),
            object: None,
        }));
    }),
    ("an acknowledged write is never gone", "the order's charges are empty", |lines| {
        let (account, of) = (ACME.to_owned(), Some("o1".to_owned()));
        let book = Book { span: span(200, 201), account, book: Books::Charges, of, number: 99, is_last: false };
        lines.push(Line::Book(book));
    }),
    ("an acknowledged write is never gone", "a declined charge is in no list", |lines| {
        without_rows(lines, &[2, 4, 5], |row| row.object.id == "c2");
    }),
    ("a final state never changes", "a charge that had succeeded fails", |lines| {
        let object = Some(object("charge", "c1", "failed", 900, Some("o1")));
        lines.push(Line::Read(Read { span: span(200, 201), account: ACME.to_owned(), id: "c1".to_owned(), object }));
    }),
    ("a final state never changes", "a paid order is pending again", |lines| {
        for (called, status) in [(200, "paid"), (210, "pending")] {
            let object = Some(object("order", "o1", status, 900, None));
            let span = span(called, called + 1);
            lines.push(Line::Read(Read { span, account: ACME.to_owned(), id: "o1".to_owned(), object }));
        }
    }),
    ("an account never sees what is another account's", "a key of another account is replayed", |lines| {
        let theirs = request("key-of-c1", "POST /v1/charges", 200, Some(replay(&paid())));
        lines.push(Line::Request(Request { account: "globex".to_owned(), ..theirs }));
    }),
    ("lists and feed agree", "a charge without its event", |lines| without_rows(lines, &[4, 5], is_of_c1)),
    ("lists and feed agree", "an order that was created twice", |lines| {
        let twice =
            Row { number: 4, cursor: Some("8".to_owned()), event: Some("order.created".to_owned()), ..row(order()) };
        lines.extend([Line::Row(twice.clone()), Line::Row(Row { number: 5, ..twice })]);
    }),
    ("lists and feed agree", "an order that nobody asked for is only in the feed", |lines| {
        let ghost = object("order", "o9", "pending", 900, None);
        let ghost =
            Row { number: 4, cursor: Some("8".to_owned()), event: Some("order.created".to_owned()), ..row(ghost) };
        lines.extend([Line::Row(ghost.clone()), Line::Row(Row { number: 5, ..ghost })]);
    }),
    ("no event appears before a cursor that a client has", "the client missed an event", |lines| {
        without_rows(lines, &[5], |row| row.cursor.as_deref() == Some("4"));
    }),
    ("no event appears before a cursor that a client has", "the client met two events in another order", |lines| {
        let places: Vec<usize> =
            (0..lines.len()).filter(|i| matches!(&lines[*i], Line::Row(row) if row.number == 5)).collect();
        lines.swap(places[1], places[2]);
    }),
    ("an order is paid once, by its amount", "two charges of one order succeed", |lines| {
        let second = Object { key: None, ..object("charge", "c9", "succeeded", 900, Some("o1")) };
        add_row(lines, 2, second.clone());
        add_row(lines, 6, Object { id: "pi_9".to_owned(), ..second.clone() });
        for number in [4, 5] {
            let (event, cursor) = (Some("charge.succeeded".to_owned()), Some("8".to_owned()));
            lines.push(Line::Row(Row { number, event, cursor, ..row(second.clone()) }));
        }
    }),
    ("the refunds of a charge add up", "a charge forgets its refund", |lines| {
        for line in lines.iter_mut() {
            match line {
                Line::Row(row) if row.object.id == "c1" => row.object.refunded = 0,
                _ => {}
            }
        }
    }),
    ("the gateway's books are the server's", "a payment that nobody knows", |lines| {
        let lost = Object { reference: Some("lost".to_owned()), ..charge() };
        add_row(lines, 6, Object { id: "pi_9".to_owned(), ..lost });
    }),
];

#[test]
fn each_wrong_history_is_refused_by_its_rule_alone() {
    let mut unexpected = Vec::new();
    for (rule, what, change) in WRONG {
        let mut lines = history();
        change(&mut lines);
        let broken = check(&lines);

        // Without the rule the history would pass.
        let others: Vec<_> = RULES.into_iter().filter(|other| other.name != rule).collect();
        if broken.is_empty() || !check_by(&others, &lines.iter().collect::<Vec<_>>()).is_empty() {
            unexpected.push((what, rule, broken));
        }
    }
    assert!(unexpected.is_empty(), "{unexpected:#?}");
}

#[test]
fn each_rule_has_a_wrong_history() {
    let tried: BTreeSet<_> = WRONG.iter().map(|(rule, ..)| *rule).collect();
    assert_eq!(tried, RULES.iter().map(|rule| rule.name).collect::<BTreeSet<_>>());
}

#[test]
fn money_that_moved_twice_or_not_at_all_is_found() {
    for (what, number, change) in
        [("twice", 6, true), ("not at all", 6, false), ("a refund twice", 7, true), ("a refund not at all", 7, false)]
    {
        let mut lines = history();
        if change {
            let again = rows(&mut lines, number, |_| true).next().unwrap().clone();
            lines.push(Line::Row(again));
        } else {
            without_rows(&mut lines, &[number], |_| true);
        }
        let broken = check(&lines);
        assert_eq!(broken.len(), 1, "{what}: {broken:?}");
        assert_eq!(broken[0].rule, "the gateway's books are the server's", "{what}");
    }
}

#[test]
fn refunds_over_the_charge_and_the_order_s_state_are_counted() {
    let mut lines = history();
    let over = Object { amount: 700, key: None, ..object("refund", "r9", "succeeded", 700, Some("c1")) };
    add_row(&mut lines, 3, over);
    for charge in rows(&mut lines, 2, is_of_c1) {
        charge.object.refunded = 1000;
    }
    let rules: BTreeSet<_> = check(&lines).iter().map(|violation| violation.rule).collect();
    assert!(rules.contains("the refunds of a charge add up"), "{rules:?}");

    // All is refunded, but the order is still paid.
    let mut lines = history();
    for row in rows(&mut lines, 3, |_| true) {
        row.object.amount = 900;
    }
    for row in rows(&mut lines, 2, is_of_c1) {
        row.object.refunded = 900;
    }
    let expected = "charge c1 of 900 was refunded 900, and its order is paid";
    assert!(check(&lines).iter().any(|violation| violation.what == expected), "{:?}", check(&lines));
    assert_eq!(refund().of.as_deref(), Some("c1"));
}
