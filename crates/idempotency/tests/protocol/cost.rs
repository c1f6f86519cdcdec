// SPDX-License-Identifier: MIT OR Apache-2.0
//! The cost of a replay: no lock, one round trip, and the cost does not grow with the table. `tests/wal` has the writes.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::Text;

use crate::support::{connect, fresh_database};
use crate::toy::{MAKE, ToyError, Workshop, make};
use idempotency::{Error, Policy, Reply, seconds};
use idempotency_testing::Proxy;

#[tokio::test]
async fn a_replay_takes_no_lock_on_the_record() {
    let workshop = Workshop::open();
    let first = workshop.make("key").await;
    let mut other = connect(&workshop.url);
    other.batch_execute("BEGIN; SELECT FROM idempotency_keys FOR UPDATE").unwrap();

    let retry = workshop.make("key").await;

    assert_eq!(retry.reply(), first.reply());
    other.batch_execute("ROLLBACK; BEGIN; SELECT FROM idempotency_keys FOR UPDATE NOWAIT").unwrap();
}

/// During each round trip, the request holds the key's lock. `I` is a round trip that ends outside a transaction: the
/// COMMIT, and the pool's own test of its connection.
#[tokio::test]
async fn a_request_takes_four_round_trips_beside_its_body_and_a_replay_one() {
    let proxy = Proxy::start();
    let workshop = Workshop::open_on(proxy.url(&fresh_database()), 1);
    let send = |key: String| workshop.send(MAKE, &key, "ball", |_, _| Ok(Reply::json(200, &"nothing to do")?));
    // The connection prepares the statements.
    for number in 0..2 {
        send(format!("before {number}")).await.unwrap();
    }
    assert!(send("before 0".to_owned()).await.unwrap().is_replay());

    proxy.round_trips();
    assert!(!send("key".to_owned()).await.unwrap().is_replay());
    let fresh = proxy.round_trips();
    assert!(send("key".to_owned()).await.unwrap().is_replay());
    let replay = proxy.round_trips();

    // BEGIN, claim, record; COMMIT.
    assert!(fresh.trim_start_matches('I') == "TTTI", "{fresh}");
    assert!(!replay.contains('T'), "{replay}");
    assert!(replay.len() + 3 <= fresh.len(), "{replay} beside {fresh}");
}

/// Another session has the key's lock, like another process whose body is running.
#[tokio::test]
async fn a_duplicate_of_another_processs_request_looks_a_few_times_a_second() {
    const PATIENT: Policy = Policy { wait: seconds(1), ..MAKE };
    let proxy = Proxy::start();
    let workshop = Workshop::open_on(proxy.url(&fresh_database()), 1);
    workshop.make("before").await;
    let lock = i64::from_be_bytes(*crate::locks::address("key").digest().first_chunk().unwrap());
    let mut other = connect(&workshop.url);
    other.batch_execute(&format!("SELECT pg_advisory_lock({lock})")).unwrap();

    proxy.round_trips();
    let duplicate = workshop.send(PATIENT, "key", "ball", make).await;

    assert!(matches!(duplicate, Err(ToyError::Idempotency(Error::InFlight))), "{duplicate:?}");
    // A look is BEGIN and the claim. The pauses are 20 ms, 40 ms .. 500 ms.
    let looks = proxy.round_trips().matches("TT").count();
    assert!((3..15).contains(&looks), "{looks} looks in a second");
}

#[derive(QueryableByName)]
struct Plan {
    #[diesel(sql_type = Text, column_name = "QUERY PLAN")]
    line: String,
}

/// Must fail if the list's index has no condition: then the planner reads all records of the account to find one key.
#[tokio::test]
async fn a_key_is_found_by_the_primary_key_before_the_table_is_analyzed() {
    let workshop = Workshop::open();
    let plan: Vec<Plan> = diesel::sql_query(
        "EXPLAIN SELECT * FROM idempotency_keys \
         WHERE account_id = '01990000-0000-7000-8000-000000000001' AND scope = 'account' AND key = 'key'",
    )
    .load(&mut connect(&workshop.url))
    .unwrap();

    let plan: Vec<_> = plan.iter().map(|plan| plan.line.as_str()).collect();
    assert!(plan[0].contains("idempotency_keys_pkey"), "{plan:#?}");
}
