//! A history as it should be: an order is created, paid despite a lost answer, and refunded in part.

use payments_history::{Answer, Book, Books, Line, Object, Read, Request, Row, Span, check, read, write};

pub const ACME: &str = "acme";
/// The bodies of the requests: the clients' digests.
const BODY: &str = "body-1";

pub fn span(called: u64, returned: u64) -> Span {
    Span { called, returned }
}

pub fn object(kind: &str, id: &str, status: &str, amount: i64, of: Option<&str>) -> Object {
    Object {
        kind: kind.to_owned(),
        id: id.to_owned(),
        status: status.to_owned(),
        amount,
        refunded: 0,
        of: of.map(str::to_owned),
        reference: (kind != "order").then(|| format!("reference-of-{id}")),
        key: Some(format!("key-of-{id}")),
    }
}

pub fn final_answer(status: u16, digest: &str, object: Option<Object>) -> Answer {
    Answer {
        status,
        problem: None,
        advice: None,
        is_final: true,
        is_replay: false,
        digest: digest.to_owned(),
        location: object.as_ref().map(|object| format!("/v1/{}s/{}", object.kind, object.id)),
        object,
    }
}

pub fn problem(status: u16, name: &str, advice: &str) -> Answer {
    let (problem, advice) = (Some(name.to_owned()), Some(advice.to_owned()));
    Answer { problem, advice, is_final: false, ..final_answer(status, "problem", None) }
}

pub fn request(key: &str, route: &str, called: u64, answer: Option<Answer>) -> Request {
    let scope = if route.ends_with("refunds") || route.ends_with("cancel") { route } else { "account" };
    Request {
        span: span(called, called + 8),
        account: ACME.to_owned(),
        scope: scope.to_owned(),
        key: key.to_owned(),
        route: route.to_owned(),
        body: BODY.to_owned(),
        answer,
    }
}

pub fn replay(answer: &Answer) -> Answer {
    Answer { is_replay: true, ..answer.clone() }
}

fn book(number: u64, book: Books, rows: Vec<Row>) -> Vec<Line> {
    let account = if matches!(book, Books::Payments | Books::Repayments) { "gateway" } else { ACME };
    let of = None;
    let book = Book { span: span(1000, 1100), account: account.to_owned(), book, of, number, is_last: true };
    [Line::Book(book)].into_iter().chain(rows.into_iter().map(|row| Line::Row(Row { number, ..row }))).collect()
}

pub fn row(object: Object) -> Row {
    Row { number: 0, object, cursor: None, event: None }
}

fn event(cursor: &str, event: &str, object: Object) -> Row {
    Row { cursor: Some(cursor.to_owned()), event: Some(event.to_owned()), ..row(object) }
}

/// The order, the charge and the refund at the end.
pub fn order() -> Object {
    object("order", "o1", "paid", 900, None)
}

pub fn charge() -> Object {
    Object { refunded: 300, ..object("charge", "c1", "succeeded", 900, Some("o1")) }
}

pub fn refund() -> Object {
    object("refund", "r1", "succeeded", 300, Some("c1"))
}

pub fn history() -> Vec<Line> {
    let made = final_answer(201, "d-o1", Some(object("order", "o1", "pending", 900, None)));
    let processing = Answer {
        is_final: false,
        ..final_answer(202, "d-c1-p", Some(object("charge", "c1", "processing", 900, Some("o1"))))
    };
    let paid = final_answer(201, "d-c1", Some(object("charge", "c1", "succeeded", 900, Some("o1"))));
    let refunded = final_answer(201, "d-r1", Some(refund()));
    let refunds = "POST /v1/charges/c1/refunds";
    let declined = object("charge", "c2", "failed", 700, Some("o2"));
    let second = object("order", "o2", "canceled", 700, None);
    let canceled = final_answer(200, "d-x2", Some(second.clone()));
    let mut lines = vec![
        Line::Request(request("key-of-o1", "POST /v1/orders", 10, None)),
        Line::Request(request("key-of-o1", "POST /v1/orders", 20, Some(replay(&made)))),
        Line::Request(request("key-of-o1", "POST /v1/orders", 21, Some(made))),
        Line::Request(request("key-of-o2", "POST /v1/orders", 25, {
            let object = object("order", "o2", "pending", 700, None);
            Some(final_answer(201, "d-o2", Some(object)))
        })),
        Line::Request(request("key-of-c1", "POST /v1/charges", 40, Some(processing.clone()))),
        Line::Request(request("key-of-c1", "POST /v1/charges", 50, Some(replay(&processing)))),
        Line::Request(request("key-of-c1", "POST /v1/charges", 60, {
            Some(problem(409, "idempotency-request-in-flight", "again"))
        })),
        Line::Request(request("key-of-c1", "POST /v1/charges", 70, Some(replay(&paid)))),
        Line::Request(request("key-of-c1", "POST /v1/charges", 80, Some(replay(&paid)))),
        Line::Request(request("key-of-c1", "POST /v1/charges", 90, Some(problem(503, "overloaded", "again")))),
        Line::Request(request("key-of-c1", "POST /v1/charges", 92, {
            let answer = problem(408, "", "");
            Some(Answer { problem: None, advice: None, ..answer })
        })),
        Line::Request(Request {
            body: "body-2".to_owned(),
            ..request("key-of-c1", "POST /v1/charges", 95, Some(problem(422, "idempotency-key-reused", "new-key")))
        }),
        Line::Request(request("key-of-c2", "POST /v1/charges", 96, {
            let object = Object { amount: 0, of: None, reference: None, key: None, ..declined.clone() };
            Some(Answer { problem: Some("card-declined".to_owned()), ..final_answer(402, "d-c2", Some(object)) })
        })),
        Line::Request(request("key-x2", "POST /v1/orders/o2/cancel", 97, Some(canceled))),
        Line::Request(request("key-of-r1", refunds, 100, Some(refunded))),
        Line::Read(Read { span: span(5, 6), account: ACME.to_owned(), id: "c1".to_owned(), object: None }),
        Line::Read(Read {
            span: span(120, 121),
            account: ACME.to_owned(),
            id: "c1".to_owned(),
            object: Some(charge()),
        }),
    ];
    let feed = || {
        vec![
            event("1", "order.created", object("order", "o1", "pending", 900, None)),
            event("2", "order.created", object("order", "o2", "pending", 700, None)),
            event("3", "charge.succeeded", object("charge", "c1", "succeeded", 900, Some("o1"))),
            event("4", "order.paid", object("order", "o1", "paid", 900, None)),
            event("5", "charge.failed", declined.clone()),
            event("6", "order.canceled", second.clone()),
            event("7", "refund.succeeded", refund()),
        ]
    };
    let payment = Object { id: "pi_1".to_owned(), key: None, ..charge() };
    let repayment = Object { id: "re_1".to_owned(), key: None, ..refund() };
    lines.extend(book(1, Books::Orders, vec![row(second.clone()), row(order())]));
    lines.extend(book(2, Books::Charges, vec![row(declined.clone()), row(charge())]));
    lines.extend(book(3, Books::Refunds, vec![row(refund())]));
    lines.extend(book(4, Books::Feed, feed()));
    lines.extend(book(5, Books::Followed, feed()));
    lines.extend(book(6, Books::Payments, vec![row(payment)]));
    lines.extend(book(7, Books::Repayments, vec![row(repayment)]));
    lines
}

#[test]
fn a_right_history_passes() {
    assert_eq!(check(&history()), []);
}

#[test]
fn a_history_is_the_same_after_it_was_written_and_read() {
    let mut file = Vec::new();
    write(&history(), &mut file).unwrap();

    assert_eq!(read(file.as_slice()).unwrap(), history());
    let cut = &file[..file.len() - 5];
    assert!(read(cut).unwrap_err().to_string().starts_with(&format!("line {}: ", history().len())));
}
