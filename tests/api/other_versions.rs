//! The program does not touch a database that another version of the program made. One line says what to do.

use std::process::Command;

use idempotent_payments::db::{MigrateError, migrate};

use crate::support::{cluster, count, execute};

/// Makes a database of another version: this program does not know its only migration.
fn database_of_another_version(name: &str) -> String {
    cluster().create_database(name).unwrap();
    let url = cluster().url(name);
    execute(
        &url,
        "CREATE TABLE __diesel_schema_migrations (version varchar(50) PRIMARY KEY, run_on timestamp NOT NULL DEFAULT now()); \
         INSERT INTO __diesel_schema_migrations (version) VALUES ('20240101000001')",
    );
    url
}

fn tables(url: &str) -> i64 {
    count(url, "pg_tables WHERE schemaname = 'public'")
}

#[test]
fn a_database_of_another_version_is_refused_and_stays_as_it_is() {
    let url = database_of_another_version("of_another_version");

    let refused = migrate(&url).unwrap_err();

    assert!(matches!(&refused, MigrateError::OtherVersion(version) if version == "20240101000001"), "{refused:?}");
    assert_eq!((tables(&url), count(&url, "__diesel_schema_migrations")), (1, 1));
    // The program accepts an empty database, and a database that this version made.
    execute(&url, "DELETE FROM __diesel_schema_migrations");
    assert!(migrate(&url).unwrap().len() > 1);
    assert_eq!(migrate(&url).unwrap(), Vec::<String>::new());
}

#[test]
fn the_command_refuses_in_one_line_that_names_the_migration_and_the_remedy() {
    let url = database_of_another_version("of_another_version_too");

    for command in ["migrate", "serve"] {
        let ended = Command::new(env!("CARGO_BIN_EXE_payments"))
            .arg(command)
            .env("DATABASE_URL", &url)
            .env("BIND", "127.0.0.1:0")
            .env("GATEWAY_URL", "http://127.0.0.1:1")
            .env("GATEWAY_KEY", "sk_test_sandbox")
            .env("RUST_LOG", "off")
            .output()
            .unwrap();
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
        for part in ["20240101000001", "another version", "DATABASE_URL"] {
            assert!(said.contains(part), "{part} is missing in {said}");
        }
    }
    assert_eq!(tables(&url), 1);
}
