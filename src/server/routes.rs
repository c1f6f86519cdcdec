//! The router, made of the endpoints that each feature lists.

use std::collections::BTreeMap;
use std::future::ready;

use actix_web::http::Method;
use actix_web::http::header::ALLOW;
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig, resource};
use actix_web::{HttpResponse, Route};
use utoipa::openapi::path::ParameterIn;

use super::deadline::deadline;
use super::no_query::no_query;
use crate::http::auth::authenticate;
use crate::http::endpoint::{Api, Endpoint};
use crate::server::{health, idempotency_keys, metrics, openapi, pages, policies};
#[cfg(feature = "bench")]
use crate::shop::orders;
use crate::shop::{self, webhooks};

/// The endpoints of the API, as the OpenAPI document describes them.
#[must_use]
pub fn api() -> Api {
    let features = [
        shop::endpoints(),
        idempotency_keys::endpoints(),
        policies::endpoints(),
        health::endpoints(),
        metrics::endpoints(),
        openapi::endpoints(),
    ];
    Api { endpoints: features.into_iter().flatten().collect() }
}

/// The endpoints of the API, and the pages for people.
pub(super) fn all(demo: bool) -> Api {
    let mut api = api();
    api.endpoints.extend(pages::endpoints(demo));
    api
}

/// Registers every endpoint. Each path answers OPTIONS, too, and 405 with `Allow` for other methods.
pub(super) fn routes(config: &mut ServiceConfig, api: &Api) {
    let mut paths: BTreeMap<&str, Vec<&Endpoint>> = BTreeMap::new();
    for endpoint in &api.endpoints {
        paths.entry(&endpoint.path).or_default().push(endpoint);
    }
    for (path, endpoints) in paths {
        let mut resource = resource(path);
        let mut allow = Vec::new();
        for endpoint in endpoints {
            resource = resource.route(checked(endpoint));
            allow.push(endpoint.method);
        }
        config.service(resource.route(options(allow)));
    }
    // Only Stripe calls it, so the OpenAPI document does not describe it.
    config.service(
        resource("/webhooks/stripe")
            .route(web::post().to(webhooks::stripe).wrap(from_fn(no_query)))
            .route(options(vec!["POST"])),
    );
    #[cfg(feature = "bench")]
    config.service(
        resource("/bench/orders").route(web::post().to(orders::create_without_key).wrap(from_fn(authenticate))),
    );
    config.default_service(web::to(pages::nothing_here));
}

/// The endpoint behind the checks that come before its handler.
fn checked(endpoint: &Endpoint) -> Route {
    match endpoint.route() {
        route if !endpoint.is_secured() => route,
        // The handler reads the parameters, and refuses unknown ones.
        route if endpoint.takes(&ParameterIn::Query) => route.wrap(from_fn(authenticate)).wrap(from_fn(deadline)),
        route => route.wrap(from_fn(no_query)).wrap(from_fn(authenticate)).wrap(from_fn(deadline)),
    }
}

/// Answers an OPTIONS request that is no browser's preflight.
fn options(mut allow: Vec<&'static str>) -> Route {
    allow.sort_unstable();
    if allow.contains(&"GET") {
        allow.push("HEAD");
    }
    allow.push("OPTIONS");
    let allow = allow.join(", ");
    let answer = move || ready(HttpResponse::NoContent().insert_header((ALLOW, allow.as_str())).finish());
    web::method(Method::OPTIONS).to(answer)
}
