//! Whether the process is up, and whether the process can serve.

use actix_web::HttpResponse;
use actix_web::web::Data;

use crate::db::{Db, Standing};
use crate::http::ApiError;
use crate::http::endpoint::{Endpoint, endpoint};
use crate::http::problems::{DATABASE_UNAVAILABLE, OVERLOADED};
use crate::process::shutdown::ShuttingDown;

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
    let detail = match db.standing().await {
        Standing::Ready => return Ok(HttpResponse::Ok().json(serde_json::json!({"status": "ready"}))),
        Standing::ReadOnly => "the database is read-only, for example a standby",
        Standing::MigrationsPending => "migrations are pending: run `payments migrate`",
        Standing::Away => "the database can't be reached, or does not answer",
    };
    Err(ApiError::new(&DATABASE_UNAVAILABLE, detail))
}
