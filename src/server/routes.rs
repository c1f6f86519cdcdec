//! The router, built from the endpoints that each feature lists.

use std::collections::BTreeMap;
use std::future::ready;

use actix_web::http::Method;
use actix_web::http::header::ALLOW;
use actix_web::middleware::{Compress, from_fn};
use actix_web::web::{self, ServiceConfig, resource};
use actix_web::{HttpResponse, Route};
use utoipa::openapi::path::ParameterIn;

use super::checks::check;
use super::request_log::asked_by_machines;
use crate::http::endpoint::{Api, Endpoint, undescribed};
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

/// The endpoints of the API, and those that the OpenAPI document does not describe: what only Stripe calls, and the
/// pages for people.
pub(super) fn all(demo: bool) -> Api {
    let mut api = api();
    api.endpoints.push(undescribed("POST", "/webhooks/stripe", webhooks::stripe));
    api.endpoints.extend(pages::endpoints(demo));
    #[cfg(feature = "bench")]
    api.endpoints.push(undescribed("POST", "/v1/bench/orders", orders::create_without_key));
    api
}

/// Registers every endpoint. Each path also answers OPTIONS, and other methods with 405 and `Allow`.
pub(super) fn routes(config: &mut ServiceConfig, api: &Api) {
    let mut paths: BTreeMap<&str, Vec<&Endpoint>> = BTreeMap::new();
    for endpoint in &api.endpoints {
        paths.entry(&endpoint.path).or_default().push(endpoint);
    }
    for (path, endpoints) in paths {
        let methods = endpoints.iter().map(|endpoint| endpoint.method).collect();
        let path = endpoints.into_iter().fold(resource(path), |path, endpoint| path.route(wrapped(endpoint)));
        config.service(path.route(options(methods)));
    }
    config.default_service(web::to(pages::nothing_here));
}

/// The endpoint behind the checks that precede its handler. Pages are compressed: one script of `/docs` has 1.5 MB.
fn wrapped(endpoint: &Endpoint) -> Route {
    let route = endpoint.route();
    let (secured, reads_query) = (endpoint.is_secured(), endpoint.takes(&ParameterIn::Query));
    if secured || endpoint.method == "POST" {
        return route.wrap(from_fn(move |request, next| check(request, next, secured, reads_query)));
    }
    if asked_by_machines(&endpoint.path) { route } else { route.wrap(Compress::default()) }
}

/// Answers an OPTIONS request that is not a browser's preflight.
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
