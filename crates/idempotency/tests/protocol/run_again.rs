// SPDX-License-Identifier: MIT OR Apache-2.0
//! If PostgreSQL aborts a transaction in favour of another one, the transaction runs again. The tests make real deadlocks and
//! real serialization failures.

use std::collections::BTreeSet;
use std::sync::{Arc, Barrier, Mutex};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::Integer;

use crate::support::{connect, count, eventually_blocked, execute, fresh_database};
use crate::toy::{MAKE, MAKE_OR_REMEMBER, Runs, ToyError, Workshop, make, stock};

#[tokio::test]
async fn the_victim_of_a_deadlock_runs_again() {
    for policy in [MAKE, MAKE_OR_REMEMBER] {
        let workshop = Workshop::open();
        // New connections look for a deadlock after 20 ms. PostgreSQL's default is one second.
        execute(
            &workshop.url,
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = 20', current_database()); END $$",
        );
        let (runs, meeting) = (Runs::default(), Arc::new(Barrier::new(2)));
        // Each transaction locks a shelf, waits for the other transaction, and then wants the other's shelf.
        let send = |key, shelves: [i32; 2]| {
            let (runs, meeting, first) = (runs.clone(), Arc::clone(&meeting), Runs::default());
            workshop.send(policy, key, "ball", move |conn, toy| {
                runs.is_first();
                stock(conn, shelves[0])?;
                if first.is_first() {
                    meeting.wait();
                }
                stock(conn, shelves[1])?;
                make(conn, toy)
            })
        };

        let (one, other) = tokio::join!(send("one", [1, 2]), send("other", [2, 1]));

        assert_eq!((one.unwrap().status, other.unwrap().status), (201, 201));
        // Usually three runs. The victim may run again before the survivor has woken up, and then the two block each other again.
        assert!(runs.so_far() >= 3, "one of the two ran again");
        assert_eq!((workshop.toys(), workshop.records()), (2, 2));
        assert_eq!(count(&workshop.url, "shelves WHERE toys = 2"), 2);
    }
}

/// Under READ COMMITTED, a transaction fails with SQLSTATE 40001 in one case: it waits for a row, and the row moves to another
/// partition.
#[tokio::test]
async fn a_transaction_that_fails_to_serialize_runs_again() {
    let workshop = Workshop::open();
    execute(
        &workshop.url,
        "CREATE TABLE bins (id int, colour text, toys int) PARTITION BY LIST (colour); \
         CREATE TABLE red_bins PARTITION OF bins FOR VALUES IN ('red'); \
         CREATE TABLE blue_bins PARTITION OF bins FOR VALUES IN ('blue'); \
         INSERT INTO bins VALUES (1, 'red', 0)",
    );
    let mut mover = connect(&workshop.url);
    mover.batch_execute("BEGIN; UPDATE bins SET colour = 'blue'").unwrap();
    let runs = Runs::default();
    let counted = runs.clone();

    let request = workshop.send(MAKE, "key", "ball", move |conn, toy| {
        counted.is_first();
        let reply = make(conn, toy)?;
        diesel::sql_query("UPDATE bins SET toys = toys + 1 WHERE id = 1").execute(conn)?;
        Ok(reply)
    });
    let (answer, ()) = tokio::join!(request, async {
        eventually_blocked(&workshop.url, 1).await;
        mover.batch_execute("COMMIT").unwrap();
    });

    assert_eq!((answer.unwrap().status, runs.so_far()), (201, 2));
    assert_eq!((workshop.toys(), workshop.records()), (1, 1));
    assert_eq!(count(&workshop.url, "blue_bins WHERE toys = 1"), 1);
}

/// The pool's connection was made while the server was read-only. The pool's own test of the connection succeeds.
#[tokio::test]
async fn after_a_fail_over_the_transaction_runs_again_over_a_fresh_connection() {
    let workshop = Workshop::open_on(fresh_database(), 1);
    let only_reads = |on| {
        let setting = format!("SET default_transaction_read_only = {on}");
        let sql = format!("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I {setting}', current_database()); END $$");
        execute(&workshop.url, &format!("SET transaction_read_only = off; {sql}"));
    };
    only_reads(true);
    let refused = workshop.send(MAKE, "key", "ball", make).await;
    assert!(matches!(refused, Err(ToyError::Database(_))), "{refused:?}");
    only_reads(false);

    assert!(!workshop.make("key").await.is_replay());
    assert_eq!((workshop.toys(), workshop.records()), (1, 1));
}

#[tokio::test]
async fn a_transaction_that_hits_a_time_limit_does_not_run_again() {
    let workshop = Workshop::open();
    let shelf = workshop.hold_shelf(1);
    let runs = Runs::default();
    let counted = runs.clone();

    let answer = workshop.send(MAKE, "key", "ball", move |conn, toy| {
        counted.is_first();
        conn.batch_execute("SET LOCAL lock_timeout = '20ms'")?;
        stock(conn, 1)?;
        make(conn, toy)
    });

    assert!(matches!(answer.await, Err(ToyError::Database(_))));
    assert_eq!((runs.so_far(), workshop.records()), (1, 0));
    drop(shelf);
    assert!(!workshop.make("key").await.is_replay());
}

/// Makes the first INSERT of the record fail with this error.
fn fail_the_first_record(url: &str, sqlstate: &str, message: &str) {
    execute(
        url,
        &format!(
            "CREATE SEQUENCE records; CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
               IF nextval('records') = 1 THEN RAISE EXCEPTION '%', '{message}' USING ERRCODE = '{sqlstate}'; END IF; RETURN NEW; END $$; \
             CREATE TRIGGER fail BEFORE INSERT ON idempotency_keys FOR EACH ROW EXECUTE FUNCTION fail()"
        ),
    );
}

/// How often the body ran, and on how many backends.
async fn runs_and_backends(workshop: &Workshop) -> (u32, usize) {
    let (runs, backends) = (Runs::default(), Arc::new(Mutex::new(BTreeSet::new())));
    let (counted, seen) = (runs.clone(), Arc::clone(&backends));
    let answer = workshop.send(MAKE, "key", "ball", move |conn, toy| {
        counted.is_first();
        seen.lock()
            .unwrap()
            .insert(diesel::select(diesel::dsl::sql::<Integer>("pg_backend_pid()")).get_result::<i32>(conn)?);
        make(conn, toy)
    });
    assert_eq!(answer.await.unwrap().status, 201);
    assert_eq!((workshop.toys(), workshop.records()), (1, 1));
    let backends = backends.lock().unwrap().len();
    (runs.so_far(), backends)
}

/// Citus passes on a worker's message without the fields that name table and constraint.
#[tokio::test]
async fn a_transaction_whose_key_is_taken_runs_again_although_the_server_names_no_table() {
    let workshop = Workshop::open();
    let says = "duplicate key value violates unique constraint \"idempotency_keys_pkey_102012\"";
    fail_the_first_record(&workshop.url, "23505", says);

    assert_eq!(runs_and_backends(&workshop).await.0, 2);
}

/// The SQLSTATE is that of a closed connection. But reconnecting would not help, and would cost the other accounts,
/// whose workers are well, their connections.
#[tokio::test]
async fn after_a_coordinator_lost_a_worker_the_transaction_runs_again_over_the_same_connection() {
    let workshop = Workshop::open_on(fresh_database(), 1);
    let says = "connection to the remote node postgres@citus-2:5432 failed with the following error: server closed the \
                connection unexpectedly";
    fail_the_first_record(&workshop.url, "08006", says);

    assert_eq!(runs_and_backends(&workshop).await, (2, 1));
}

/// A pooler may discard the statements that a connection has prepared.
#[tokio::test]
async fn a_connection_that_lost_its_prepared_statements_is_closed() {
    let workshop = Workshop::open_on(fresh_database(), 1);
    workshop.make("warm").await;
    let first = Runs::default();

    let answer = workshop.send(MAKE, "key", "ball", move |conn, toy| {
        if first.is_first() {
            conn.batch_execute("DEALLOCATE ALL")?;
        }
        make(conn, toy)
    });

    assert_eq!(answer.await.unwrap().status, 201);
    assert_eq!(workshop.make("next").await.status, 201);
}
