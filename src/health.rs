//! Whether the process is up, and whether it can serve.

use actix_web::HttpResponse;
use actix_web::web::Data;
use diesel::connection::SimpleConnection;
use diesel_migrations::MigrationHarness;

use crate::db::{Db, MIGRATIONS, NOBODY};
use crate::drain::Draining;
use crate::error::ApiError;
use crate::problems::{DATABASE_UNAVAILABLE, OVERLOADED};

/// `GET /health/live`: the process is up.
#[utoipa::path(get, path = "/health/live", operation_id = "getLive", tag = "Service", summary = "Is the process up?",
    description = "It answers, so it is.", responses((status = 200, body = Object, description = "It is")))]
pub async fn live() -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({"status": "live"}))
}

/// `GET /health/ready`: the process can serve; the database answers and has every migration.
///
/// # Errors
/// 503.
#[utoipa::path(get, path = "/health/ready", operation_id = "getReady", tag = "Service", summary = "Can it serve?",
    description = "The database answers, and has every migration.",
    responses((status = 200, body = Object, description = "It can")))]
pub async fn ready(db: Data<Db>, draining: Data<Draining>) -> Result<HttpResponse, ApiError> {
    if draining.has_begun() {
        return Err(ApiError::new(&OVERLOADED, "this server is ending: send requests to another one"));
    }
    let pending = db
        .run(NOBODY, |conn| {
            conn.batch_execute("SELECT 1")?;
            conn.has_pending_migration(MIGRATIONS).map_err(ApiError::internal)
        })
        .await?;
    if pending {
        return Err(ApiError::new(&DATABASE_UNAVAILABLE, "migrations are pending: run `payments migrate`"));
    }
    Ok(HttpResponse::Ok().json(serde_json::json!({"status": "ready"})))
}
