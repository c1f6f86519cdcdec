//! The demo: two accounts with a small catalogue, and what its stage (`tools/stage`) needs from this API: replicas that
//! can be killed, an endpoint that charges twice, and the routes of the stage.
//!
//! Without the demo, none of it exists.

mod accounts;
mod naive;
mod replica;

use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use demo_stage::{Books, Config, Stage};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use self::accounts::{ACME, ACME_KEY};
pub use self::accounts::{keys, reset, seed};
pub use self::naive::prepare;
pub use self::replica::serve as serve_replica;
use crate::db::with_client_limits;
use crate::http::ApiError;
use crate::http::endpoint::{self, Endpoint};
use crate::http::problems::OVERLOADED;
use crate::process::failpoint::POINTS;
use crate::server::pages::source_text;
use crate::shop::charges::CREATE_CHARGE;
use idempotency::{Error, read_body};
use stripe_gateway::currency::from_gateway;
use stripe_gateway::{Key, install_tls};

/// The stage of the server at this URL.
///
/// # Errors
/// The gateway's URL is malformed, or the HTTP client can't be set up.
pub fn stage(
    server_url: String,
    database_url: &str,
    gateway_url: &str,
    key: &Key,
    ending: CancellationToken,
) -> Result<Stage, Box<dyn std::error::Error>> {
    install_tls();
    Ok(Stage::new(Config {
        server_url,
        database_url: with_client_limits(database_url),
        books: Books::new(gateway_url, key.bearer(), from_gateway)?,
        account_id: ACME,
        api_key: ACME_KEY,
        charge: CREATE_CHARGE,
        naive_path: naive::PATH,
        points: &POINTS,
        is_ending: Box::new(move || ending.is_cancelled()),
    }))
}

/// What the demo's server has besides the API.
#[must_use]
pub fn endpoints(stage: &Stage) -> Vec<Endpoint> {
    let stage = stage.clone();
    let begins = move |request, payload| begin(stage.clone(), request, payload);
    vec![endpoint::undescribed("GET", "/demo/stage", about), endpoint::undescribed("POST", "/demo/runs", begins)]
}

/// `GET /demo/stage`: where a replica can be killed, and where the code of each step is.
async fn about() -> HttpResponse {
    let about = json!({"points": POINTS, "code": demo_stage::code_places(source_text)});
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(about)
}

/// `POST /demo/runs`: begins a run, and streams its events. The run ends when the client leaves.
///
/// # Errors
/// 422 for wrong settings. 503 if three runs are playing.
async fn begin(stage: Stage, request: HttpRequest, payload: Payload) -> Result<HttpResponse, ApiError> {
    let body = read_body(&request, payload.into_inner()).await?;
    let events = stage.begin(&body).await.map_err(|error| match error {
        Error::Overloaded => ApiError::new(&OVERLOADED, "the stage is full: the runs on it take some seconds"),
        other => other.into(),
    })?;
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-store"))
        // nginx would buffer the stream until its end.
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(events))
}
