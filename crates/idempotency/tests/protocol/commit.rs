// SPDX-License-Identifier: MIT OR Apache-2.0
//! The connection is lost at the worst moments: around COMMIT, or silently inside the transaction.

use std::sync::Arc;

use diesel::prelude::*;

use crate::support::{count, eventually, execute};
use crate::toy::{MAKE, MAKE_OR_REMEMBER, Runs, ToyError, Workshop, insert, make};
use idempotency::{Policy, seconds};
use idempotency_testing::Proxy;

/// A trigger that kills the backend of the first transaction with a toy, during its COMMIT and before the commit takes effect.
/// A rollback does not reset the sequence, so the second transaction commits.
pub const KILL_FIRST_COMMIT: &str = "CREATE SEQUENCE commits; \
    CREATE FUNCTION kill_first() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
      IF nextval('commits') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; RETURN NULL; END $$; \
    CREATE CONSTRAINT TRIGGER kill_first AFTER INSERT ON toys DEFERRABLE INITIALLY DEFERRED \
      FOR EACH ROW EXECUTE FUNCTION kill_first()";

#[tokio::test]
async fn a_connection_killed_at_commit_runs_the_transaction_again() {
    for policy in [MAKE, MAKE_OR_REMEMBER] {
        let workshop = Workshop::open();
        execute(&workshop.url, KILL_FIRST_COMMIT);
        let runs = Runs::default();
        let counted = runs.clone();

        let answer = workshop.send(policy, "key", "ball", move |conn, toy| {
            counted.is_first();
            make(conn, toy)
        });
        let answer = answer.await.unwrap();

        assert_eq!((answer.status, answer.is_replay()), (201, false));
        assert_eq!((runs.so_far(), workshop.toys(), workshop.records()), (2, 1, 1));
        assert_eq!(workshop.send(policy, "key", "ball", make).await.unwrap().reply(), answer.reply());
    }
}

#[tokio::test]
async fn a_connection_killed_inside_the_body_runs_the_transaction_again() {
    for policy in [MAKE, MAKE_OR_REMEMBER] {
        let workshop = Workshop::open();
        let runs = Runs::default();
        let counted = runs.clone();

        let answer = workshop.send(policy, "key", "ball", move |conn, toy| {
            let reply = make(conn, toy)?;
            if counted.is_first() {
                diesel::sql_query("SELECT pg_terminate_backend(pg_backend_pid())").execute(conn)?;
            }
            Ok(reply)
        });
        let answer = answer.await.unwrap();

        assert_eq!((answer.status, answer.is_replay()), (201, false));
        assert_eq!((runs.so_far(), workshop.toys(), workshop.records()), (2, 1, 1));
    }
}

#[tokio::test]
async fn a_transaction_that_always_loses_its_connection_gives_up() {
    let workshop = Workshop::open();
    let runs = Runs::default();
    let counted = runs.clone();

    let answer = workshop.send(MAKE, "key", "ball", move |conn, toy| {
        counted.is_first();
        diesel::sql_query("SELECT pg_terminate_backend(pg_backend_pid())").execute(conn)?;
        make(conn, toy)
    });

    assert!(matches!(answer.await, Err(ToyError::Database(_))));
    assert!((2..=10).contains(&runs.so_far()), "{}", runs.so_far());
    assert_eq!((workshop.toys(), workshop.records()), (0, 0));
}

#[tokio::test]
async fn after_a_lost_commit_answer_the_request_finds_its_own_record() {
    let proxy = Arc::new(Proxy::start());
    let direct = Workshop::open();
    let workshop = Workshop::open_on(proxy.url(&direct.url), 4);
    let runs = Runs::default();
    let (counted, cutting) = (runs.clone(), Arc::clone(&proxy));

    let answer = workshop.send(MAKE, "key", "ball", move |conn, toy| {
        if counted.is_first() {
            cutting.lose_answer_of_next_commit();
        }
        make(conn, toy)
    });
    let answer = answer.await.unwrap();

    // The body ran only once, so the first commit took effect. The request found its own record, so the answer is no replay.
    assert_eq!(runs.so_far(), 1);
    assert_eq!((answer.status, answer.is_replay()), (201, false));
    assert!(answer.header("Idempotency-Expires").is_some());
    assert_eq!((direct.toys(), direct.records()), (1, 1));
    let retry = workshop.make("key").await;
    assert_eq!(retry.reply(), answer.reply());
    assert!(retry.is_replay());
}

#[tokio::test]
async fn after_a_lost_commit_answer_the_request_finds_its_own_stored_failure() {
    let proxy = Arc::new(Proxy::start());
    let direct = Workshop::open();
    let workshop = Workshop::open_on(proxy.url(&direct.url), 4);
    let runs = Runs::default();
    let (counted, cutting) = (runs.clone(), Arc::clone(&proxy));

    let answer = workshop.send(MAKE_OR_REMEMBER, "key", "ball", move |conn, toy| {
        insert(conn, toy)?;
        if counted.is_first() {
            cutting.lose_answer_of_next_commit();
        }
        Err(ToyError::Impossible)
    });
    let answer = answer.await.unwrap();

    assert_eq!(runs.so_far(), 1);
    assert_eq!((answer.status, answer.is_replay()), (409, false));
    assert_eq!((direct.toys(), direct.records()), (0, 1));
}

/// Takes five seconds: that is when the connection's limits end a silent transaction.
#[tokio::test]
async fn a_host_that_goes_silent_inside_its_transaction_frees_the_key() {
    const PATIENT: Policy = Policy { wait: seconds(20), ..MAKE };
    let proxy = Arc::new(Proxy::start());
    let direct = Workshop::open();
    let silent = Workshop::open_on(proxy.url(&direct.url), 4);
    let runs = Runs::default();
    let (counted, vanishing) = (runs.clone(), Arc::clone(&proxy));
    let lost = silent.send(PATIENT, "key", "ball", move |conn, toy| {
        let reply = make(conn, toy)?;
        if counted.is_first() {
            vanishing.go_silent();
        }
        Ok(reply)
    });
    let lost = tokio::spawn(lost);
    let idle = "pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'";
    eventually("the transaction is silent", || runs.so_far() == 1 && count(&direct.url, idle) == 1).await;

    let answer = direct.send(PATIENT, "key", "ball", make).await.unwrap();

    assert_eq!((answer.status, answer.is_replay()), (201, false));
    // The host comes back, and its request gets the other request's reply.
    proxy.recover();
    let found = lost.await.unwrap().unwrap();
    assert_eq!(found.reply(), answer.reply());
    assert!(found.is_replay());
    assert_eq!((runs.so_far(), direct.toys(), direct.records()), (1, 1, 1));
}
