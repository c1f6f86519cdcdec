//! Whether the process is up, and whether the process can serve.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::Data;
use diesel::pg::PgConnection;
use diesel_migrations::MigrationHarness;
use tokio::time::timeout;

use crate::db::{Db, Migrations};
use crate::http::ApiError;
use crate::http::endpoint::{Endpoint, endpoint};
use crate::http::problems::{DATABASE_UNAVAILABLE, OVERLOADED};
use crate::process::shutdown::ShuttingDown;

/// How long the database may take to answer. A connection may take two seconds. Orchestrators ask every few seconds, and a
/// slower database serves nobody.
const READY_WITHIN: Duration = Duration::from_secs(3);

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![endpoint(__path_live, live), endpoint(__path_ready, ready).decides([&DATABASE_UNAVAILABLE, &OVERLOADED])]
}

/// `GET /health/live`: the process is up.
#[utoipa::path(get, path = "/health/live", operation_id = "getLive", tag = "Service", summary = "Check liveness",
    description = "Answers 200 for as long as the process runs.",
    responses((status = 200, body = Object, description = "The process runs")))]
pub async fn live() -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({"status": "live"}))
}

/// `GET /health/ready`: the database answers, takes writes, and has every migration. Readiness has its own connection, so
/// readiness waits behind no work.
///
/// # Errors
/// 503.
#[utoipa::path(get, path = "/health/ready", operation_id = "getReady", tag = "Service", summary = "Check readiness",
    description = "Answers 200 if the database answers, accepts writes and has every migration. After SIGTERM, answers 503.",
    responses((status = 200, body = Object, description = "The server accepts requests")))]
pub async fn ready(db: Data<Db>, draining: Data<ShuttingDown>) -> Result<HttpResponse, ApiError> {
    if draining.has_begun() {
        return Err(ApiError::new(&OVERLOADED, "this server is shutting down: send requests to another server"));
    }
    let unavailable = |detail: &str| ApiError::new(&DATABASE_UNAVAILABLE, detail);
    match timeout(READY_WITHIN, db.look(look)).await {
        Err(_) => Err(unavailable("the database does not answer")),
        Ok(Err(error)) if only_reads(&error) => Err(unavailable("the database is read-only, for example a standby")),
        Ok(Err(error)) => Err(error),
        Ok(Ok(Schema::Pending)) => Err(unavailable("migrations are pending: run `payments migrate`")),
        Ok(Ok(Schema::Done)) => Ok(HttpResponse::Ok().json(serde_json::json!({"status": "ready"}))),
    }
}

enum Schema {
    Done,
    Pending,
}

/// On purpose: Diesel's look at the migrations runs `CREATE TABLE IF NOT EXISTS`, so that the look fails while the database
/// is read-only. After this failure the pool closes the connection, and the next look gets a fresh connection.
fn look(conn: &mut PgConnection) -> Result<Schema, ApiError> {
    match conn.has_pending_migration(Migrations) {
        Ok(true) => Ok(Schema::Pending),
        Ok(false) => Ok(Schema::Done),
        Err(error) => {
            Err(error.downcast::<diesel::result::Error>().map_or_else(ApiError::internal, |error| (*error).into()))
        }
    }
}

fn only_reads(error: &ApiError) -> bool {
    use diesel::result::{DatabaseErrorKind, Error};
    matches!(error.database_error(), Some(Error::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, _)))
}
