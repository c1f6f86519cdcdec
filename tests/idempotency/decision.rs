//! Requests that are one read, a decision and one write: the same promises, without a transaction around them.

use std::sync::Arc;

use actix_web::HttpResponse;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::sql_types::Text;
use serde_json::json;
use uuid::Uuid;

use crate::commit::KILL_FIRST_COMMIT;
use crate::concurrency::record_meanwhile;
use crate::idempotency::{Database, Decision, Error, Policy, Read, Reply, Statement, Write, seconds};
use crate::proxy::Proxy;
use crate::support::{at_once, count, eventually, eventually_blocked, execute, fresh_database};
use crate::toy::{ACCOUNT, MAKE, MAKE_OR_REMEMBER, NewToy, Response, Runs, ToyError, Workshop, keyed, make};

diesel::table! {
    shelves (id) {
        id -> Integer,
        toys -> Integer,
    }
}

/// What the shelf holds. The table says so too.
const ROOM: i32 = 3;

/// Makes a toy and puts it on the first shelf, if there is room.
#[derive(Clone)]
struct MakeForShelf {
    runs: Runs,
    /// Between the read and the write of the first run.
    meanwhile: Arc<dyn Fn() + Send + Sync>,
    /// Whatever was read.
    fails: bool,
}

impl Decision for MakeForShelf {
    type Request = NewToy;
    type Row = i32;
    type Write = MakeAndPut;
    type Error = ToyError;

    fn read<'a>(&'a self, _: &'a NewToy) -> impl Read<'a, i32> {
        shelves::table.filter(shelves::id.eq(1)).select(shelves::toys)
    }

    fn decide(&self, toy: &NewToy, toys_on_shelf: Vec<i32>) -> Result<(Reply, MakeAndPut), ToyError> {
        if self.runs.is_first() {
            (self.meanwhile)();
        }
        if self.fails || toys_on_shelf[0] >= ROOM {
            return Err(ToyError::Impossible);
        }
        let reply = Reply::created("/toys".into(), &json!({"name": toy.name, "made": Uuid::new_v4()}))?;
        Ok((reply, MakeAndPut { name: toy.name.clone() }))
    }
}

#[derive(QueryId)]
struct MakeAndPut {
    name: String,
}

impl Write for MakeAndPut {
    fn is_outdated(&self, refusal: &DieselError) -> bool {
        matches!(refusal, DieselError::DatabaseError(DatabaseErrorKind::CheckViolation, _))
    }
}

impl QueryFragment<Pg> for MakeAndPut {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        let mut sql = Statement::new(
            out,
            "WITH made AS (INSERT INTO toys (name) VALUES (?)), put AS (UPDATE shelves SET toys = toys + 1 WHERE id = 1)",
        );
        sql.bind::<Text, _>(&self.name)?;
        sql.end();
        Ok(())
    }
}

fn workshop() -> Workshop {
    with_room(Workshop::open())
}

fn with_room(workshop: Workshop) -> Workshop {
    execute(&workshop.url, &format!("ALTER TABLE shelves ADD CONSTRAINT shelves_have_room CHECK (toys <= {ROOM})"));
    workshop
}

fn on_shelf(workshop: &Workshop) -> i64 {
    count(&workshop.url, "generate_series(1, (SELECT toys FROM shelves WHERE id = 1))")
}

/// Counts its decisions in `runs`, and does something else between the first read and its write.
fn send_with<F: Fn() + Send + Sync + 'static>(
    workshop: &Workshop,
    policy: Policy,
    key: &str,
    runs: &Runs,
    meanwhile: F,
) -> impl Future<Output = Result<Response, ToyError>> + Send + use<F> {
    let decision = MakeForShelf { runs: runs.clone(), meanwhile: Arc::new(meanwhile), fails: false };
    let (db, request) = (workshop.db.clone(), keyed("/toys", key, r#"{"name":"ball"}"#).unwrap());
    async move { policy.decide(&db, ACCOUNT, request, decision).await.map(|answer: HttpResponse| answer.into()) }
}

fn send(
    workshop: &Workshop,
    policy: Policy,
    key: &str,
    runs: &Runs,
) -> impl Future<Output = Result<Response, ToyError>> + Send + use<> {
    send_with(workshop, policy, key, runs, || {})
}

#[tokio::test]
async fn a_fresh_decision_takes_two_round_trips_and_a_replay_one_with_nothing_open_between() {
    let proxy = Proxy::start();
    let direct = fresh_database();
    let workshop = with_room(Workshop::open_on(proxy.url(&direct), 1));
    // The statements are prepared, which takes a round trip each.
    for key in ["one", "one", "other"] {
        send(&workshop, MAKE, key, &Runs::default()).await.unwrap();
    }
    proxy.round_trips();
    workshop.db.run(ACCOUNT, |_| Ok::<_, ToyError>(())).await.unwrap();
    let to_check_out = proxy.round_trips();

    send(&workshop, MAKE, "fresh", &Runs::default()).await.unwrap();
    let fresh = proxy.round_trips();
    send(&workshop, MAKE, "fresh", &Runs::default()).await.unwrap();
    let replay = proxy.round_trips();

    assert_eq!(fresh.strip_prefix(&to_check_out), Some("II"));
    assert_eq!(replay.strip_prefix(&to_check_out), Some("I"));
}

#[tokio::test]
async fn a_storm_of_decisions_has_one_effect_and_one_reply() {
    let workshop = workshop();
    let processes: Vec<_> = (0..4).map(|_| workshop.another_process()).collect();

    let answers = at_once(80, move |number| send(&processes[number % 4], MAKE, "key", &Runs::default())).await;
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();

    assert!(answers.iter().all(|answer| answer.reply() == answers[0].reply()), "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| !answer.is_replay()).count(), 1);
    assert_eq!((workshop.toys(), on_shelf(&workshop), workshop.records()), (1, 1, 1));
}

/// Both come as far as the write.
#[tokio::test]
async fn of_two_decisions_that_read_before_either_wrote_one_takes_effect() {
    let workshop = workshop();
    let (one, other) = (workshop.another_process(), workshop.another_process());
    let meeting = Arc::new(std::sync::Barrier::new(2));
    let meet = || {
        let meeting = Arc::clone(&meeting);
        move || {
            meeting.wait();
        }
    };

    let (one, other) = tokio::join!(
        send_with(&one, MAKE, "key", &Runs::default(), meet()),
        send_with(&other, MAKE, "key", &Runs::default(), meet()),
    );
    let (one, other) = (one.unwrap(), other.unwrap());

    assert_eq!(one.reply(), other.reply());
    assert!(one.is_replay() != other.is_replay());
    assert_eq!((workshop.toys(), on_shelf(&workshop), workshop.records()), (1, 1, 1));
}

#[tokio::test]
async fn a_decision_and_a_transaction_with_one_key_have_one_effect() {
    let workshop = workshop();
    let processes: Vec<_> = (0..4).map(|_| workshop.another_process()).collect();

    let answers = at_once(40, move |number| {
        let process = processes[number % 4].clone();
        async move {
            match number / 4 % 2 {
                0 => send(&process, MAKE, "key", &Runs::default()).await,
                _ => process.send(MAKE, "key", "ball", make).await,
            }
        }
    });
    let answers: Vec<_> = answers.await.into_iter().map(Result::unwrap).collect();

    assert!(answers.iter().all(|answer| answer.reply() == answers[0].reply()), "{answers:?}");
    assert_eq!((workshop.toys(), workshop.records()), (1, 1));
}

#[tokio::test]
async fn a_decision_overtaken_by_a_record_writes_nothing_and_is_answered_by_it() {
    let workshop = workshop();
    let other = workshop.make("other").await;
    for (policy, key) in [(MAKE, "one"), (MAKE_OR_REMEMBER, "two")] {
        let url = workshop.url.clone();

        let answer = send_with(&workshop, policy, key, &Runs::default(), move || record_meanwhile(&url, key)).await;
        let answer = answer.unwrap();

        assert_eq!((answer.reply(), answer.is_replay()), (other.reply(), true));
    }
    assert_eq!((workshop.toys(), on_shelf(&workshop), workshop.records()), (1, 0, 3));
}

#[tokio::test]
async fn what_changes_between_the_read_and_the_write_is_decided_again() {
    for (policy, records) in [(MAKE, 0), (MAKE_OR_REMEMBER, 1)] {
        let workshop = workshop();
        let (url, runs) = (workshop.url.clone(), Runs::default());

        let answer = send_with(&workshop, policy, "key", &runs, move || {
            execute(&url, &format!("UPDATE shelves SET toys = {ROOM} WHERE id = 1"));
        });

        match answer.await {
            Err(ToyError::Impossible) => assert_eq!(records, 0),
            Ok(answer) => assert_eq!((answer.status, records), (409, 1)),
            Err(other) => panic!("{other:?}"),
        }
        assert_eq!((runs.so_far(), workshop.toys(), workshop.records()), (2, 0, records));
    }
}

#[tokio::test]
async fn a_write_that_the_database_always_refuses_is_not_decided_for_ever() {
    let workshop = workshop();
    execute(&workshop.url, "ALTER TABLE toys ADD CHECK (name <> 'ball')");
    let runs = Runs::default();

    let answer = send(&workshop, MAKE, "key", &runs).await;

    assert!(matches!(answer, Err(ToyError::Database(_))));
    assert!((2..=10).contains(&runs.so_far()), "{}", runs.so_far());
    assert_eq!((workshop.toys(), workshop.records()), (0, 0));
}

#[tokio::test]
async fn decisions_at_once_never_take_more_than_there_is() {
    let workshop = workshop();
    let processes: Vec<_> = (0..4).map(|_| workshop.another_process()).collect();

    let answers =
        at_once(20, move |number| send(&processes[number % 4], MAKE, &format!("key {number}"), &Runs::default()));
    let answers = answers.await;

    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), ROOM as usize, "{answers:?}");
    assert!(answers.iter().all(|answer| matches!(answer, Ok(_) | Err(ToyError::Impossible))), "{answers:?}");
    assert_eq!((workshop.toys(), on_shelf(&workshop), workshop.records()), (3, 3, 3));
}

#[tokio::test]
async fn a_final_failure_is_kept_by_the_policy_that_says_so() {
    let workshop = workshop();
    execute(&workshop.url, &format!("UPDATE shelves SET toys = {ROOM}"));

    let first = send(&workshop, MAKE_OR_REMEMBER, "kept", &Runs::default()).await.unwrap();
    execute(&workshop.url, "UPDATE shelves SET toys = 0");
    let retry = send(&workshop, MAKE_OR_REMEMBER, "kept", &Runs::default()).await.unwrap();

    assert_eq!((first.status, first.is_replay()), (409, false));
    assert_eq!((retry.reply(), retry.is_replay()), (first.reply(), true));
    assert_eq!((workshop.toys(), workshop.records()), (0, 1));
}

#[tokio::test]
async fn an_expired_record_is_decided_afresh_by_exactly_one_of_many() {
    let workshop = workshop();
    let first = send(&workshop, MAKE, "key", &Runs::default()).await.unwrap();
    workshop.expire("key");
    let processes: Vec<_> = (0..4).map(|_| workshop.another_process()).collect();

    let answers = at_once(24, move |number| send(&processes[number % 4], MAKE, "key", &Runs::default())).await;
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();

    assert!(answers.iter().all(|answer| answer.reply() == answers[0].reply()), "{answers:?}");
    assert_ne!(answers[0].reply(), first.reply());
    assert_eq!(answers.iter().filter(|answer| !answer.is_replay()).count(), 1);
    assert_eq!((workshop.toys(), on_shelf(&workshop), workshop.records()), (2, 2, 1));
}

#[tokio::test]
async fn a_key_with_another_request_is_refused() {
    let workshop = workshop();
    send(&workshop, MAKE, "key", &Runs::default()).await.unwrap();
    let doll = keyed("/toys", "key", r#"{"name":"doll"}"#).unwrap();
    let decision = MakeForShelf { runs: Runs::default(), meanwhile: Arc::new(|| {}), fails: false };

    let answer = MAKE.decide(&workshop.db, ACCOUNT, doll, decision).await;

    assert!(matches!(answer, Err(ToyError::Idempotency(Error::KeyReused))));
    assert_eq!((workshop.toys(), workshop.records()), (1, 1));
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_found_again_as_the_requests_own() {
    let proxy = Arc::new(Proxy::start());
    let direct = workshop();
    let workshop = Workshop::open_on(proxy.url(&direct.url), 4);
    let (cutting, runs) = (Arc::clone(&proxy), Runs::default());

    // The read doesn't name the toy.
    let answer = send_with(&workshop, MAKE, "key", &runs, move || cutting.lose_answer_to(b"ball")).await.unwrap();

    assert_eq!((answer.status, answer.is_replay(), runs.so_far()), (201, false, 1));
    assert!(answer.header("Idempotency-Expires").is_some());
    assert_eq!((direct.toys(), on_shelf(&direct), direct.records()), (1, 1, 1));
    let retry = send(&workshop, MAKE, "key", &runs).await.unwrap();
    assert_eq!((retry.reply(), retry.is_replay()), (answer.reply(), true));
}

#[tokio::test]
async fn a_connection_killed_in_the_write_decides_again() {
    let workshop = workshop();
    execute(&workshop.url, KILL_FIRST_COMMIT);
    let runs = Runs::default();

    let answer = send(&workshop, MAKE, "key", &runs).await.unwrap();

    assert_eq!((answer.status, answer.is_replay(), runs.so_far()), (201, false, 2));
    assert_eq!((workshop.toys(), on_shelf(&workshop), workshop.records()), (1, 1, 1));
}

#[tokio::test]
async fn a_duplicate_in_another_process_waits_for_the_write_without_a_connection() {
    let workshop = workshop();
    let elsewhere = Workshop::open_on(workshop.url.clone(), 1);
    let shelf = workshop.hold_shelf(1);
    let runs = Runs::default();

    let (first, second, ()) = tokio::join!(
        send(&workshop, MAKE, "key", &Runs::default()),
        async {
            eventually_blocked(&workshop.url, 1).await;
            send(&elsewhere, MAKE, "key", &runs).await
        },
        async {
            eventually("it tried twice", || runs.so_far() >= 2).await;
            // On the other process's only connection.
            assert!(!elsewhere.make("another key").await.is_replay());
            drop(shelf);
        }
    );
    let (first, second) = (first.unwrap(), second.unwrap());

    assert_eq!((first.status, first.is_replay()), (201, false));
    assert_eq!((second.reply(), second.is_replay()), (first.reply(), true));
    assert_eq!((workshop.toys(), on_shelf(&workshop), workshop.records()), (2, 1, 2));
}

#[tokio::test]
async fn a_decision_whose_key_another_one_holds_for_too_long_is_in_flight() {
    const IMPATIENT: Policy = Policy { wait: seconds(0), ..MAKE };
    let workshop = workshop();
    let elsewhere = workshop.another_process();
    let shelf = workshop.hold_shelf(1);

    let (first, second) = tokio::join!(send(&workshop, MAKE, "key", &Runs::default()), async {
        eventually_blocked(&workshop.url, 1).await;
        let second = send(&elsewhere, IMPATIENT, "key", &Runs::default()).await;
        drop(shelf);
        second
    });

    assert!(matches!(second, Err(ToyError::Idempotency(Error::InFlight))));
    assert_eq!((first.unwrap().status, workshop.toys(), workshop.records()), (201, 1, 1));
}

/// Else a client whose first request is still under way would hear that it failed.
#[tokio::test]
async fn a_decision_that_fails_while_a_write_of_its_key_is_under_way_waits_for_it() {
    let workshop = workshop();
    let elsewhere = workshop.another_process();
    let shelf = workshop.hold_shelf(1);
    let runs = Runs::default();
    let failing = MakeForShelf { runs: runs.clone(), meanwhile: Arc::new(|| {}), fails: true };

    let (first, second, ()) = tokio::join!(
        send(&workshop, MAKE, "key", &Runs::default()),
        async {
            eventually_blocked(&workshop.url, 1).await;
            MAKE.decide(&elsewhere.db, ACCOUNT, keyed("/toys", "key", r#"{"name":"ball"}"#).unwrap(), failing).await
        },
        async {
            eventually("it decided twice", || runs.so_far() >= 2).await;
            drop(shelf);
        }
    );
    let (first, second) = (first.unwrap(), Response::from(second.unwrap()));

    assert_eq!((first.status, first.is_replay()), (201, false));
    assert_eq!((second.reply(), second.is_replay()), (first.reply(), true));
    assert_eq!((workshop.toys(), workshop.records()), (1, 1));
}
