//! Whether the process is up, and whether it can serve.

use actix_web::HttpResponse;
use actix_web::web::Data;
use tokio_util::sync::CancellationToken;

use crate::db::{Cause, Db};
use crate::http::ApiError;
use crate::http::endpoint::{Endpoint, endpoint};
use crate::http::problems::{DATABASE_UNAVAILABLE, OVERLOADED};

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

/// `GET /health/ready`: the database answers, takes writes, and has every migration. Readiness has its own connection,
/// so it never waits behind work.
///
/// # Errors
/// 503.
#[utoipa::path(get, path = "/health/ready", operation_id = "getReady", tag = "Service", summary = "Check readiness",
    description = "Answers 200 if the database answers, accepts writes and has every migration, and 503 if not, or after SIGTERM. `cause` says why. `failing` lists the causes for which requests get 503 at present, also in a 200.",
    responses((status = 200, body = Object, description = "The server accepts requests")))]
pub async fn ready(db: Data<Db>, draining: Data<CancellationToken>) -> Result<HttpResponse, ApiError> {
    if draining.is_cancelled() {
        return Err(ApiError::new(&OVERLOADED, "this server is shutting down: send requests to another server"));
    }
    let cause = match db.pool().check().await {
        Ok(()) => return Ok(HttpResponse::Ok().json(serde_json::json!({"status": "ready", "failing": failing(&db)}))),
        Err(cause) => cause,
    };
    let detail = match cause {
        Cause::ReadOnly => "the database is read-only, for example a standby".to_owned(),
        Cause::MigrationsPending => "migrations are pending: run `payments migrate`".to_owned(),
        other => other.detail().to_owned(),
    };
    let error = ApiError::new(&DATABASE_UNAVAILABLE, detail);
    Err(error.with("cause", cause.name()).with("failing", failing(&db)))
}

/// The causes that requests meet at present, for a person. They don't affect readiness: a row that blocks some requests
/// makes no replica unready.
fn failing(db: &Db) -> Vec<&'static str> {
    db.pool().outages().on().into_iter().map(Cause::name).collect()
}
