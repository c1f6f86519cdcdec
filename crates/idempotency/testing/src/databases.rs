// SPDX-License-Identifier: MIT OR Apache-2.0
//! Databases for tests: `idempotency_test_<run>_<number>`, each a copy of the run's template.
//!
//! No test waits to drop its database. Each run holds an advisory lock on its number while it lives, and drops the
//! databases of runs that have ended.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use diesel::connection::SimpleConnection;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Integer, Text};

use crate::connect;
use crate::server::server;

/// The class of the advisory locks: any number that nobody else uses in this database.
const LOCKS: i32 = 1_769_104_239;

static RUN: OnceLock<Run> = OnceLock::new();
static NEXT: AtomicU32 = AtomicU32::new(0);

/// The test process.
struct Run {
    number: i32,
    /// Holds the advisory lock, and creates the databases.
    admin: Mutex<PgConnection>,
}

/// Creates a database for one test: a copy of the template that `prepare` fills once.
#[must_use]
pub fn fresh_database(prepare: fn(&str)) -> String {
    let run = RUN.get_or_init(|| Run::begin(prepare));
    let name = format!("idempotency_test_{}_{}", run.number, NEXT.fetch_add(1, Ordering::Relaxed));
    let make = format!("CREATE DATABASE {name} TEMPLATE idempotency_test_{}_template", run.number);
    run.admin.lock().unwrap().batch_execute(&make).unwrap();
    server().url(&name)
}

impl Run {
    fn begin(prepare: fn(&str)) -> Self {
        let mut admin = connect(&server().own_url());
        drop_databases_of_ended_runs(&mut admin);
        let number = loop {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos().cast_signed();
            if lock(&mut admin, now) {
                break now;
            }
        };
        let template = format!("idempotency_test_{number}_template");
        admin.batch_execute(&format!("CREATE DATABASE {template} TEMPLATE template0")).unwrap();
        prepare(&server().url(&template));
        Self { number, admin: Mutex::new(admin) }
    }
}

fn lock(admin: &mut PgConnection, number: i32) -> bool {
    #[derive(QueryableByName)]
    struct Locked {
        #[diesel(sql_type = Bool)]
        locked: bool,
    }
    let lock = diesel::sql_query("SELECT pg_try_advisory_lock($1, $2) AS locked");
    lock.bind::<Integer, _>(LOCKS).bind::<Integer, _>(number).get_result::<Locked>(admin).unwrap().locked
}

fn drop_databases_of_ended_runs(admin: &mut PgConnection) {
    #[derive(QueryableByName)]
    struct Left {
        #[diesel(sql_type = Text)]
        name: String,
        #[diesel(sql_type = Integer)]
        number: i32,
    }
    let left: Vec<Left> = diesel::sql_query(
        "SELECT datname::text AS name, split_part(datname, '_', 3)::int AS number FROM pg_database \
         WHERE datname ~ '^idempotency_test_[0-9]+_(template|[0-9]+)$' ORDER BY 2",
    )
    .load(admin)
    .unwrap();
    for database in left {
        if lock(admin, database.number) {
            // Another run may have dropped it just now.
            admin.batch_execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", database.name)).unwrap();
            let unlock = format!("SELECT pg_advisory_unlock({LOCKS}, {})", database.number);
            admin.batch_execute(&unlock).unwrap();
        }
    }
}
