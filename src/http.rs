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
use actix_web::{App, Error, FromRequest, HttpMessage, HttpResponse, HttpServer, Resource, Responder, Route};
use diesel::connection::SimpleConnection;
use diesel_migrations::MigrationHarness;
use uuid::Uuid;

use crate::auth::{Account, KnownKeys, authenticate};
use crate::charges::settle::Settler;
use crate::charges::{reads, refunds};
use crate::db::{Db, MIGRATIONS};
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::idempotency::{self, Instance, Origin};
use crate::metrics::Metrics;
use crate::problems::{
    self, DATABASE_UNAVAILABLE, KEY_REUSED, METHOD_NOT_ALLOWED, NOT_FOUND, Problem, REQUEST_IN_FLIGHT,
};
use crate::{charges, entitlements, events, idempotency_keys, metrics, openapi, orders, pages, policies, products};

/// The id of this request, which the log has too.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// How long requests under way may go on after SIGTERM, in seconds. A handler answers within its budget of 6 s; beyond
/// twice that the client is gone.
const DRAIN_SECONDS: u64 = 12;

/// How long a client may take to send its request's head: slower ones hold a connection for nothing.
const HEAD_WITHIN: Duration = Duration::from_secs(5);

/// Every route, but for one that only `bench` builds have.
fn screen() -> Vec<Path> {
    vec![
        path("/v1/products").get(products::list),
        path("/v1/products/{sku}").get(products::get).put(products::put),
        path("/v1/orders").get(orders::list).post(orders::create),
        path("/v1/orders/{id}").get(orders::get),
        path("/v1/orders/{id}/cancel").post(orders::cancel),
        path("/v1/charges").get(reads::charges_of_account).post(charges::create),
        path("/v1/charges/{id}").get(reads::charge),
        path("/v1/charges/{id}/refunds").get(reads::refunds_of_charge).post(refunds::create),
        path("/v1/refunds/{id}").get(reads::refund),
        path("/v1/entitlements").get(entitlements::list).post(entitlements::grant),
        path("/v1/entitlements/{id}").get(entitlements::get),
        path("/v1/entitlements/{id}/consume").post(entitlements::consume),
        path("/v1/entitlements/{id}/revoke").post(entitlements::revoke),
        path("/v1/events").get(events::list),
        path("/v1/idempotency-keys").get(idempotency_keys::list),
        path("/v1/policies").get(policies::list),
        path("/").open(pages::home),
        path("/docs").open(pages::docs),
        path("/docs/{file}").open(pages::docs_file),
        path("/openapi.json").open(openapi::json),
        path("/metrics").open(metrics::page),
        path("/health/live").open(live),
        path("/health/ready").open(ready),
        path("/problems/{slug}").open(problems::page),
    ]
}

fn routes(config: &mut ServiceConfig) {
    for path in screen() {
        config.service(path.resource);
    }
    #[cfg(feature = "bench")]
    config.service(path("/bench/orders").post(orders::create_without_key).resource);
    config.default_service(web::to(nothing_here));
}

/// What the router routes, as (method, path template): what the documentation must speak of.
#[must_use]
pub fn routed() -> Vec<(&'static str, &'static str)> {
    let methods_of = |path: Path| path.methods.into_iter().map(move |method| (method, path.template));
    screen().into_iter().flat_map(methods_of).collect()
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

/// Serves on the listener until it is stopped. SIGTERM lets requests under way end; SIGINT ends at once, for whoever types it
/// waits.
///
/// # Errors
/// The operating system's, where the listener can't be used.
pub fn serve(listener: TcpListener, state: State) -> std::io::Result<Server> {
    let metrics = Metrics::new().map_err(std::io::Error::other)?;
    let server = HttpServer::new(move || {
        App::new()
            .app_data(Data::new(state.db.clone()))
            .app_data(Data::new(state.known_keys.clone()))
            .app_data(Data::from(Arc::clone(&state.gateway)))
            .app_data(Data::new(state.settler.clone()))
            .app_data(Data::new(metrics.clone()))
            .wrap(from_fn(frame))
            .configure(routes)
    });
    Ok(server.client_request_timeout(HEAD_WITHIN).shutdown_timeout(DRAIN_SECONDS).listen(listener)?.run())
}

/// A path of the screen, with what may be done there.
struct Path {
    template: &'static str,
    methods: Vec<&'static str>,
    resource: Resource,
}

fn path(template: &'static str) -> Path {
    Path { template, methods: Vec::new(), resource: resource(template) }
}

impl Path {
    /// GET and HEAD.
    fn get<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.with("GET", reading().to(handler).wrap(from_fn(authenticate)))
    }

    /// GET and HEAD without authentication.
    fn open<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.with("GET", reading().to(handler))
    }

    fn put<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.with("PUT", web::put().to(handler).wrap(from_fn(authenticate)))
    }

    fn post<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.with("POST", web::post().to(handler).wrap(from_fn(authenticate)))
    }

    fn with(mut self, method: &'static str, route: Route) -> Self {
        self.methods.push(method);
        Self { resource: self.resource.route(route), ..self }
    }
}

fn reading() -> Route {
    web::route().guard(Any(Get()).or(Head()))
}

async fn nothing_here() -> Result<HttpResponse, ApiError> {
    Err(ApiError::new(&NOT_FOUND, "there is nothing at this path"))
}

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
pub async fn ready(db: Data<Db>) -> Result<HttpResponse, ApiError> {
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
    tell(&response, id, started.elapsed());
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

/// What the request's key met, in one word for the log and the metrics.
fn key_outcome(response: &HttpResponse) -> Option<&'static str> {
    let extensions = response.extensions();
    match (extensions.get::<Origin>(), extensions.get::<Outcome>()) {
        (Some(Origin::Fresh), _) => Some("fresh"),
        (Some(Origin::Recovered), _) => Some("recovered"),
        (Some(Origin::Replayed), _) => Some("replayed"),
        (None, Some(Outcome(problem))) if problem.slug == REQUEST_IN_FLIGHT.slug => Some("in_flight"),
        (None, Some(Outcome(problem))) if problem.slug == KEY_REUSED.slug => Some("reused"),
        (None, _) => None,
    }
}

fn tell(response: &ServiceResponse<BoxBody>, id: Uuid, took: Duration) {
    let request = response.request();
    let account =
        request.extensions().get::<Account>().map_or_else(|| "-".to_owned(), |account| account.id.to_string());
    let pattern = request.match_pattern();
    let (method, route) = (request.method().as_str(), pattern.as_deref().unwrap_or("-"));
    let status = response.status().as_u16();
    let key = key_outcome(response.response());
    let problem = response.response().extensions().get::<Outcome>().map_or("-", |outcome| outcome.0.slug);
    if let Some(metrics) = request.app_data::<Data<Metrics>>() {
        metrics.answered(method, route, status, key, took);
    }
    // Asked every few seconds by machines, these would drown the rest.
    let asked_by_machines = route.starts_with("/health/") || route == "/metrics";
    log::log!(
        if asked_by_machines { log::Level::Debug } else { log::Level::Info },
        "request={id} account={account} route=\"{method} {route}\" status={status} key={} problem={problem} ms={:.1}",
        key.unwrap_or("-"),
        took.as_secs_f64() * 1000.0,
    );
}
