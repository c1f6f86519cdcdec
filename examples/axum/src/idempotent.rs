//! The crate's requests, answers and errors in axum.

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use idempotency::{Answer, BODY_WITHIN, Error, Keyed, MAX_REQUEST_BODY};
use tokio::time::timeout;
use uuid::Uuid;

/// A request with a key, read in the order: size, time, media type, key, JSON, shape.
pub struct WithKey<T>(pub Keyed<T>);

impl<T: idempotency::Body, S: Send + Sync> FromRequest<S> for WithKey<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refused> {
        let (parts, body) = request.into_parts();
        let read = timeout(BODY_WITHIN, to_bytes(body, MAX_REQUEST_BODY)).await;
        // Any other error is a client that has left, so nobody reads the answer.
        let body = read.map_err(|_| Error::RequestTimeout)?.map_err(|_| Error::PayloadTooLarge)?;
        // If a middleware gives each request an id, take it from `parts.extensions`.
        Ok(Self(Keyed::from_http(&parts.headers, &body, Uuid::new_v4())?))
    }
}

/// What a keyed handler returns.
pub struct Answered(pub Answer);

impl IntoResponse for Answered {
    fn into_response(self) -> Response {
        self.0.into_http().map(Body::from)
    }
}

/// The crate's own problem document. Return your own error here if your errors have another format.
pub struct Refused(Error);

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        self.0.to_http().map(Body::from)
    }
}
