//! Why the sandbox refuses a request, in Stripe's envelope. A refusal stores nothing and changes nothing.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, ResponseError};
use serde_json::{Value, json};

/// The answer is `{"error": {"type", "code", "message", "param"}}`.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// 400: a parameter is missing, unknown or wrong, or the object's state forbids the call.
    #[error("{message}")]
    Invalid { message: String, code: Option<&'static str>, param: Option<String> },
    /// 401.
    #[error("Invalid API Key provided. The sandbox accepts every key that begins with sk_test_.")]
    Unauthorized,
    /// 404.
    #[error("No such {kind}: '{id}'")]
    NotFound { kind: &'static str, id: String },
    /// 404.
    #[error("Unrecognized request URL. The sandbox has PaymentIntents and refunds.")]
    NoRoute,
    /// 409.
    #[error("There is currently another in-progress request using this Idempotency Key.")]
    Overlap,
    /// 400.
    #[error("Keys for idempotent requests can only be used with the same parameters they were first used with.")]
    KeyReused,
    /// 503.
    #[error("no connection to the sandbox's database is free")]
    Busy,
    /// 500. The log has the cause.
    #[error("the sandbox's database failed")]
    Database(#[source] diesel::result::Error),
    /// 503.
    #[error("the sandbox is stopping")]
    Stopping,
}

impl Refusal {
    pub fn parameter(param: &str, code: Option<&'static str>, message: impl Into<String>) -> Self {
        Self::Invalid { message: message.into(), code, param: Some(param.to_owned()) }
    }

    /// Stripe names no parameter when the state of an object forbids the call.
    pub fn state(code: Option<&'static str>, message: impl Into<String>) -> Self {
        Self::Invalid { message: message.into(), code, param: None }
    }

    pub fn missing(param: &str) -> Self {
        Self::parameter(param, Some("parameter_missing"), format!("Missing required param: {param}."))
    }

    pub fn envelope(&self) -> Value {
        let (kind, code, param) = match self {
            Self::Invalid { code, param, .. } => ("invalid_request_error", *code, param.as_deref()),
            // Stripe names the parameter of the path `/v1/payment_intents/{intent}`.
            Self::NotFound { kind: "payment_intent", .. } => {
                ("invalid_request_error", Some("resource_missing"), Some("intent"))
            }
            Self::NotFound { kind, .. } => ("invalid_request_error", Some("resource_missing"), Some(*kind)),
            Self::Unauthorized | Self::NoRoute => ("invalid_request_error", None, None),
            Self::Overlap => ("invalid_request_error", Some("idempotency_key_in_use"), None),
            Self::KeyReused => ("idempotency_error", None, None),
            Self::Busy | Self::Database(_) | Self::Stopping => ("api_error", None, None),
        };
        let mut error = json!({"type": kind, "message": self.to_string()});
        if let Some(code) = code {
            error["code"] = code.into();
            error["doc_url"] = format!("https://docs.stripe.com/error-codes/{}", code.replace('_', "-")).into();
        }
        if let Some(param) = param {
            error["param"] = param.into();
        }
        json!({"error": error})
    }
}

impl From<diesel::result::Error> for Refusal {
    fn from(error: diesel::result::Error) -> Self {
        Refusal::Database(error)
    }
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Invalid { .. } | Self::KeyReused => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::NotFound { .. } | Self::NoRoute => StatusCode::NOT_FOUND,
            Self::Overlap => StatusCode::CONFLICT,
            Self::Database(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Busy | Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn error_response(&self) -> HttpResponse {
        if let Refusal::Database(cause) = self {
            log::error!("sandbox: the database failed: {cause}");
        }
        let mut response = HttpResponse::build(self.status_code());
        if matches!(self, Self::Overlap | Self::Busy | Self::Database(_) | Self::Stopping) {
            // Nothing is stored, so another attempt may succeed.
            response.insert_header(("Stripe-Should-Retry", "true"));
        }
        response.json(self.envelope())
    }
}
