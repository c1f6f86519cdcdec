// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every change to an existing record goes through `store::lock`, a `SELECT .. FOR UPDATE` of the record.
//!
//! Two tests below fail without `FOR UPDATE`: they were seen to fail with `.for_update()` removed from `lock`.

use diesel::connection::{Connection, SimpleConnection};

use crate::support::{at_once, connect, eventually_blocked, number};
use crate::toy::{ACCOUNT, MAKE, Runs, Workshop, keyed, make, stock};
use idempotency::{Address, FinalizeError, Policy, Reply, finalize, hours, lock, seconds, sweep};

pub fn address(key: &str) -> Address {
    keyed("/toys", key, r#"{"name":"ball"}"#).unwrap().address(ACCOUNT, &MAKE).unwrap()
}

/// Passes without `FOR UPDATE` too, because the deletion of the record also waits for the sweep.
#[tokio::test]
async fn a_takeover_waits_for_a_sweep_that_has_locked_the_record_and_claims_again() {
    let workshop = Workshop::open();
    workshop.make("key").await;
    workshop.expire("key");
    let mut sweeper = connect(&workshop.url);
    sweeper.batch_execute("BEGIN; SELECT FROM idempotency_keys FOR UPDATE").unwrap();

    let request = workshop.send(MAKE, "key", "ball", make);
    let (answer, ()) = tokio::join!(request, async {
        eventually_blocked(&workshop.url, 1).await;
        assert_eq!(sweep(&mut sweeper).unwrap().deleted, 1);
        sweeper.batch_execute("COMMIT").unwrap();
    });

    assert!(!answer.unwrap().is_replay());
    assert_eq!((workshop.toys(), workshop.records()), (2, 1));
}

#[tokio::test]
async fn a_request_waits_for_a_sweep_that_is_deleting_its_record_and_claims_again() {
    let workshop = Workshop::open();
    workshop.make("key").await;
    workshop.expire("key");
    let mut sweeper = connect(&workshop.url);
    sweeper.batch_execute("BEGIN").unwrap();
    assert_eq!(sweep(&mut sweeper).unwrap().deleted, 1);

    let request = workshop.send(MAKE, "key", "ball", make);
    let (answer, ()) = tokio::join!(request, async {
        eventually_blocked(&workshop.url, 1).await;
        sweeper.batch_execute("COMMIT").unwrap();
    });

    assert!(!answer.unwrap().is_replay());
    assert_eq!((workshop.toys(), workshop.records()), (2, 1));
}

#[tokio::test]
async fn a_request_outlives_a_sweep_that_is_rolled_back() {
    let workshop = Workshop::open();
    workshop.make("key").await;
    workshop.expire("key");
    let mut sweeper = connect(&workshop.url);
    sweeper.batch_execute("BEGIN").unwrap();
    assert_eq!(sweep(&mut sweeper).unwrap().deleted, 1);

    let request = workshop.send(MAKE, "key", "ball", make);
    let (answer, ()) = tokio::join!(request, async {
        eventually_blocked(&workshop.url, 1).await;
        sweeper.batch_execute("ROLLBACK").unwrap();
    });

    assert!(!answer.unwrap().is_replay());
    assert_eq!((workshop.toys(), workshop.records()), (2, 1));
}

/// Fails without `FOR UPDATE`: the second lock does not wait, and reads the old record.
#[tokio::test]
async fn a_second_lock_waits_and_sees_the_change_of_the_first_lock() {
    let workshop = Workshop::open();
    workshop.send(MAKE, "key", "ball", |_, _| Ok(Reply::json(202, &"processing")?)).await.unwrap();
    let mut first = connect(&workshop.url);
    first.batch_execute("BEGIN").unwrap();
    assert!(lock(&mut first, &address("key")).unwrap().unwrap().reply.is_provisional());

    let url = workshop.url.clone();
    let second = tokio::task::spawn_blocking(move || lock(&mut connect(&url), &address("key")));
    eventually_blocked(&workshop.url, 1).await;
    finalize(&mut first, &address("key"), &Reply::ok(&"finalized").unwrap(), hours(1)).unwrap();
    first.batch_execute("COMMIT").unwrap();

    assert!(!second.await.unwrap().unwrap().unwrap().reply.is_provisional());
}

/// Fails without `FOR UPDATE`, though not in every run, since the resolvers race: several finalize, and the last reply
/// stays.
#[tokio::test]
async fn of_many_resolvers_at_once_one_finalizes() {
    let workshop = Workshop::open();
    workshop.send(MAKE, "key", "ball", |_, _| Ok(Reply::json(202, &"processing")?)).await.unwrap();
    let url = workshop.url.clone();

    let outcomes = at_once(8, move |number| {
        let url = url.clone();
        async move {
            let finalize = move || {
                connect(&url).transaction(|conn| {
                    let expiry = finalize(conn, &address("key"), &Reply::ok(&number).unwrap(), hours(1))?;
                    stock(conn, 1)?;
                    Ok::<_, FinalizeError>(expiry)
                })
            };
            tokio::task::spawn_blocking(finalize).await.unwrap()
        }
    });
    let outcomes = outcomes.await;

    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    let winner = outcomes.iter().position(Result::is_ok).unwrap();
    assert_eq!(workshop.make("key").await.body, winner.to_string().into_bytes());
}

/// Must fail if the takeover goes on although the locked record is live, and if it deletes the record without a lock.
/// In the first case the body runs for nothing, in the second the request takes effect twice.
#[tokio::test]
async fn a_takeover_that_waited_while_the_record_came_to_life_replays_it_and_runs_nothing() {
    let workshop = Workshop::open();
    let first = workshop.make("key").await;
    workshop.expire("key");
    // Another process takes over the key, and has not committed yet.
    let mut other = connect(&workshop.url);
    other.batch_execute("BEGIN; SELECT FROM idempotency_keys FOR UPDATE").unwrap();
    let runs = Runs::default();
    let counted = runs.clone();

    let request = workshop.send(MAKE, "key", "ball", move |conn, toy| {
        counted.is_first();
        make(conn, toy)
    });
    let (answer, ()) = tokio::join!(request, async {
        eventually_blocked(&workshop.url, 1).await;
        let alive = "UPDATE idempotency_keys SET expires_at = now() + interval '1 hour'; COMMIT";
        other.batch_execute(alive).unwrap();
    });

    let answer = answer.unwrap();
    assert_eq!((answer.reply(), answer.is_replay()), (first.reply(), true));
    assert_eq!((runs.so_far(), workshop.toys(), workshop.records()), (0, 1, 1));
}

#[tokio::test]
async fn an_expired_record_is_taken_over_by_exactly_one_of_many() {
    let workshop = Workshop::open();
    workshop.make("key").await;
    workshop.expire("key");
    let processes: Vec<_> = (0..4).map(|_| workshop.another_process()).collect();
    let runs = Runs::default();
    let counted = runs.clone();

    let answers = at_once(24, move |number| {
        let runs = counted.clone();
        processes[number % processes.len()].send(MAKE, "key", "ball", move |conn, toy| {
            runs.is_first();
            make(conn, toy)
        })
    });
    let answers: Vec<_> = answers.await.into_iter().map(Result::unwrap).collect();

    assert_eq!(answers.iter().filter(|answer| !answer.is_replay()).count(), 1);
    assert!(answers.iter().all(|answer| answer.reply() == answers[0].reply()), "{answers:?}");
    assert_eq!((runs.so_far(), workshop.toys(), workshop.records()), (1, 2, 1));
}

/// Replicas that replay one record at once must not wait for each other.
#[tokio::test]
async fn a_replay_needs_no_lock_of_the_key() {
    let workshop = Workshop::open();
    let shelf = workshop.hold_shelf(1);
    let request = workshop.send(MAKE, "key", "ball", |conn, toy| {
        stock(conn, 1)?;
        make(conn, toy)
    });
    let (first, number) = tokio::join!(request, async {
        eventually_blocked(&workshop.url, 1).await;
        let key = "(classid::bigint << 32 | objid::bigint) AS n FROM pg_locks \
                   WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        let key = number(&workshop.url, key);
        drop(shelf);
        key
    });
    let mut holder = connect(&workshop.url);
    holder.batch_execute(&format!("SELECT pg_advisory_lock({number})")).unwrap();

    let impatient = Policy { wait: seconds(0), ..MAKE };
    let retry = workshop.another_process().send(impatient, "key", "ball", make).await.unwrap();

    assert!(retry.is_replay());
    assert_eq!(retry.reply(), first.unwrap().reply());
}
