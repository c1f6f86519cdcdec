//! The update from 0.1.0: the calls that it left open have another form, so it must finish them first.

use diesel::migration::MigrationSource;
use diesel::pg::{Pg, PgConnection};
use diesel_migrations::MigrationHarness;
use idempotent_payments::db::{Migrations, migrate};

use crate::support::{cluster, connect, count, execute};

/// A database as 0.1.0 created it.
fn database_of_0_1_0(name: &str) -> String {
    cluster().create_database(name).unwrap();
    let url = cluster().url(name);
    let conn: &mut PgConnection = &mut connect(&url);
    // Creates the table of migrations.
    assert!(conn.applied_migrations().unwrap().is_empty());
    let mut all = MigrationSource::<Pg>::migrations(&Migrations).unwrap();
    all.sort_by_key(|migration| migration.name().version().as_owned());
    for migration in all.iter().filter(|migration| migration.name().to_string().starts_with("2026-11-25")) {
        conn.run_migration(migration.as_ref()).unwrap();
    }
    url
}

#[test]
fn the_migration_stops_with_one_line_while_a_call_of_0_1_0_is_open() {
    let url = database_of_0_1_0("of_0_1_0");
    execute(
        &url,
        "INSERT INTO settlements (account_id, reference, scope, key, request_id, call, location, next_attempt_at) \
         VALUES (gen_random_uuid(), 'r', 's', 'k', gen_random_uuid(), '{}', '/v1/charges/1', now())",
    );

    let stopped = migrate(&url).unwrap_err().to_string();

    assert!(stopped.contains("payments settle") && stopped.contains("0.1.0"), "{stopped}");
    // 0.1.0 can still run: nothing was renamed.
    assert_eq!(count(&url, "settlements WHERE settled_at IS NULL"), 1);
    execute(&url, "UPDATE settlements SET settled_at = now(), next_attempt_at = NULL");
    assert!(!migrate(&url).unwrap().is_empty());
    assert_eq!(count(&url, "external_calls WHERE resolved_at IS NOT NULL"), 1);
}
