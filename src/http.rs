//! Every route on one screen, and the frame around them: request ids, problem documents, the log.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Handler, Server, ServiceRequest, ServiceResponse};
use actix_web::guard::{Any, Get, Head};
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, HeaderName, HeaderValue};
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, Data, ServiceConfig, resource};
use actix_web::{App, Error, FromRequest, HttpMessage, HttpResponse, HttpServer, Responder, Route};
use diesel::connection::SimpleConnection;
use diesel_migrations::MigrationHarness;
use uuid::Uuid;

use crate::auth::{Account, KnownKeys, authenticate};
use crate::charges::refunds;
use crate::charges::settle::Settler;
use crate::db::{Db, MIGRATIONS};
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::idempotency::{self, Instance, Origin};
use crate::problems::{self, DATABASE_UNAVAILABLE, METHOD_NOT_ALLOWED, NOT_FOUND, Problem};
use crate::{charges, entitlements, events, idempotency_keys, orders, policies, products};

/// The id of this request, which the log has too.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// How long requests under way may go on after SIGTERM, in seconds. A handler answers within its budget of 6 s; beyond
/// twice that the client is gone.
const DRAIN_SECONDS: u64 = 12;

/// How long a client may take to send its request's head: slower ones hold a connection for nothing.
const HEAD_WITHIN: Duration = Duration::from_secs(5);

fn routes(config: &mut ServiceConfig) {
    #[cfg(feature = "bench")]
    config.service(resource("/bench/orders").route(post(orders::create_without_key)));
    config
        .service(resource("/v1/products").route(get(products::list)))
        .service(resource("/v1/products/{sku}").route(get(products::get)).route(put(products::put)))
        .service(resource("/v1/orders").route(get(orders::list)).route(post(orders::create)))
        .service(resource("/v1/orders/{id}").route(get(orders::get)))
        .service(resource("/v1/orders/{id}/cancel").route(post(orders::cancel)))
        .service(resource("/v1/charges").route(get(charges::list)).route(post(charges::create)))
        .service(resource("/v1/charges/{id}").route(get(charges::get)))
        .service(resource("/v1/charges/{id}/refunds").route(get(refunds::list)).route(post(refunds::create)))
        .service(resource("/v1/refunds/{id}").route(get(refunds::get)))
        .service(resource("/v1/entitlements").route(get(entitlements::list)).route(post(entitlements::grant)))
        .service(resource("/v1/entitlements/{id}").route(get(entitlements::get)))
        .service(resource("/v1/entitlements/{id}/consume").route(post(entitlements::consume)))
        .service(resource("/v1/entitlements/{id}/revoke").route(post(entitlements::revoke)))
        .service(resource("/v1/events").route(get(events::list)))
        .service(resource("/v1/idempotency-keys").route(get(idempotency_keys::list)))
        .service(resource("/v1/policies").route(get(policies::list)))
        .service(resource("/health/live").route(open(live)))
        .service(resource("/health/ready").route(open(ready)))
        .service(resource("/problems/{slug}").route(open(problems::page)))
        .default_service(web::to(nothing_here));
}

/// What the handlers stand on.
#[derive(Clone)]
pub struct State {
    /// The database.
    pub db: Db,
    /// The API keys found lately.
    pub known_keys: KnownKeys,
    /// Where money is moved.
    pub gateway: Arc<dyn Gateway>,
    /// Finishes what the gateway left open.
    pub settler: Settler,
}

/// Serves on the listener until it is stopped; SIGTERM and SIGINT let requests under way end.
///
/// # Errors
/// The operating system's, where the listener can't be used.
pub fn serve(listener: TcpListener, state: State) -> std::io::Result<Server> {
    let server = HttpServer::new(move || {
        App::new()
            .app_data(Data::new(state.db.clone()))
            .app_data(Data::new(state.known_keys.clone()))
            .app_data(Data::from(Arc::clone(&state.gateway)))
            .app_data(Data::new(state.settler.clone()))
            .wrap(from_fn(frame))
            .configure(routes)
    });
    Ok(server.client_request_timeout(HEAD_WITHIN).shutdown_timeout(DRAIN_SECONDS).listen(listener)?.run())
}

fn get<F, Args>(handler: F) -> Route
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    open(handler).wrap(from_fn(authenticate))
}

fn put<F, Args>(handler: F) -> Route
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    web::put().to(handler).wrap(from_fn(authenticate))
}

fn post<F, Args>(handler: F) -> Route
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    web::post().to(handler).wrap(from_fn(authenticate))
}

/// GET and HEAD without authentication.
fn open<F, Args>(handler: F) -> Route
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    web::route().guard(Any(Get()).or(Head())).to(handler)
}

async fn nothing_here() -> Result<HttpResponse, ApiError> {
    Err(ApiError::new(&NOT_FOUND, "there is nothing at this path"))
}

/// The process is up.
async fn live() -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({"status": "live"}))
}

/// The process can serve: the database answers and has every migration.
async fn ready(db: Data<Db>) -> Result<HttpResponse, ApiError> {
    let pending = db
        .run(|conn| {
            conn.batch_execute("SELECT 1")?;
            conn.has_pending_migration(MIGRATIONS).map_err(ApiError::internal)
        })
        .await?;
    if pending {
        return Err(ApiError::new(&DATABASE_UNAVAILABLE, "migrations are pending: run `payments migrate`"));
    }
    Ok(HttpResponse::Ok().json(serde_json::json!({"status": "ready"})))
}

/// Around every request: an id, a problem document for what is not a success, and a line in the log.
async fn frame(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let id = Uuid::new_v4();
    let started = Instant::now();
    request.extensions_mut().insert(Instance(id));
    let mut response = with_problem(next.call(request).await?.map_into_boxed_body(), id);
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
    log_line(&response, id, started.elapsed());
    Ok(response)
}

/// Makes the problem document of an error, ours or the framework's.
fn with_problem(response: ServiceResponse<BoxBody>, id: Uuid) -> ServiceResponse<BoxBody> {
    let Some(error) = problem_of(response.response()) else { return response };
    let allow = response.headers().get(ALLOW).cloned();
    let outcome = Outcome(error.problem());
    let mut response = response.into_response(error.response(id, allow));
    response.response_mut().extensions_mut().insert(outcome);
    response
}

fn problem_of(response: &HttpResponse) -> Option<ApiError> {
    let Some(error) = response.error() else {
        // The router's own answer for a path without this method has no error in it.
        let is_unrouted = response.status() == StatusCode::METHOD_NOT_ALLOWED;
        return is_unrouted.then(|| ApiError::new(&METHOD_NOT_ALLOWED, "the path exists, but not with this method"));
    };
    if let Some(error) = error.as_error::<ApiError>() {
        return Some(error.clone());
    }
    if let Some(error) = error.as_error::<idempotency::Error>() {
        return Some(error.clone().into());
    }
    Some(match response.status() {
        StatusCode::NOT_FOUND => ApiError::new(&NOT_FOUND, "there is nothing at this path"),
        status if status.is_client_error() => ApiError::new(&problems::MALFORMED_REQUEST, error.to_string()),
        _ => ApiError::internal(error),
    })
}

/// The problem that a response answers with, in its extensions, for the log.
#[derive(Clone, Copy)]
struct Outcome(&'static Problem);

fn log_line(response: &ServiceResponse<BoxBody>, id: Uuid, took: Duration) {
    let request = response.request();
    let account =
        request.extensions().get::<Account>().map_or_else(|| "-".to_owned(), |account| account.id.to_string());
    let extensions = response.response().extensions();
    let key = match (extensions.get::<Origin>(), extensions.get::<Outcome>()) {
        (Some(Origin::Fresh), _) => "fresh",
        (Some(Origin::Recovered), _) => "recovered",
        (Some(Origin::Replayed), _) => "replayed",
        (None, Some(Outcome(problem))) => problem.slug,
        (None, None) => "-",
    };
    log::info!(
        "request={id} account={account} route=\"{} {}\" status={} key={key} ms={:.1}",
        request.method(),
        request.match_pattern().as_deref().unwrap_or("-"),
        response.status().as_u16(),
        took.as_secs_f64() * 1000.0,
    );
}
