// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rules of `find_outcome`. A scripted external system gives the answers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::web::Bytes;
use diesel::pg::PgConnection;
use tokio::time::Instant;
use uuid::Uuid;

use crate::fines::{OfficeError, PAY};
use external_calls::{CallError, ExternalSystem, Next, Sending, Sent, StillUnknown, find_outcome};
use idempotency::{Policy, Reply};

const SERVER_ERROR: CallError = CallError::ServerError { status: 500, retry_after: None, stored: false };
const STORED_ERROR: CallError = CallError::ServerError { status: 500, retry_after: None, stored: true };
const ASKS_TO_WAIT: CallError =
    CallError::ServerError { status: 503, retry_after: Some(Duration::from_secs(30)), stored: false };
const LATER: CallError = CallError::Later { status: 409, retry_after: None };
const REFUSED: CallError = CallError::Refused { status: 422, code: None };

/// The call is sent for the first time.
const FIRST: Sending =
    Sending { look_first: false, earlier_unanswered: false, only_look: false, sent_twice: false, send_until: None };
const AFTER_SILENCE: Sending =
    Sending { look_first: false, earlier_unanswered: true, only_look: false, sent_twice: false, send_until: None };
const KEY_FORGOTTEN: Sending =
    Sending { look_first: true, earlier_unanswered: false, only_look: false, sent_twice: false, send_until: None };
const KEY_FORGOTTEN_AFTER_SILENCE: Sending =
    Sending { look_first: true, earlier_unanswered: true, only_look: false, sent_twice: false, send_until: None };
const ONLY_LOOK: Sending =
    Sending { look_first: false, earlier_unanswered: false, only_look: true, sent_twice: false, send_until: None };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    Failed,
}

use Outcome::{Done, Failed};

fn sent() -> Sent {
    let now = chrono::Utc::now();
    Sent { reference: "ours".to_owned(), outside_id: None, since: now, until: now }
}

type Answers<T> = Arc<Mutex<VecDeque<Result<T, CallError>>>>;

/// Answers sends and looks in order. One send or look too many fails the test.
#[derive(Clone)]
struct Scripted<const KEEPS_KEYS: bool = true> {
    sends: Answers<Outcome>,
    looks: Answers<Option<Outcome>>,
    /// If true, never answers.
    silent: bool,
}

impl<const KEEPS_KEYS: bool> Scripted<KEEPS_KEYS> {
    async fn answer<T>(&self, answers: &Answers<T>, what: &str) -> Result<T, CallError> {
        if self.silent {
            std::future::pending::<()>().await;
        }
        let answer = answers.lock().unwrap().pop_front();
        answer.unwrap_or_else(|| panic!("one {what} too many"))
    }
}

impl<const KEEPS_KEYS: bool> ExternalSystem for Scripted<KEEPS_KEYS> {
    type Call = ();
    type Outcome = Outcome;
    type Error = OfficeError;

    const KEY_LIFETIME: Duration = if KEEPS_KEYS { Duration::from_secs(60 * 60) } else { Duration::ZERO };

    fn policy(&self, (): &()) -> Policy {
        PAY
    }

    async fn send(&self, reference: &str, (): &()) -> Result<Outcome, CallError> {
        assert_eq!(reference, "ours");
        self.answer(&self.sends, "send").await
    }

    async fn look_up(&self, sent: &Sent, (): &()) -> Result<Option<Outcome>, CallError> {
        assert_eq!(sent.reference, "ours");
        self.answer(&self.looks, "look").await
    }

    fn refused(&self, (): &(), status: u16, _: Option<&str>) -> Outcome {
        assert_eq!(status, 422);
        Failed
    }

    fn apply(&self, _: &mut PgConnection, _: Uuid, (): &(), _: &Outcome) -> Result<Reply, OfficeError> {
        unreachable!("find_outcome applies nothing")
    }

    fn pending(&self, _: &mut PgConnection, _: Uuid, (): &()) -> Result<Bytes, OfficeError> {
        unreachable!("find_outcome answers nobody")
    }
}

/// Runs `find_outcome` against these answers, and checks that it used them all.
async fn learn_from<const S: usize, const L: usize>(
    sending: Sending,
    sends: [Result<Outcome, CallError>; S],
    looks: [Result<Option<Outcome>, CallError>; L],
) -> Result<Outcome, StillUnknown> {
    learn_from_one_that::<true, S, L>(sending, sends, looks).await
}

async fn learn_from_one_that<const KEEPS_KEYS: bool, const S: usize, const L: usize>(
    sending: Sending,
    sends: [Result<Outcome, CallError>; S],
    looks: [Result<Option<Outcome>, CallError>; L],
) -> Result<Outcome, StillUnknown> {
    let outside = Scripted::<KEEPS_KEYS> {
        sends: Arc::new(Mutex::new(sends.into())),
        looks: Arc::new(Mutex::new(looks.into())),
        silent: false,
    };
    let found = find_outcome(&outside, &sent(), &(), sending).await;
    assert!(outside.sends.lock().unwrap().is_empty(), "a send is missing");
    assert!(outside.looks.lock().unwrap().is_empty(), "a look is missing");
    found
}

/// The outcome is unknown, and a sending got no answer.
fn unanswered<T>(error: CallError) -> Result<T, StillUnknown> {
    Err(StillUnknown { error, unanswered: true, next: Next::Send })
}

/// The outcome is unknown, and each sending got an answer.
fn answered<T>(error: CallError) -> Result<T, StillUnknown> {
    Err(StillUnknown { error, unanswered: false, next: Next::Send })
}

fn no_answer() -> CallError {
    CallError::NoAnswer { reason: "scripted".to_owned() }
}

#[tokio::test]
async fn no_answer_and_later_are_unknown_without_a_repeat_or_a_look() {
    for error in [no_answer(), LATER, ASKS_TO_WAIT] {
        assert_eq!(learn_from(FIRST, [Err(error.clone())], []).await, unanswered(error));
    }
}

#[tokio::test]
async fn later_is_looked_up_when_two_leases_have_sent_the_call_before() {
    let third = Sending { sent_twice: true, ..FIRST };
    let waits = || CallError::Later { status: 429, retry_after: Some(Duration::from_secs(30)) };
    assert_eq!(learn_from(third, [Err(LATER)], [Ok(Some(Done))]).await, Ok(Done));
    assert_eq!(learn_from(third, [Err(LATER)], [Ok(None)]).await, unanswered(LATER), "empty books are no outcome");
    assert_eq!(learn_from(third, [Err(waits())], [Err(no_answer())]).await, unanswered(waits()));
    let pending = || CallError::Pending { id: "re_1".to_owned() };
    let seen = learn_from(third, [Err(LATER)], [Err(pending())]).await;
    assert_eq!(seen, only_looked_up(pending(), true, Some("re_1")));
    // Silence is not an answer that means "later".
    assert_eq!(learn_from(third, [Err(no_answer())], []).await, unanswered(no_answer()));
}

/// Found by the checker of tools/model: a holder that slept during the look or the pause sent late.
#[tokio::test(start_paused = true)]
async fn no_sending_begins_after_the_lease() {
    let over = |sending| Sending { send_until: Some(std::time::Instant::now()), ..sending };
    let reason = "the lease is over, so the call is not sent".to_owned();
    let late = CallError::NoAnswer { reason };
    assert_eq!(learn_from(over(FIRST), [], []).await, answered(late.clone()));
    assert_eq!(learn_from(over(KEY_FORGOTTEN), [], [Ok(None)]).await, answered(late.clone()));

    // The first sending is in time, and the lease ends before it is repeated.
    let soon = Sending { send_until: Some(std::time::Instant::now() + Duration::from_millis(50)), ..FIRST };
    let outside = Scripted::<true> {
        sends: Arc::new(Mutex::new([Err(SERVER_ERROR)].into())),
        looks: Arc::default(),
        silent: false,
    };
    let sent = sent();
    let learning = find_outcome(&outside, &sent, &(), soon);
    #[expect(clippy::disallowed_methods, reason = "the process is suspended for that long")]
    let suspended = tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(60)));
    let (found, suspended) = tokio::join!(learning, suspended);
    suspended.unwrap();
    assert_eq!(found, unanswered(late));
}

#[tokio::test(start_paused = true)]
async fn a_5xx_is_repeated_twice_at_most_and_then_looked_up() {
    let err = || Err(SERVER_ERROR);
    assert_eq!(learn_from(FIRST, [err(), Ok(Done)], []).await, Ok(Done));
    assert_eq!(learn_from(FIRST, [err(), err(), Ok(Done)], []).await, Ok(Done));
    assert_eq!(learn_from(FIRST, [err(), err(), err()], [Ok(Some(Failed))]).await, Ok(Failed));
    let not_found = learn_from(FIRST, [err(), err(), err()], [Ok(None)]).await;
    assert_eq!(not_found, unanswered(SERVER_ERROR), "a 5xx alone never resolves a call");
    let unseen = learn_from(FIRST, [err(), err(), err()], [Err(LATER)]).await;
    assert_eq!(unseen, unanswered(LATER));
}

#[tokio::test(start_paused = true)]
async fn an_outside_that_keeps_no_keys_gets_no_repeat() {
    let found = learn_from_one_that::<false, 1, 1>(FIRST, [Err(SERVER_ERROR)], [Ok(None)]).await;
    assert_eq!(found, unanswered(SERVER_ERROR));
}

#[tokio::test(start_paused = true)]
async fn a_repeat_with_another_answer_follows_the_rule_of_that_answer() {
    let sent = |error| [Err(SERVER_ERROR), Err(error)];
    assert_eq!(learn_from(FIRST, sent(no_answer()), []).await, unanswered(no_answer()));
    assert_eq!(learn_from(FIRST, sent(LATER), []).await, unanswered(LATER));
    assert_eq!(learn_from(FIRST, sent(ASKS_TO_WAIT), []).await, unanswered(ASKS_TO_WAIT));
    assert_eq!(learn_from(FIRST, sent(REFUSED), [Ok(Some(Done))]).await, Ok(Done));
    // A proxy may have sent the 5xx while the call is still on its way.
    assert_eq!(learn_from(FIRST, sent(REFUSED), [Ok(None)]).await, unanswered(REFUSED));
}

#[tokio::test]
async fn a_refusal_has_failed_only_if_the_books_are_empty_and_no_sending_went_unanswered() {
    let refused = || [Err(REFUSED)];
    assert_eq!(learn_from(FIRST, refused(), [Ok(None)]).await, Ok(Failed));
    assert_eq!(learn_from(FIRST, refused(), [Ok(Some(Done))]).await, Ok(Done));
    assert_eq!(learn_from(AFTER_SILENCE, refused(), [Ok(Some(Done))]).await, Ok(Done));
    // This sending got an answer, so it does not delay the time from which a refusal counts.
    assert_eq!(learn_from(AFTER_SILENCE, refused(), [Ok(None)]).await, answered(REFUSED));
    for error in [no_answer(), SERVER_ERROR, LATER, REFUSED] {
        let unseen = learn_from(FIRST, refused(), [Err(error.clone())]).await;
        assert_eq!(unseen, answered(error), "books that can't be read say nothing");
    }
}

#[tokio::test]
async fn after_a_look_only_a_call_that_the_books_dont_have_is_sent() {
    assert_eq!(learn_from(KEY_FORGOTTEN, [], [Ok(Some(Done))]).await, Ok(Done));
    assert_eq!(learn_from(KEY_FORGOTTEN, [Ok(Done)], [Ok(None)]).await, Ok(Done));
    assert_eq!(learn_from(KEY_FORGOTTEN, [Err(REFUSED)], [Ok(None), Ok(None)]).await, Ok(Failed));
    let unseen = learn_from(KEY_FORGOTTEN, [], [Err(no_answer())]).await;
    assert_eq!(unseen, answered(no_answer()), "without a look, no call is sent");

    // No key would stop the second of two sendings in flight.
    assert_eq!(learn_from(KEY_FORGOTTEN_AFTER_SILENCE, [], [Ok(Some(Done))]).await, Ok(Done));
    let unsent = learn_from(KEY_FORGOTTEN_AFTER_SILENCE, [], [Ok(None)]).await;
    assert!(
        matches!(unsent, Err(StillUnknown { error: CallError::NoAnswer { .. }, unanswered: false, .. })),
        "{unsent:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn find_outcome_ends_within_its_limit_whatever_the_outside_does() {
    for sending in [FIRST, KEY_FORGOTTEN] {
        let silent: Scripted = Scripted { sends: Arc::default(), looks: Arc::default(), silent: true };
        let begun = Instant::now();
        let found = find_outcome(&silent, &sent(), &(), sending).await;
        assert!(matches!(found, Err(StillUnknown { error: CallError::NoAnswer { .. }, unanswered: true, .. })));
        assert_eq!(begun.elapsed().as_secs(), Scripted::<true>::LIMITS.find_outcome.as_secs());
    }
}

fn only_looked_up<T>(error: CallError, unanswered: bool, id: Option<&str>) -> Result<T, StillUnknown> {
    Err(StillUnknown { error, unanswered, next: Next::Look { id: id.map(str::to_owned) } })
}

#[tokio::test]
async fn a_stored_5xx_is_not_repeated_and_while_the_key_lives_only_looked_up() {
    let err = || [Err(STORED_ERROR)];
    assert_eq!(learn_from(FIRST, err(), [Ok(Some(Done))]).await, Ok(Done));
    assert_eq!(learn_from(FIRST, err(), [Ok(None)]).await, only_looked_up(STORED_ERROR, true, None));
    // The key was gone, so this sending was a new one and counts.
    assert_eq!(learn_from(KEY_FORGOTTEN, err(), [Ok(None), Ok(None)]).await, unanswered(STORED_ERROR));

    assert_eq!(learn_from(ONLY_LOOK, [], [Ok(Some(Failed))]).await, Ok(Failed));
    let nothing = learn_from(ONLY_LOOK, [], [Ok(None)]).await.unwrap_err();
    assert_eq!((nothing.unanswered, nothing.next), (false, Next::Look { id: None }));
    assert_eq!(learn_from(ONLY_LOOK, [], [Err(LATER)]).await, answered(LATER));
}

#[tokio::test]
async fn an_object_without_an_outcome_is_looked_up_by_its_id_and_never_sent_again() {
    let pending = || CallError::Pending { id: "re_1".to_owned() };
    assert_eq!(learn_from(FIRST, [Err(pending())], []).await, only_looked_up(pending(), false, Some("re_1")));
    assert_eq!(learn_from(ONLY_LOOK, [], [Err(pending())]).await, only_looked_up(pending(), false, Some("re_1")));
    let seen = learn_from(FIRST, [Err(STORED_ERROR)], [Err(pending())]).await;
    assert_eq!(seen, only_looked_up(pending(), true, Some("re_1")));
}

#[tokio::test]
async fn a_reference_that_another_call_used_is_for_a_person_at_once() {
    let other = || CallError::OtherCall { reason: "scripted".to_owned() };
    let found = learn_from(FIRST, [Err(other())], []).await;
    assert_eq!(found, Err(StillUnknown { error: other(), unanswered: false, next: Next::Park }));
}
