//! Whether the process is up, and whether it can serve.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::Data;
use diesel::pg::PgConnection;
use diesel_migrations::MigrationHarness;
use tokio::time::timeout;

use crate::db::{Db, MIGRATIONS};
use crate::drain::Draining;
use crate::error::ApiError;
use crate::problems::{DATABASE_UNAVAILABLE, OVERLOADED};

/// How long the database has to answer. Connecting may take two seconds; orchestrators ask every few seconds, and a
/// database that takes longer serves nobody.
const READY_WITHIN: Duration = Duration::from_secs(3);

/// `GET /health/live`: the process is up.
#[utoipa::path(get, path = "/health/live", operation_id = "getLive", tag = "Service", summary = "Is the process up?",
    description = "It answers, so it is.", responses((status = 200, body = Object, description = "It is")))]
pub async fn live() -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({"status": "live"}))
}

/// `GET /health/ready`: the process can serve; the database answers, takes writes, and has every migration. It uses a
/// connection of its own, so it waits behind no work.
///
/// # Errors
/// 503.
#[utoipa::path(get, path = "/health/ready", operation_id = "getReady", tag = "Service", summary = "Can it serve?",
    description = "The database answers, takes writes, and has every migration.",
    responses((status = 200, body = Object, description = "It can")))]
pub async fn ready(db: Data<Db>, draining: Data<Draining>) -> Result<HttpResponse, ApiError> {
    if draining.has_begun() {
        return Err(ApiError::new(&OVERLOADED, "this server is ending: send requests to another one"));
    }
    let unavailable = |detail: &str| ApiError::new(&DATABASE_UNAVAILABLE, detail);
    match timeout(READY_WITHIN, db.look(look)).await {
        Err(_) => Err(unavailable("the database does not answer")),
        Ok(Err(error)) if only_reads(&error) => Err(unavailable("the database only reads, as a standby does")),
        Ok(Err(error)) => Err(error),
        Ok(Ok(Migrations::Pending)) => Err(unavailable("migrations are pending: run `payments migrate`")),
        Ok(Ok(Migrations::Done)) => Ok(HttpResponse::Ok().json(serde_json::json!({"status": "ready"}))),
    }
}

enum Migrations {
    Done,
    Pending,
}

/// On purpose: the look at the migrations makes their table if there is none, so it fails while the server only reads. As
/// after any such failure, the pool closes the connection: the next look is made over a fresh one.
fn look(conn: &mut PgConnection) -> Result<Migrations, ApiError> {
    match conn.has_pending_migration(MIGRATIONS) {
        Ok(true) => Ok(Migrations::Pending),
        Ok(false) => Ok(Migrations::Done),
        Err(error) => {
            Err(error.downcast::<diesel::result::Error>().map_or_else(ApiError::internal, |error| (*error).into()))
        }
    }
}

fn only_reads(error: &ApiError) -> bool {
    use diesel::result::{DatabaseErrorKind, Error};
    matches!(error.database_error(), Some(Error::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, _)))
}
