//! A failing history is cut down to what makes it fail.

use payments_history::{Fault, Line, Object, Request, check, report, shrink};

use crate::right::{final_answer, history, object, replay, request, span};

/// A thousand orders that are as they should be, in one account with the right history.
fn long_history() -> Vec<Line> {
    let mut lines = history();
    for i in 0..1000 {
        let (key, id) = (format!("key-of-n{i}"), format!("n{i}"));
        let answer = final_answer(201, &format!("d-{id}"), Some(object("order", &id, "canceled", 500, None)));
        for called in [2000 + i, 3000 + i] {
            let answer = if called < 3000 { Some(answer.clone()) } else { Some(replay(&answer)) };
            lines.push(Line::Request(request(&key, "POST /v1/orders", called, answer)));
        }
    }
    for at in [1, 90_000_000, 200_000_000] {
        lines.push(Line::Fault(Fault { span: span(at, at + 5), what: format!("at {at}"), of: None }));
        let of = Some("another call".to_owned());
        lines.push(Line::Fault(Fault { span: span(at, at + 5), what: "elsewhere".to_owned(), of }));
    }
    lines
}

#[test]
fn only_the_requests_that_differ_and_the_faults_near_them_are_left() {
    let mut lines = long_history();
    assert_eq!(check(&lines), []);
    let other = final_answer(201, "other bytes", Some(object("order", "n7", "canceled", 500, None)));
    let wrong = request("key-of-n7", "POST /v1/orders", 100_000_000, Some(replay(&other)));
    lines.push(Line::Request(wrong));
    let violations = check(&lines);
    assert_eq!(violations.len(), 1, "{violations:?}");

    let small = shrink(&lines, &violations[0]);

    let requests: Vec<&Request> =
        small.iter().filter_map(|line| if let Line::Request(request) = line { Some(request) } else { None }).collect();
    assert!(requests.iter().all(|request| request.key == "key-of-n7"), "{small:?}");
    assert_eq!(requests.len(), 2, "one of each answer: {small:?}");
    assert_eq!(check(&small), violations, "the small history fails in the same way");
    let faults: Vec<&str> = small
        .iter()
        .filter_map(|line| if let Line::Fault(fault) = line { Some(fault.what.as_str()) } else { None })
        .collect();
    assert!(faults.contains(&"at 90000000") && !faults.contains(&"at 200000000"), "{faults:?}");
    assert!(!faults.contains(&"elsewhere"), "{faults:?}");
    let told = report(&lines, &violations);
    assert!(told.contains("all final answers of a key are equal") && told.contains("other bytes"), "{told}");
    assert!(!told.contains("key-of-n8"), "{told}");
}

#[test]
fn a_cut_invents_no_fault() {
    // A lost refund. If its row were cut from the list of refunds, the sum would be wrong in another way.
    let mut lines = long_history();
    for line in &mut lines {
        match line {
            Line::Row(row) if row.number == 2 && row.object.id == "c1" => row.object.refunded = 299,
            _ => {}
        }
    }
    let violation = check(&lines).into_iter().find(|violation| violation.rule.contains("add up")).unwrap();
    assert_eq!(violation.what, "charge c1 of 900 says 299, and its refunds are 300");

    let small = shrink(&lines, &violation);

    let has = |id: &str, number: u64| {
        let is_it = |object: &Object| object.id == id;
        small.iter().any(|line| matches!(line, Line::Row(row) if row.number == number && is_it(&row.object)))
    };
    assert!(has("c1", 2) && has("r1", 3), "{small:?}");
    assert!(check(&small).contains(&violation));
    assert!(small.len() < 10, "{small:?}");
}
