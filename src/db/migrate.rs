//! Brings the schema up to date, however many replicas start at once.

use diesel::connection::Connection;
use diesel::pg::PgConnection;
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
    /// A migration failed; it was rolled back.
    #[error("a migration failed and was rolled back: {0}")]
    Migration(Box<dyn std::error::Error + Send + Sync>),
}

/// Runs the migrations that are pending and returns their names. Blocks; safe to run in several processes at once.
///
/// # Errors
/// [`MigrateError`].
pub fn migrate(database_url: &str) -> Result<Vec<String>, MigrateError> {
    let mut conn = PgConnection::establish(&with_client_limits(database_url))?;
    diesel::sql_query("SELECT pg_advisory_lock($1)").bind::<BigInt, _>(MIGRATION_LOCK).execute(&mut conn)?;
    let done = conn.run_pending_migrations(MIGRATIONS).map_err(MigrateError::Migration)?;
    Ok(done.iter().map(ToString::to_string).collect())
}
