//! Why the sandbox refuses a call. A refusal stores nothing and changes nothing.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, ResponseError};
use serde_json::json;

/// The answer is `{"error": <the reason>}`.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// 400.
    #[error("a call needs one Idempotency-Key header, with 1 to 255 visible ASCII characters")]
    Key,
    /// 409.
    #[error("a call of this key is under way")]
    Overlap,
    /// 422.
    #[error("this key was sent with another call")]
    KeyReused,
    /// 422.
    #[error("{0}")]
    NotAccepted(String),
    /// 503.
    #[error("no connection to the database is free")]
    Busy,
    /// 500. The log has the cause.
    #[error("the database failed")]
    Database(#[source] diesel::result::Error),
    /// 503.
    #[error("the sandbox is stopping")]
    Stopping,
}

impl From<diesel::result::Error> for Refusal {
    fn from(error: diesel::result::Error) -> Self {
        Refusal::Database(error)
    }
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        match self {
            Refusal::Key => StatusCode::BAD_REQUEST,
            Refusal::Overlap => StatusCode::CONFLICT,
            Refusal::KeyReused | Refusal::NotAccepted(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::Database(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Refusal::Busy | Refusal::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn error_response(&self) -> HttpResponse {
        if let Refusal::Database(cause) = self {
            log::error!("sandbox: the database failed: {cause}");
        }
        HttpResponse::build(self.status_code()).json(json!({ "error": self.to_string() }))
    }
}
