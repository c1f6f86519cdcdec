//! Whether the process is up, and whether the process can serve.

use actix_web::HttpResponse;
use actix_web::web::Data;

use crate::db::{Db, Standing};
use crate::http::ApiError;
use crate::http::problems::{DATABASE_UNAVAILABLE, OVERLOADED};
use crate::process::shutdown::ShuttingDown;

/// `GET /health/live`: the process is up.
#[utoipa::path(get, path = "/health/live", operation_id = "getLive", tag = "Service", summary = "Is the process up?",
    description = "Answers 200 while the process runs.",
    responses((status = 200, body = Object, description = "The process is up")))]
pub async fn live() -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({"status": "live"}))
}

/// `GET /health/ready`: the database answers, takes writes, and has every migration. Readiness has its own connection, so
/// readiness waits behind no work.
///
/// # Errors
/// 503.
#[utoipa::path(get, path = "/health/ready", operation_id = "getReady", tag = "Service", summary = "Can the server take requests?",
    description = "The database answers, takes writes, and has every migration.",
    responses((status = 200, body = Object, description = "The server can take requests")))]
pub async fn ready(db: Data<Db>, draining: Data<ShuttingDown>) -> Result<HttpResponse, ApiError> {
    if draining.has_begun() {
        return Err(ApiError::new(&OVERLOADED, "this server is shutting down: send requests to another server"));
    }
    let detail = match db.standing().await {
        Standing::Ready => return Ok(HttpResponse::Ok().json(serde_json::json!({"status": "ready"}))),
        Standing::ReadOnly => "the database is read-only, for example a standby",
        Standing::MigrationsPending => "migrations are pending: run `payments migrate`",
        Standing::Away => "the database can't be reached, or does not answer",
    };
    Err(ApiError::new(&DATABASE_UNAVAILABLE, detail))
}
