// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the pool against a real server, and against servers that cut the connection or never answer.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod epochs;
mod faults;
mod limits;

use std::fmt;
use std::sync::Arc;

use fair_pool::{Pool, Settings};
use idempotency::{Error, Failure, Reply};
use uuid::Uuid;

fn pool(database_url: &str, size: u32) -> Pool {
    let (application_name, is_migrated) = ("fair-pool-tests", |_: &mut _| Ok(true));
    Pool::start(Settings { database_url, application_name, size, is_migrated, observer: None }).unwrap()
}

fn fresh_database() -> String {
    idempotency_testing::fresh_database(|url| {
        idempotency_testing::execute(
            url,
            "CREATE TABLE items (id int PRIMARY KEY, name text); INSERT INTO items VALUES (1, 'a')",
        );
    })
}

/// The error type of a service.
#[derive(Clone, Debug)]
enum Failed {
    Refused(Error),
    Database(Arc<diesel::result::Error>),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<diesel::result::Error> for Failed {
    fn from(error: diesel::result::Error) -> Self {
        Self::Database(Arc::new(error))
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => error.fmt(formatter),
            Self::Database(error) => error.fmt(formatter),
        }
    }
}

impl Failure for Failed {
    fn is_final(&self) -> bool {
        false
    }

    fn database_error(&self) -> Option<&diesel::result::Error> {
        match self {
            Self::Refused(_) => None,
            Self::Database(error) => Some(error),
        }
    }

    fn reply(&self, _: Uuid) -> Reply {
        unreachable!("no failure of these tests is final")
    }
}
