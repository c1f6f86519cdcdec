//! If one connection turns out to be useless, all connections of its age are closed.

use std::sync::{Arc, Barrier};

use diesel::prelude::*;
use idempotent_payments::db::Db;
use idempotent_payments::http::ApiError;
use uuid::Uuid;

use crate::support::{execute, fresh_database};
use idempotency::Database as _;

diesel::table! {
    orders (id) {
        id -> Uuid,
        customer -> Text,
    }
}

const CONNECTIONS: u32 = 8;

fn customers(conn: &mut PgConnection) -> Result<Vec<String>, ApiError> {
    Ok(orders::table.select(orders::customer).load(conn)?)
}

/// Reads once over each connection, all at the same time. Each read has its own account, so that no read waits.
async fn read_over_each(db: &Db) -> Vec<bool> {
    let meeting = Arc::new(Barrier::new(CONNECTIONS as usize));
    let reads = (1..=CONNECTIONS).map(|account| {
        let meeting = Arc::clone(&meeting);
        db.run(Uuid::from_u128(account.into()), move |conn| {
            meeting.wait();
            customers(conn)
        })
    });
    futures_util::future::join_all(reads).await.iter().map(Result::is_ok).collect()
}

#[tokio::test]
async fn one_stale_plan_closes_every_connection_of_the_same_age() {
    let url = fresh_database();
    let db = Db::start(&url, CONNECTIONS).unwrap();
    assert_eq!(read_over_each(&db).await, [true; CONNECTIONS as usize]);
    execute(&url, "ALTER TABLE orders ALTER customer TYPE varchar(300)");

    assert!(db.read(Uuid::nil(), customers).await.is_ok(), "a read runs again");

    assert_eq!(read_over_each(&db).await, [true; CONNECTIONS as usize]);
}
