// SPDX-License-Identifier: MIT OR Apache-2.0
//! If one connection turns out to be useless, all connections that are as old are closed.

use std::sync::{Arc, Barrier};

use diesel::prelude::*;
use fair_pool::Pool;
use idempotency::Database as _;
use idempotency_testing::execute;
use uuid::Uuid;

use crate::{Failed, fresh_database, pool};

diesel::table! {
    items (id) {
        id -> Integer,
        name -> Text,
    }
}

const CONNECTIONS: u32 = 8;

fn names(conn: &mut PgConnection) -> Result<Vec<String>, Failed> {
    Ok(items::table.select(items::name).load(conn)?)
}

/// Reads once over each connection, all at the same time. Each read has its own account, so that no read waits.
async fn read_over_each(pool: &Pool) -> Vec<bool> {
    let meeting = Arc::new(Barrier::new(CONNECTIONS as usize));
    let reads = (1..=CONNECTIONS).map(|account| {
        let meeting = Arc::clone(&meeting);
        pool.run(Uuid::from_u128(account.into()), move |conn| {
            meeting.wait();
            names(conn)
        })
    });
    futures_util::future::join_all(reads).await.iter().map(Result::is_ok).collect()
}

#[tokio::test]
async fn one_stale_plan_closes_every_connection_of_the_same_age() {
    let url = fresh_database();
    let pool = pool(&url, CONNECTIONS);
    assert_eq!(read_over_each(&pool).await, [true; CONNECTIONS as usize]);
    execute(&url, "ALTER TABLE items ALTER name TYPE varchar(300)");

    assert!(pool.read(Uuid::nil(), names).await.is_ok(), "a read runs again");

    assert_eq!(read_over_each(&pool).await, [true; CONNECTIONS as usize]);
}
