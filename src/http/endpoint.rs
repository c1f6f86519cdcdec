//! An endpoint: a handler with its route, declared once. The router and the OpenAPI document both come from the
//! handler's `#[utoipa::path]`. Each feature lists its endpoints, and `server/routes.rs` lists the features.

use std::any::type_name;

use actix_web::dev::Handler;
use actix_web::guard::{Any, Get, Head};
use actix_web::{FromRequest, Responder, Route, web};
use utoipa::__dev::{SchemaReferences, Tags};
use utoipa::openapi::path::{HttpMethod, Operation, Parameter, ParameterIn};
use utoipa::openapi::{RefOr, Schema};

use crate::http::problems::Problem;
use idempotency::Policy;

/// A handler, its route, and what the documentation says about it.
pub struct Endpoint {
    /// `GET`, `POST` or `PUT`. A GET endpoint answers HEAD too.
    pub method: &'static str,
    /// The path template.
    pub path: String,
    /// What a retry does, if the endpoint takes an idempotency key.
    pub policy: Option<Policy>,
    /// The problems that the handler's own work decides on. The others follow from the route and the policy.
    pub decides: Vec<&'static Problem>,
    /// The description for the OpenAPI document. Pages for people have none.
    pub described: Option<Described>,
    route: Box<dyn Fn() -> Route + Send + Sync>,
}

/// An operation of the OpenAPI document, with the schemas that it refers to.
pub struct Described {
    /// The operation.
    pub operation: Operation,
    /// The schemas by name.
    pub schemas: Vec<(String, RefOr<Schema>)>,
}

/// An endpoint of the API: `endpoint(__path_create, create)`. `#[utoipa::path]` on `create` generates the type
/// `__path_create`.
///
/// # Panics
/// In a debug build, if the two names belong to different handlers.
pub fn endpoint<P, F, Args>(_: P, handler: F) -> Endpoint
where
    P: utoipa::Path + SchemaReferences + Tags<'static>,
    F: Handler<Args> + Send + Sync,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    debug_assert_eq!(type_name::<P>().replace("__path_", ""), type_name::<F>());
    let method = match P::methods().first() {
        Some(HttpMethod::Post) => "POST",
        Some(HttpMethod::Put) => "PUT",
        _ => "GET",
    };
    let mut schemas = Vec::new();
    P::schemas(&mut schemas);
    let mut operation = P::operation();
    operation.tags = Some(P::tags().into_iter().map(str::to_owned).collect());
    Endpoint { described: Some(Described { operation, schemas }), ..undescribed(method, &P::path(), handler) }
}

/// An endpoint that is not part of the API, and not in its document: a page for people, a page's asset, or a POST from
/// the gateway or the demo.
pub fn undescribed<F, Args>(method: &'static str, path: &str, handler: F) -> Endpoint
where
    F: Handler<Args> + Send + Sync,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    let route: fn() -> Route = match method {
        "POST" => web::post,
        "PUT" => web::put,
        _ => || web::route().guard(Any(Get()).or(Head())),
    };
    Endpoint {
        method,
        path: path.to_owned(),
        policy: None,
        decides: Vec::new(),
        described: None,
        route: Box::new(move || route().to(handler.clone())),
    }
}

impl Endpoint {
    /// Declares that the handler runs this policy.
    #[must_use]
    pub fn keyed(self, policy: Policy) -> Self {
        Self { policy: Some(policy), ..self }
    }

    /// The problems that the handler's own work decides on.
    #[must_use]
    pub fn decides<const N: usize>(self, problems: [&'static Problem; N]) -> Self {
        Self { decides: problems.to_vec(), ..self }
    }

    /// For example `POST /v1/orders`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// Whether a caller needs an API key.
    #[must_use]
    pub fn is_secured(&self) -> bool {
        self.path.starts_with("/v1/")
    }

    /// Whether the handler takes parameters of this kind.
    #[must_use]
    pub fn takes(&self, place: &ParameterIn) -> bool {
        let parameters = self.described.as_ref().and_then(|described| described.operation.parameters.as_ref());
        let is_there = |parameter: &RefOr<Parameter>| matches!(parameter, RefOr::T(one) if one.parameter_in == *place);
        parameters.is_some_and(|parameters| parameters.iter().any(is_there))
    }

    /// Whether the handler takes a body.
    #[must_use]
    pub fn takes_body(&self) -> bool {
        self.described.as_ref().is_some_and(|described| described.operation.request_body.is_some())
    }

    /// The handler behind its method, for the router.
    #[must_use]
    pub fn route(&self) -> Route {
        (self.route)()
    }
}

/// All endpoints, for handlers that describe the API itself.
pub struct Api {
    /// In the order of the features.
    pub endpoints: Vec<Endpoint>,
}

impl Api {
    /// Every policy, in the order of the endpoints.
    pub fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.endpoints.iter().filter_map(|endpoint| endpoint.policy.as_ref())
    }
}
