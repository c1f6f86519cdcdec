//! Brings the schema up to date. Several replicas may start at once.

use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::{Connection, SimpleConnection};
use diesel::migration::{Migration, MigrationSource};
use diesel::pg::{Pg, PgConnection};
use diesel::prelude::*;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use idempotency::CONNECTION_LIMITS;

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

diesel::table! {
    /// Diesel's own table. It is read here because Diesel's `has_pending_migration` would create it.
    __diesel_schema_migrations (version) {
        version -> Text,
    }
}

/// The advisory lock of a migration, so that replicas that start at once migrate one after the other. Any fixed number
/// works. This number spells `migrate` in ASCII.
const MIGRATION_LOCK: i64 = 0x006d_6967_7261_7465;

/// How long a start waits while another process migrates. After that the process ends, and an orchestrator starts it
/// again.
const WAIT_FOR_OTHERS: Duration = Duration::from_secs(30);

/// The pause between two attempts to take the lock. Most migrations take less.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Why the schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// No connection.
    #[error("can't connect to the database: {0}")]
    Connect(#[from] diesel::ConnectionError),
    /// The database refused the lock.
    #[error("can't lock the schema: {0}")]
    Lock(#[from] diesel::result::Error),
    /// Another process did not end its migrations in time.
    #[error("another process has been migrating this database for {} s: try again when it has ended", WAIT_FOR_OTHERS.as_secs())]
    Busy,
    /// A migration failed and was rolled back.
    #[error("a migration failed and was rolled back: {0}")]
    Migration(Box<dyn std::error::Error + Send + Sync>),
}

/// Runs the pending migrations and returns their names. Blocks. Several processes may run this at once. Applied
/// migrations that this program does not know are a later release's: a warning names them, and the schema stays as it
/// is.
///
/// # Errors
/// [`MigrateError`].
#[expect(clippy::disallowed_methods, reason = "before the server starts, there is nothing else to do")]
pub fn migrate(database_url: &str) -> Result<Vec<String>, MigrateError> {
    let url = with_client_limits(database_url);
    let mut turn = PgConnection::establish(&url)?;
    turn.batch_execute(CONNECTION_LIMITS)?;
    let began = Instant::now();
    let mut told = false;
    loop {
        if let Some(done) = turn.transaction(|turn| migrate_if_first(turn, &url))? {
            return Ok(done);
        }
        if began.elapsed() >= WAIT_FOR_OTHERS {
            return Err(MigrateError::Busy);
        }
        if !told {
            log::info!("another process migrates this database: waiting for up to {} s", WAIT_FOR_OTHERS.as_secs());
            told = true;
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Migrates on a second connection while this transaction holds the lock. None if another process holds it.
///
/// The lock is the transaction's: behind a pooler in transaction mode, a session's lock would stay with the pooler's
/// connection after this program has ended. It is tried, never waited for in the database, so that a process that waits
/// holds none of the pooler's connections.
fn migrate_if_first(turn: &mut PgConnection, url: &str) -> Result<Option<Vec<String>>, MigrateError> {
    define_sql_function! {
        fn pg_try_advisory_xact_lock(number: diesel::sql_types::BigInt) -> diesel::sql_types::Bool;
    }
    if !diesel::select(pg_try_advisory_xact_lock(MIGRATION_LOCK)).get_result::<bool>(turn)? {
        return Ok(None);
    }
    // This transaction is idle while the migrations run.
    turn.batch_execute("SET LOCAL idle_in_transaction_session_timeout = 0")?;
    let mut conn = PgConnection::establish(url)?;
    // If a migration waits for a lock, every request waits behind the migration. So the migration waits for a lock no
    // longer than a request does. Its own statements may take long.
    conn.batch_execute(CONNECTION_LIMITS)?;
    conn.batch_execute("SET statement_timeout = 0")?;
    let done = conn.run_pending_migrations(Migrations).map_err(MigrateError::Migration)?;
    let done = done.iter().map(ToString::to_string).collect();
    let unknown = unknown_migrations(&mut conn)?;
    if !unknown.is_empty() {
        log::warn!("a later release has migrated this database: this release does not know {}", unknown.join(", "));
    }
    Ok(Some(done))
}

/// The applied migrations that this program does not know, oldest first.
///
/// # Errors
/// [`MigrateError`].
pub fn unknown_migrations(conn: &mut PgConnection) -> Result<Vec<String>, MigrateError> {
    let known = known().map_err(MigrateError::Migration)?;
    let mut unknown = applied(conn)?;
    unknown.retain(|version| !known.contains(version));
    unknown.sort();
    Ok(unknown)
}

/// Whether the database has every migration that this program knows.
pub(super) fn is_migrated(conn: &mut PgConnection) -> QueryResult<bool> {
    let applied = match applied(conn) {
        Err(diesel::result::Error::DatabaseError(_, cause)) if cause.message().contains("does not exist") => vec![],
        applied => applied?,
    };
    let known = known().map_err(diesel::result::Error::QueryBuilderError)?;
    Ok(known.iter().all(|version| applied.contains(version)))
}

/// The versions of the migrations that this program knows.
fn known() -> diesel::migration::Result<Vec<String>> {
    let all = MigrationSource::<Pg>::migrations(&Migrations)?;
    Ok(all.iter().map(|migration| migration.name().version().to_string()).collect())
}

/// The versions of the migrations that the database has.
fn applied(conn: &mut PgConnection) -> QueryResult<Vec<String>> {
    __diesel_schema_migrations::table.select(__diesel_schema_migrations::version).load(conn)
}
