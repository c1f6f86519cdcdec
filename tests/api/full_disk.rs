//! The database has no room left, or aborts a transaction that can run again.
//!
//! A trigger raises the errors, with the SQLSTATEs and messages of PostgreSQL and Citus. `.ci/full-disk` tests a real
//! full disk, as root.

use crate::app::App;
use crate::support::execute;

/// Makes the insert of an order fail with this error. With `once`, only the first insert fails.
fn fail_orders(app: &App, sqlstate: &str, message: &str, once: bool) {
    let condition = if once { "nextval('failures') = 1" } else { "true" };
    execute(
        &app.database,
        &format!(
            "CREATE SEQUENCE IF NOT EXISTS failures; ALTER SEQUENCE failures RESTART; \
             CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
               IF {condition} THEN RAISE EXCEPTION '%', '{message}' USING ERRCODE = '{sqlstate}'; END IF; RETURN NEW; END $$; \
             CREATE OR REPLACE TRIGGER fail BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION fail()"
        ),
    );
}

#[tokio::test]
async fn if_the_database_has_no_room_the_api_answers_503_and_the_key_stays_free() {
    let errors = [
        ("53100", "could not extend file \"base/16389/16402\": No space left on device"),
        ("53100", "could not extend file \"base/16389/16402\": wrote only 4096 of 8192 bytes at block 7"),
        ("53100", "could not write to file \"base/pgsql_tmp/pgsql_tmp1.0\": Disk quota exceeded"),
        ("53200", "out of shared memory"),
        ("53200", "out of memory"),
    ];
    let app = App::start_with_pool(2).await;
    for (number, (sqlstate, message)) in errors.into_iter().enumerate() {
        let key = format!("key-{number}");
        fail_orders(&app, sqlstate, message, false);
        let answer = app.order(&key, "pro-monthly", 1).await.expect_problem(503, "database-unavailable");
        assert_eq!(answer.header("Retry-After"), Some("1"), "{message}");

        execute(&app.database, "DROP TRIGGER fail ON orders");
        assert!(!app.order(&key, "pro-monthly", 1).await.expect(201).is_replay(), "{message}");
    }
}

#[tokio::test]
async fn a_transaction_that_a_distributed_server_aborts_runs_again() {
    let errors = [
        ("40P01", "canceling the transaction since it was involved in a distributed deadlock"),
        ("08006", "connection to the remote node citus-2:5432 failed with the following error: Connection refused"),
        ("XX000", "connection to the remote node citus-2:5432 failed"),
        ("XX000", "could not commit transaction for shard 102039 on at least one active node"),
    ];
    let app = App::start_with_pool(2).await;
    for (number, (sqlstate, message)) in errors.into_iter().enumerate() {
        fail_orders(&app, sqlstate, message, true);
        let answer = app.order(&format!("key-{number}"), "pro-monthly", 1).await.expect(201);
        assert!(!answer.is_replay(), "{message}");
    }
    assert_eq!(app.count("orders"), 4);
}
