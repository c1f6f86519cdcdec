//! Brings the schema up to date, however many replicas start at once.

use diesel::connection::{Connection, SimpleConnection};
use diesel::migration::{MigrationSource, MigrationVersion};
use diesel::pg::{Pg, PgConnection};
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::with_client_limits;

/// The schema, in the order it is built.
pub const MIGRATIONS: EmbeddedMigrations = embed_migrations!();

/// Serializes migrations of replicas that start at once. Any fixed number does; this one spells `migrate` in ASCII.
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
    /// The database has a migration that this program does not.
    #[error(
        "another version of this program made the database (its migration {0} is not known here): \
         empty the local cluster with `payments reset`, or name another database in DATABASE_URL"
    )]
    OtherVersion(String),
    /// A migration failed; it was rolled back.
    #[error("a migration failed and was rolled back: {0}")]
    Migration(Box<dyn std::error::Error + Send + Sync>),
}

/// Runs the migrations that are pending and returns their names. Blocks; safe to run in several processes at once.
///
/// # Errors
/// [`MigrateError`].
pub fn migrate(database_url: &str) -> Result<Vec<String>, MigrateError> {
    let url = with_client_limits(database_url);
    let mut turn = PgConnection::establish(&url)?;
    turn.transaction(|turn| {
        // The others may wait for as long as a migration takes, and so may this transaction, which holds nothing but the lock.
        turn.batch_execute(
            "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0",
        )?;
        // On purpose a lock of a transaction, on a connection of its own: behind a pooler in transaction mode, a session's
        // lock stays with the pooler's connection when the program has left, and the next program waits for ever.
        diesel::sql_query("SELECT pg_advisory_xact_lock($1)").bind::<BigInt, _>(MIGRATION_LOCK).execute(turn)?;
        let mut conn = PgConnection::establish(&url)?;
        // A migration that waits for a lock makes every request wait behind it: it gives up as soon as requests do.
        conn.batch_execute("SET lock_timeout = '3s'")?;
        refuse_other_versions(&mut conn)?;
        let done = conn.run_pending_migrations(MIGRATIONS).map_err(MigrateError::Migration)?;
        Ok(done.iter().map(ToString::to_string).collect())
    })
}

/// Nothing is dropped or guessed: who runs an older or a newer version's database decides what becomes of it.
fn refuse_other_versions(conn: &mut PgConnection) -> Result<(), MigrateError> {
    let known = MigrationSource::<Pg>::migrations(&MIGRATIONS).map_err(MigrateError::Migration)?;
    let applied = conn.applied_migrations().map_err(MigrateError::Migration)?;
    let is_known =
        |version: &MigrationVersion<'_>| known.iter().any(|migration| migration.name().version() == *version);
    match applied.iter().find(|version| !is_known(version)) {
        Some(version) => Err(MigrateError::OtherVersion(version.to_string())),
        None => Ok(()),
    }
}
