//! Brings the schema up to date. Several replicas may start at once.

use diesel::connection::{Connection, SimpleConnection};
use diesel::migration::{Migration, MigrationSource, MigrationVersion};
use diesel::pg::{Pg, PgConnection};
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::with_client_limits;

/// The migrations of the two crates and of this service. Diesel runs them in order of version.
#[derive(Clone, Copy, Debug)]
pub struct Migrations;

/// The migrations of this service.
const OWN: EmbeddedMigrations = embed_migrations!();

impl MigrationSource<Pg> for Migrations {
    fn migrations(&self) -> diesel::migration::Result<Vec<Box<dyn Migration<Pg>>>> {
        let mut all = Vec::new();
        for source in [idempotency::MIGRATIONS, external_calls::MIGRATIONS, OWN] {
            all.extend(MigrationSource::<Pg>::migrations(&source)?);
        }
        Ok(all)
    }
}

/// The advisory lock of a migration, so that replicas that start at once migrate one after the other. Any fixed number works.
/// This number spells `migrate` in ASCII.
const MIGRATION_LOCK: i64 = 0x006d_6967_7261_7465;

/// Why the schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// No connection.
    #[error("can't connect to the database: {0}")]
    Connect(#[from] diesel::ConnectionError),
    /// The database refused the lock.
    #[error("can't lock the schema: {0}")]
    Lock(#[from] diesel::result::Error),
    /// The database has a migration that this program does not know.
    #[error(
        "another version of this program made the database (its migration {0} is not known here): \
         empty the local cluster with `payments reset`, or name another database in DATABASE_URL"
    )]
    OtherVersion(String),
    /// A migration failed and was rolled back.
    #[error("a migration failed and was rolled back: {0}")]
    Migration(Box<dyn std::error::Error + Send + Sync>),
}

/// Runs the pending migrations and returns their names. Blocks. Several processes may run this at once.
///
/// # Errors
/// [`MigrateError`].
pub fn migrate(database_url: &str) -> Result<Vec<String>, MigrateError> {
    let url = with_client_limits(database_url);
    let mut turn = PgConnection::establish(&url)?;
    turn.transaction(|turn| {
        // No time limits: another process waits here for as long as a migration takes. This transaction holds only the lock.
        turn.batch_execute(
            "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0",
        )?;
        // On purpose: a transaction's lock on a second connection, and not a session's lock. Behind a pooler in transaction
        // mode, a session's lock would stay with the pooler's connection after this program has ended, and the next program
        // would wait for ever.
        diesel::sql_query("SELECT pg_advisory_xact_lock($1)").bind::<BigInt, _>(MIGRATION_LOCK).execute(turn)?;
        let mut conn = PgConnection::establish(&url)?;
        // If a migration waits for a lock, every request waits behind the migration. So the migration gives up as soon as a
        // request does.
        conn.batch_execute("SET lock_timeout = '3s'")?;
        refuse_other_versions(&mut conn)?;
        let done = conn.run_pending_migrations(Migrations).map_err(MigrateError::Migration)?;
        Ok(done.iter().map(ToString::to_string).collect())
    })
}

/// Refuses the database of another version. The operator decides what happens to such a database.
fn refuse_other_versions(conn: &mut PgConnection) -> Result<(), MigrateError> {
    let known = MigrationSource::<Pg>::migrations(&Migrations).map_err(MigrateError::Migration)?;
    let applied = conn.applied_migrations().map_err(MigrateError::Migration)?;
    let is_known =
        |version: &MigrationVersion<'_>| known.iter().any(|migration| migration.name().version() == *version);
    match applied.iter().find(|version| !is_known(version)) {
        Some(version) => Err(MigrateError::OtherVersion(version.to_string())),
        None => Ok(()),
    }
}
