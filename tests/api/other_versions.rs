//! A later release has migrated the database: this release warns, applies what is missing, and serves, so that a
//! roll-back works.

use idempotent_payments::db::migrate;

use crate::app::ACME;
use crate::binary::{Replica, payments};
use crate::support::{count, execute, fresh_database};

/// A migration of a later release.
const LATER: &str = "20990101000001";

fn database_of_a_later_release() -> String {
    let url = fresh_database();
    execute(
        &url,
        &format!(
            "INSERT INTO __diesel_schema_migrations (version) VALUES ('{LATER}'); ALTER TABLE orders ADD later integer"
        ),
    );
    url
}

#[tokio::test]
async fn a_server_warns_of_a_later_release_by_name_and_serves() {
    let url = database_of_a_later_release();

    let replica = Replica::start_logging(&url, "http://127.0.0.1:1", &[]);

    let warning = replica.logged("later release").await;
    assert!(warning.contains("WARN") && warning.contains(LATER), "{warning}");
    replica.get("/health/ready").await.expect(200);
    replica.post_as(ACME, "/v1/orders", "k", crate::app::one_item("sticker", 1)).await.expect(201);
}

#[test]
fn commands_run_on_the_database_of_a_later_release() {
    let url = database_of_a_later_release();
    for command in [&["migrate"][..], &["account", "list"], &["backlog"]] {
        let ended = payments(&url, command);
        assert!(ended.status.success(), "{command:?}: {ended:?}");
    }
}

#[test]
fn a_missing_migration_is_applied_beside_an_unknown_one() {
    let url = fresh_database();
    let known = count(&url, "__diesel_schema_migrations");
    // The order of versions does not matter: all of this release's are missing.
    execute(
        &url,
        &format!(
            "DROP SCHEMA public CASCADE; CREATE SCHEMA public; \
             CREATE TABLE __diesel_schema_migrations (version varchar(50) PRIMARY KEY, run_on timestamp NOT NULL DEFAULT now()); \
             INSERT INTO __diesel_schema_migrations (version) VALUES ('{LATER}')"
        ),
    );

    assert_eq!(migrate(&url).unwrap().len(), usize::try_from(known).unwrap());
    assert_eq!(migrate(&url).unwrap(), Vec::<String>::new());
    assert_eq!(count(&url, "__diesel_schema_migrations"), known + 1);
}
