//! What a client sends: typed bodies and path ids.
//!
//! Guarantees: the answer names all faults of a body at once, up to twenty, each with a pointer. [`object!`] reads the
//! body.

use std::future::{Future, Ready, ready};
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use serde_json::json;
use utoipa::IntoParams;
use uuid::Uuid;

use crate::http::ApiError;
use checked_body::object;
use idempotency::{Body, parse_body, read_body};

/// A typed body of a request without a key, for example of a PUT, which is idempotent by itself.
pub struct Json<T>(pub T);

impl<T: Body + 'static> FromRequest for Json<T> {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            let (_, body) = parse_body(&read_body(&request, payload).await?)?;
            Ok(Self(body))
        })
    }
}

object! {
    /// The body of a request whose path says everything: no body, or `{}`.
    #[example = json!({})]
    pub struct NoBody {}
}

/// The id in the path. If the id is not a UUID, the answer is 404.
#[derive(Clone, Copy, IntoParams)]
#[into_params(names("id"), parameter_in = Path)]
pub struct Id(pub Uuid);

impl FromRequest for Id {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let id = request.match_info().get("id").and_then(|id| Uuid::try_parse(id).ok());
        ready(id.map(Self).ok_or_else(|| ApiError::not_found("resource")))
    }
}
