// SPDX-License-Identifier: MIT OR Apache-2.0
//! The advisory lock decides nothing. Here every claim gets the lock at once, as if each transaction took its own lock,
//! on another node or under another number: the primary key alone must prevent a second effect.
//!
//! Seen to fail without the table's primary key: every body that ran side by side left its toy.

use std::sync::{Arc, Barrier};

use crate::support::{at_once, execute, fresh_database, number};
use crate::toy::{MAKE, MAKE_OR_REMEMBER, Runs, Workshop, make};

/// How many bodies run before any of them commits: one in each process.
const SIDE_BY_SIDE: usize = 3;

/// A workshop on a database that grants the advisory lock to everybody.
fn without_a_lock() -> Workshop {
    let url = fresh_database();
    execute(&url, include_str!("useless_lock.sql"));
    // Other tests take locks in other databases of this server.
    let locks = "(pg_try_advisory_xact_lock(1) AND NOT EXISTS (SELECT FROM pg_locks JOIN pg_database ON oid = database \
                 WHERE locktype = 'advisory' AND datname = current_database()))::int::bigint AS n";
    assert_eq!(number(&url, locks), 1, "the claim still takes a lock");
    Workshop::open_on(url, 4)
}

#[tokio::test]
async fn duplicates_that_run_side_by_side_take_effect_once_although_every_claim_gets_the_lock() {
    for policy in [MAKE, MAKE_OR_REMEMBER] {
        let workshop = without_a_lock();
        let (runs, meeting) = (Runs::default(), Arc::new(Barrier::new(SIDE_BY_SIDE)));
        let (counted, here) = (runs.clone(), workshop.clone());

        let answers = at_once(SIDE_BY_SIDE, move |_| {
            let (runs, meeting, first) = (counted.clone(), Arc::clone(&meeting), Runs::default());
            here.another_process().send(policy, "key", "ball", move |conn, toy| {
                runs.is_first();
                let reply = make(conn, toy)?;
                if first.is_first() {
                    meeting.wait();
                }
                Ok(reply)
            })
        });
        let answers: Vec<_> = answers.await.into_iter().map(Result::unwrap).collect();

        // All of them ran, and all but one rolled back.
        assert_eq!(runs.so_far() as usize, SIDE_BY_SIDE);
        assert!(answers.iter().all(|answer| answer.reply() == answers[0].reply()), "{answers:?}");
        assert_eq!(answers.iter().filter(|answer| !answer.is_replay()).count(), 1);
        assert_eq!((workshop.toys(), workshop.records()), (1, 1));
    }
}

#[tokio::test]
async fn an_expired_key_is_taken_over_once_although_every_claim_gets_the_lock() {
    let workshop = without_a_lock();
    workshop.make("key").await;
    workshop.expire("key");
    let processes: Vec<_> = (0..4).map(|_| workshop.another_process()).collect();

    let answers = at_once(24, move |number| processes[number % processes.len()].send(MAKE, "key", "ball", make)).await;
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();

    assert!(answers.iter().all(|answer| answer.reply() == answers[0].reply()), "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| !answer.is_replay()).count(), 1);
    assert_eq!((workshop.toys(), workshop.records()), (2, 1));
}
