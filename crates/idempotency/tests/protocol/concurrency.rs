// SPDX-License-Identifier: MIT OR Apache-2.0
//! Duplicates at the same time have one effect and one reply, and do no harm to other keys.

use std::time::Duration;

use uuid::Uuid;

use crate::support::{at_once, count, eventually_blocked, execute, fresh_database};
use crate::toy::{MAKE, MAKE_OR_REMEMBER, Runs, ToyError, Workshop, make, stock};
use idempotency::{Error, Policy};

#[tokio::test]
async fn a_storm_of_duplicates_has_one_effect_and_one_reply() {
    let workshop = Workshop::open();
    let processes = [workshop.clone(), workshop.another_process(), workshop.another_process()];
    let runs = Runs::default();
    let counted = runs.clone();

    let answers = at_once(90, move |number| {
        let runs = counted.clone();
        processes[number % processes.len()].send(MAKE, "key", "ball", move |conn, toy| {
            runs.is_first();
            make(conn, toy)
        })
    });
    let answers: Vec<_> = answers.await.into_iter().map(Result::unwrap).collect();

    assert!(answers.iter().all(|answer| answer.reply() == answers[0].reply()), "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| !answer.is_replay()).count(), 1);
    assert_eq!((runs.so_far(), workshop.toys(), workshop.records()), (1, 1, 1));
}

/// The number of backends inside a statement or a transaction, without this query's backend and the backend that holds the shelf.
fn busy_backends(workshop: &Workshop) -> i64 {
    count(
        &workshop.url,
        "pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' \
         AND state <> 'idle' AND pid <> pg_backend_pid()",
    ) - 1
}

#[tokio::test]
async fn waiting_duplicates_hold_one_connection_a_process_and_other_keys_go_through() {
    let workshop = Workshop::open_on(fresh_database(), 2);
    let elsewhere = Workshop::open_on(workshop.url.clone(), 1);
    let shelf = workshop.hold_shelf(1);
    let duplicates = |workshop: &Workshop| {
        let workshop = workshop.clone();
        at_once(30, move |_| {
            workshop.send(MAKE, "key", "ball", |conn, toy| {
                stock(conn, 1)?;
                make(conn, toy)
            })
        })
    };

    let first = tokio::spawn(duplicates(&workshop));
    eventually_blocked(&workshop.url, 1).await;
    let second = tokio::spawn(duplicates(&elsewhere));
    // Both pools still have a connection for other keys. The second pool has only one connection, and its duplicates share that
    // connection with other keys.
    for number in 0..20 {
        assert!(!workshop.make(&format!("here {number}")).await.is_replay());
        assert!(!elsewhere.make(&format!("there {number}")).await.is_replay());
    }
    assert!(busy_backends(&workshop) <= 2, "{}", busy_backends(&workshop));
    drop(shelf);

    let answers: Vec<_> = first.await.unwrap().into_iter().chain(second.await.unwrap()).map(Result::unwrap).collect();
    assert!(answers.iter().all(|answer| answer.reply() == answers[0].reply()), "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| !answer.is_replay()).count(), 1);
}

#[tokio::test]
async fn a_duplicate_that_waits_too_long_gets_in_flight() {
    const IMPATIENT: Policy = Policy { wait: Duration::from_millis(100), ..MAKE };
    let workshop = Workshop::open();
    let shelf = workshop.hold_shelf(1);
    let slow = workshop.send(IMPATIENT, "key", "ball", |conn, toy| {
        stock(conn, 1)?;
        make(conn, toy)
    });
    let slow = tokio::spawn(slow);
    eventually_blocked(&workshop.url, 1).await;

    let here = workshop.send(IMPATIENT, "key", "ball", make).await;
    let there = workshop.another_process().send(IMPATIENT, "key", "ball", make).await;

    for duplicate in [here, there] {
        assert!(matches!(duplicate, Err(ToyError::Idempotency(Error::InFlight))), "{duplicate:?}");
    }
    drop(shelf);
    // The wait limits only duplicates. The first request runs its body and takes longer.
    let first = slow.await.unwrap().unwrap();
    assert_eq!(workshop.make("key").await.reply(), first.reply());
}

#[tokio::test]
async fn a_follower_takes_the_place_of_a_leader_whose_request_is_dropped() {
    let workshop = Workshop::open();
    let shelf = workshop.hold_shelf(1);
    let leader = workshop.send(MAKE, "key", "ball", |conn, toy| {
        stock(conn, 1)?;
        make(conn, toy)
    });
    let leader = tokio::spawn(leader);
    eventually_blocked(&workshop.url, 1).await;
    let follower = tokio::spawn(workshop.send(MAKE, "key", "ball", make));

    // The client is gone, but its transaction runs to the end.
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    drop(shelf);

    assert!(follower.await.unwrap().unwrap().is_replay());
    assert_eq!(count(&workshop.url, "shelves WHERE toys = 1"), 1);
    assert_eq!((workshop.toys(), workshop.records()), (1, 1));
}

/// Must fail if a flight is found by scope and key without the account.
#[tokio::test]
async fn another_accounts_request_under_the_same_key_neither_waits_nor_shares() {
    let workshop = Workshop::open();
    let shelf = workshop.hold_shelf(1);
    let slow = workshop.send_on(&[], Uuid::from_u128(1), MAKE, "key", "ball", |conn, toy| {
        stock(conn, 1)?;
        make(conn, toy)
    });
    let slow = tokio::spawn(slow);
    eventually_blocked(&workshop.url, 1).await;

    // With the body of the request in flight, and with another body.
    for (account, name) in [(2, "ball"), (3, "doll")] {
        let answer = workshop.send_on(&[], Uuid::from_u128(account), MAKE, "key", name, make).await.unwrap();
        assert_eq!((answer.status, answer.is_replay()), (201, false));
    }

    assert!(!slow.is_finished());
    drop(shelf);
    assert!(!slow.await.unwrap().unwrap().is_replay());
    assert_eq!((workshop.toys(), workshop.records()), (3, 3));
}

/// The flight's fingerprint refuses the other body at once. Must fail if neither the flight's nor the record's
/// fingerprint is compared.
#[tokio::test]
async fn another_body_under_a_key_in_flight_never_gets_the_flights_reply() {
    let workshop = Workshop::open();
    let shelf = workshop.hold_shelf(1);
    let ball = tokio::spawn(workshop.send(MAKE, "key", "ball", |conn, toy| {
        stock(conn, 1)?;
        make(conn, toy)
    }));
    eventually_blocked(&workshop.url, 1).await;
    let doll = workshop.send(MAKE, "key", "doll", make);

    let (doll, ()) = tokio::join!(doll, async { drop(shelf) });

    assert!(matches!(doll, Err(ToyError::Idempotency(Error::KeyReused))), "{doll:?}");
    assert_eq!(ball.await.unwrap().unwrap().status, 201);
    assert_eq!((workshop.toys(), workshop.records()), (1, 1));
}

#[tokio::test]
async fn duplicates_of_a_slow_takeover_wait_without_a_connection() {
    const IMPATIENT: Policy = Policy { wait: Duration::from_millis(100), ..MAKE };
    let workshop = Workshop::open();
    workshop.make("key").await;
    workshop.expire("key");
    let shelf = workshop.hold_shelf(1);
    let takeover = tokio::spawn(workshop.send(MAKE, "key", "ball", |conn, toy| {
        stock(conn, 1)?;
        make(conn, toy)
    }));
    eventually_blocked(&workshop.url, 1).await;

    let duplicate = workshop.another_process().send(IMPATIENT, "key", "ball", make).await;

    assert!(matches!(duplicate, Err(ToyError::Idempotency(Error::InFlight))), "{duplicate:?}");
    drop(shelf);
    let answer = takeover.await.unwrap().unwrap();
    assert_eq!(workshop.another_process().make("key").await.reply(), answer.reply());
    assert_eq!((workshop.toys(), workshop.records()), (2, 1));
}

/// Writes a record of `key`, as another program would, or a transaction that commits between the claim's read and its
/// lock.
pub fn record_meanwhile(url: &str, key: &str) {
    execute(
        url,
        &format!(
            "INSERT INTO idempotency_keys SELECT account_id, scope, '{key}', gen_random_uuid(), route, request_id, \
             fingerprint_version, fingerprint, status, content_type, location, body, created_at, expires_at \
             FROM idempotency_keys WHERE key = 'other'"
        ),
    );
}

/// The advisory lock only keeps duplicates from running. The primary key prevents a second effect.
#[tokio::test]
async fn if_a_record_appears_while_the_body_runs_the_body_rolls_back_and_the_record_is_replayed() {
    let workshop = Workshop::open();
    let other = workshop.make("other").await;
    for (policy, key) in [(MAKE, "one"), (MAKE_OR_REMEMBER, "two")] {
        let (url, runs) = (workshop.url.clone(), Runs::default());

        let answer = workshop.send(policy, key, "ball", move |conn, toy| {
            let reply = make(conn, toy)?;
            if runs.is_first() {
                record_meanwhile(&url, key);
            }
            Ok(reply)
        });
        let answer = answer.await.unwrap();

        assert_eq!((answer.reply(), answer.is_replay()), (other.reply(), true));
    }
    assert_eq!((workshop.toys(), workshop.records()), (1, 3));
}

/// The body may fail because of the writes of the record's transaction.
#[tokio::test]
async fn if_a_record_appears_while_a_body_fails_the_record_is_replayed() {
    let workshop = Workshop::open();
    let other = workshop.make("other").await;
    let failures = [ToyError::Impossible, ToyError::Closed];
    for (number, (policy, failure)) in [MAKE, MAKE_OR_REMEMBER].into_iter().zip(failures).enumerate() {
        let (url, key) = (workshop.url.clone(), format!("key-{number}"));
        let meanwhile = key.clone();

        let answer = workshop.send(policy, &key, "ball", move |conn, toy| {
            make(conn, toy)?;
            record_meanwhile(&url, &meanwhile);
            Err(failure.clone())
        });
        let answer = answer.await.unwrap();

        assert_eq!((answer.reply(), answer.is_replay()), (other.reply(), true));
    }
    assert_eq!((workshop.toys(), workshop.records()), (1, 3));
}

/// The first request is already recorded. So the wrong one may follow a right one that only replays.
#[tokio::test]
async fn another_body_that_follows_a_replay_never_gets_its_reply() {
    let workshop = Workshop::open();
    let first = workshop.make("key").await;
    for round in 0..50 {
        let send = |name| workshop.send(MAKE, "key", name, make);

        let (ball, doll) = tokio::join!(send("ball"), send("doll"));

        assert_eq!(ball.unwrap().reply(), first.reply());
        assert!(matches!(doll, Err(ToyError::Idempotency(Error::KeyReused))), "round {round}: {doll:?}");
    }
}
