//! Every route on one screen.

use std::future::ready;

use actix_web::dev::Handler;
use actix_web::guard::{Any, Get, Head};
use actix_web::http::Method;
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig, resource};
use actix_web::{FromRequest, HttpResponse, Resource, Responder, Route};

use super::methods::{no_query, options};
use crate::http::ApiError;
use crate::http::auth::authenticate;
use crate::http::problems::NOT_FOUND;
use crate::server::{health, idempotency_keys, metrics, openapi, pages, policies};
use crate::shop::{charges, entitlements, events, orders, payments, products, refunds, webhooks};

/// Every route that a client calls.
fn screen() -> Vec<Path> {
    vec![
        path("/v1/products").list(products::list),
        path("/v1/products/{sku}").get(products::get).put(products::put),
        path("/v1/orders").list(orders::list).post(orders::create),
        path("/v1/orders/{id}").get(orders::get),
        path("/v1/orders/{id}/cancel").post(orders::cancel),
        path("/v1/charges").list(charges::reads::list).post(payments::create_charge),
        path("/v1/charges/{id}").get(charges::reads::get),
        path("/v1/charges/{id}/refunds").list(refunds::reads::list).post(payments::create_refund),
        path("/v1/refunds/{id}").get(refunds::reads::get),
        path("/v1/entitlements").list(entitlements::reads::list).post(entitlements::grant),
        path("/v1/entitlements/{id}").get(entitlements::reads::get),
        path("/v1/entitlements/{id}/consume").post(entitlements::consume),
        path("/v1/entitlements/{id}/revoke").post(entitlements::revoke),
        path("/v1/events").list(events::list),
        path("/v1/idempotency-keys").list(idempotency_keys::list),
        path("/v1/policies").get(policies::list),
        path("/").open(pages::home),
        path("/docs").open(pages::docs),
        path("/docs/{file}").open(pages::docs_file),
        path("/openapi.json").open(openapi::json),
        path("/metrics").open(metrics::page),
        path("/health/live").open(health::live),
        path("/health/ready").open(health::ready),
        path("/problems").open(pages::problem_list),
        path("/problems/{slug}").open(pages::problem),
        path("/policies").open(pages::policies),
    ]
}

pub(super) fn routes(config: &mut ServiceConfig) {
    for path in screen() {
        config.service(path.with_options());
    }
    // Only Stripe calls it, so the OpenAPI document does not describe it.
    config.service(path("/webhooks/stripe").signed(webhooks::stripe).with_options());
    #[cfg(feature = "bench")]
    config.service(path("/bench/orders").post(orders::create_without_key).resource);
    config.default_service(web::to(nothing_here));
}

/// Every route as (method, path template). The documentation must describe every route.
#[must_use]
pub fn routed() -> Vec<(&'static str, &'static str)> {
    let methods_of = |path: Path| path.methods.into_iter().map(move |method| (method, path.template));
    screen().into_iter().flat_map(methods_of).collect()
}

/// A path with its methods.
struct Path {
    template: &'static str,
    methods: Vec<&'static str>,
    resource: Resource,
}

fn path(template: &'static str) -> Path {
    Path { template, methods: Vec::new(), resource: resource(template) }
}

impl Path {
    /// GET and HEAD of a list. The handler reads the query parameters.
    fn list<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.with("GET", reading().to(handler).wrap(from_fn(authenticate)))
    }

    /// GET and HEAD. The server refuses query parameters.
    fn get<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.with("GET", reading().to(handler).wrap(from_fn(no_query)).wrap(from_fn(authenticate)))
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

    /// POST without an API key: the handler checks the sender's signature.
    fn signed<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.with("POST", web::post().to(handler).wrap(from_fn(no_query)))
    }

    fn put<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.with("PUT", web::put().to(handler).wrap(from_fn(no_query)).wrap(from_fn(authenticate)))
    }

    fn post<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.with("POST", web::post().to(handler).wrap(from_fn(no_query)).wrap(from_fn(authenticate)))
    }

    /// The resource, with an answer to OPTIONS.
    fn with_options(self) -> Resource {
        let methods = self.methods;
        self.resource.route(web::method(Method::OPTIONS).to(move || ready(options(&methods))))
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
