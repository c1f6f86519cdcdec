//! The rules of `gateway::learn`, with a gateway that answers as it is told.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use idempotent_payments::gateway::{
    Call, CallError, Capture, Gateway, LEARN_BUDGET, Outcome, Refund, StillUnknown, learn,
};

const SERVER_ERROR: CallError = CallError::ServerError { status: 500 };
const REFUSED: CallError = CallError::Refused { status: 422 };
const LATER: CallError = CallError::Later { status: 409 };

/// Answers sends and looks in turn, and fails the test when it is asked more often than that.
struct Scripted {
    sends: Mutex<VecDeque<Result<Outcome, CallError>>>,
    looks: Mutex<VecDeque<Result<Option<Outcome>, CallError>>>,
}

impl Scripted {
    fn send(&self) -> BoxFuture<'_, Result<Outcome, CallError>> {
        ready(self.sends.lock().unwrap().pop_front().expect("one send too many")).boxed()
    }
}

impl Gateway for Scripted {
    fn accepts(&self, _: &str) -> bool {
        true
    }

    fn capture<'a>(&'a self, _: &'a Capture) -> BoxFuture<'a, Result<Outcome, CallError>> {
        self.send()
    }

    fn refund<'a>(&'a self, _: &'a Refund) -> BoxFuture<'a, Result<Outcome, CallError>> {
        self.send()
    }

    fn find<'a>(&'a self, _: &'a Call) -> BoxFuture<'a, Result<Option<Outcome>, CallError>> {
        ready(self.looks.lock().unwrap().pop_front().expect("one look too many")).boxed()
    }
}

fn call() -> Call {
    Call::Refund(Refund { reference: "refund".to_owned(), capture: "capture".to_owned(), amount: 1 })
}

/// Learns from a gateway that answers so, and checks that it was asked for every one of the answers.
async fn learn_from<const S: usize, const L: usize>(
    look_first: bool,
    sends: [Result<Outcome, CallError>; S],
    looks: [Result<Option<Outcome>, CallError>; L],
) -> Result<Outcome, StillUnknown> {
    let gateway = Scripted { sends: Mutex::new(sends.into()), looks: Mutex::new(looks.into()) };
    let learnt = learn(&gateway, &call(), look_first).await;
    assert!(gateway.sends.lock().unwrap().is_empty(), "a send was left out");
    assert!(gateway.looks.lock().unwrap().is_empty(), "a look was left out");
    learnt
}

fn no_answer() -> CallError {
    CallError::NoAnswer { reason: "told so".to_owned() }
}

#[tokio::test]
async fn no_answer_and_later_are_unknown_without_a_repeat_or_a_look() {
    for error in [no_answer(), LATER] {
        assert_eq!(learn_from(false, [Err(error.clone())], []).await, Err(StillUnknown(error)));
    }
}

#[tokio::test]
async fn a_5xx_is_repeated_twice_at_most_and_then_looked_up() {
    let err = || Err(SERVER_ERROR);
    assert_eq!(learn_from(false, [err(), Ok(Outcome::Succeeded)], []).await, Ok(Outcome::Succeeded));
    assert_eq!(learn_from(false, [err(), err(), Ok(Outcome::Succeeded)], []).await, Ok(Outcome::Succeeded));
    let found = learn_from(false, [err(), err(), err()], [Ok(Some(Outcome::Failed))]).await;
    assert_eq!(found, Ok(Outcome::Failed));
    let not_found = learn_from(false, [err(), err(), err()], [Ok(None)]).await;
    assert_eq!(not_found, Err(StillUnknown(SERVER_ERROR)), "a 5xx alone never settles anything");
}

#[tokio::test]
async fn a_repeat_that_meets_something_else_follows_that_ones_rule() {
    let sent = |error| [Err(SERVER_ERROR), Err(error)];
    assert_eq!(learn_from(false, sent(no_answer()), []).await, Err(StillUnknown(no_answer())));
    assert_eq!(learn_from(false, sent(LATER), []).await, Err(StillUnknown(LATER)));
    assert_eq!(learn_from(false, sent(REFUSED), [Ok(None)]).await, Ok(Outcome::Failed));
}

#[tokio::test]
async fn a_refusal_has_failed_only_if_the_books_dont_know_better() {
    let refused = || [Err(REFUSED)];
    assert_eq!(learn_from(false, refused(), [Ok(None)]).await, Ok(Outcome::Failed));
    assert_eq!(learn_from(false, refused(), [Ok(Some(Outcome::Succeeded))]).await, Ok(Outcome::Succeeded));
    for error in [no_answer(), SERVER_ERROR, REFUSED] {
        let unseen = learn_from(false, refused(), [Err(error.clone())]).await;
        assert_eq!(unseen, Err(StillUnknown(error)), "books that can't be read say nothing");
    }
}

#[tokio::test]
async fn looking_first_sends_only_what_the_books_dont_have() {
    assert_eq!(learn_from(true, [], [Ok(Some(Outcome::Succeeded))]).await, Ok(Outcome::Succeeded));
    assert_eq!(learn_from(true, [Ok(Outcome::Succeeded)], [Ok(None)]).await, Ok(Outcome::Succeeded));
    let unseen = learn_from(true, [], [Err(no_answer())]).await;
    assert_eq!(unseen, Err(StillUnknown(no_answer())), "what can't be seen is not sent");
}

/// Never answers.
struct Silent;

impl Gateway for Silent {
    fn accepts(&self, _: &str) -> bool {
        true
    }

    fn capture<'a>(&'a self, _: &'a Capture) -> BoxFuture<'a, Result<Outcome, CallError>> {
        std::future::pending().boxed()
    }

    fn refund<'a>(&'a self, _: &'a Refund) -> BoxFuture<'a, Result<Outcome, CallError>> {
        std::future::pending().boxed()
    }

    fn find<'a>(&'a self, _: &'a Call) -> BoxFuture<'a, Result<Option<Outcome>, CallError>> {
        std::future::pending().boxed()
    }
}

#[tokio::test]
async fn learning_ends_within_its_budget_whatever_the_gateway_does() {
    let begun = Instant::now();
    let learnt = learn(&Silent, &call(), true).await;
    assert!(matches!(learnt, Err(StillUnknown(CallError::NoAnswer { .. }))), "{learnt:?}");
    assert!(begun.elapsed() >= LEARN_BUDGET);
    assert!(begun.elapsed() < LEARN_BUDGET + std::time::Duration::from_secs(1));
}
