//! [`ApiError`], the only error type of the API, and the answer that the client gets.
//!
//! Every answer that is not a success is an RFC 9457 problem document from this file. The document never shows the
//! cause, which the log has under the request id.

use std::fmt;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::web::Bytes;
use actix_web::{HttpResponse, ResponseError};
use diesel::{OptionalExtension as _, QueryResult};
use serde::Serialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::http::problems::{self, Kind, Problem, Retry};
use fair_pool::Cause;
use idempotency::{self, Failure, Fault, FieldError, Reply};

const PROBLEM_JSON: &str = "application/problem+json";

/// The member `retry` of a problem as a header, for a client that doesn't read the bodies of errors.
pub const RETRY_ADVICE: HeaderName = HeaderName::from_static("retry-advice");

/// `Retry-After` in seconds. Most transient problems pass within one second, and a client that waits less only polls.
const RETRY_AFTER_SECONDS: &str = "1";

/// One occurrence of a problem.
#[derive(Clone, Debug)]
pub struct ApiError {
    /// The problem's entry in `problems.rs`.
    pub problem: &'static Problem,
    detail: String,
    extensions: Map<String, Value>,
    instance: Option<String>,
    /// The database error. It decides whether the transaction runs again.
    database: Option<Arc<diesel::result::Error>>,
    /// Why the database did not serve the request, if that is the problem.
    pub cause: Option<Cause>,
}

impl ApiError {
    /// `detail` tells a person what is particular to this occurrence.
    #[must_use]
    pub fn new(problem: &'static Problem, detail: impl Into<String>) -> Self {
        Self { problem, detail: detail.into(), extensions: Map::new(), instance: None, database: None, cause: None }
    }

    /// Adds an extension member.
    #[must_use]
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.extensions.insert(member.to_owned(), value.into());
        self
    }

    /// Sets `instance` to the URL of a resource. Without this call, `instance` is the request's id.
    #[must_use]
    pub fn at(mut self, instance: String) -> Self {
        self.instance = Some(instance);
        self
    }

    /// 404.
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Self::new(&problems::NOT_FOUND, format!("there is no such {what}"))
    }

    /// 422 with one pointer for each fault.
    #[must_use]
    pub fn invalid(errors: &[FieldError]) -> Self {
        let detail = match errors {
            [only] => format!("{}: {}", only.pointer, only.detail),
            several => format!("{} members of the request are wrong", several.len()),
        };
        Self::new(&problems::INVALID_REQUEST, detail).with("errors", json!(errors))
    }

    /// 422 for one member.
    #[must_use]
    pub fn invalid_member(pointer: &str, detail: impl Into<String>) -> Self {
        Self::invalid(&[FieldError { pointer: pointer.to_owned(), detail: detail.into() }])
    }

    /// 500. The cause goes to the log, in a line that names the request.
    #[must_use]
    pub fn internal(cause: impl fmt::Display) -> Self {
        log::error!("internal error: {cause}");
        Self::new(&problems::INTERNAL, "something broke on our side; our log has the cause under the request id")
    }

    fn unavailable(detail: &str, cause: Option<Cause>) -> Self {
        Self { cause, ..Self::new(&problems::DATABASE_UNAVAILABLE, detail) }
    }

    /// Renders the problem document. No other code renders a failure. If [`Self::at`] set no instance, the instance is
    /// `request_id`.
    fn document(&self, request_id: Uuid, retry: Retry) -> Bytes {
        #[derive(Serialize)]
        struct Document<'a> {
            r#type: String,
            title: &'a str,
            status: u16,
            detail: &'a str,
            instance: String,
            retry: Retry,
            #[serde(flatten)]
            extensions: &'a Map<String, Value>,
        }
        let document = Document {
            r#type: format!("/problems/{}", self.problem.slug),
            title: self.problem.title,
            status: self.problem.status,
            detail: &self.detail,
            instance: self.instance.clone().unwrap_or_else(|| format!("urn:uuid:{request_id}")),
            retry,
            extensions: &self.extensions,
        };
        // Strings and JSON values always serialize.
        Bytes::from(serde_json::to_vec(&document).unwrap_or_default())
    }

    /// The answer for a failure that no policy stored. A stored failure is answered by its [`Reply`].
    #[must_use]
    pub fn response(&self, request_id: Uuid) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        response.insert_header((CONTENT_TYPE, PROBLEM_JSON));
        if self.problem.status == 401 {
            response.insert_header((WWW_AUTHENTICATE, "Bearer"));
        }
        let retry = self.problem.retry(false);
        response.insert_header((RETRY_ADVICE, retry.as_str()));
        if retry == Retry::Again {
            response.insert_header((RETRY_AFTER, RETRY_AFTER_SECONDS));
        }
        response.body(self.document(request_id, retry))
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.problem.slug, self.detail)
    }
}

impl std::error::Error for ApiError {}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Has no body: `server/request_log.rs` knows the request's id and adds the document.
    fn error_response(&self) -> HttpResponse {
        HttpResponse::new(self.status_code())
    }
}

impl Failure for ApiError {
    fn is_final(&self) -> bool {
        self.database.is_none() && self.problem.kind == Kind::Final
    }

    fn database_error(&self) -> Option<&diesel::result::Error> {
        self.database.as_deref()
    }

    /// The policy stores this reply, so `retry` has its value for a stored problem.
    fn reply(&self, instance: Uuid) -> Reply {
        Reply {
            status: self.problem.status,
            content_type: Some(PROBLEM_JSON.to_owned()),
            location: None,
            body: self.document(instance, self.problem.retry(true)),
        }
    }
}

impl From<idempotency::Error> for ApiError {
    fn from(error: idempotency::Error) -> Self {
        use idempotency::Error as E;
        let (detail, cause) = (error.to_string(), Cause::of_refused(&error));
        match error {
            E::KeyMissing => Self::new(&problems::KEY_MISSING, detail),
            E::KeyInvalid(_) => Self::new(&problems::KEY_INVALID, detail),
            E::PayloadTooLarge => Self::new(&problems::PAYLOAD_TOO_LARGE, detail),
            E::RequestTimeout => Self::new(&problems::REQUEST_TIMEOUT, detail),
            E::UnsupportedMediaType(_) => Self::new(&problems::UNSUPPORTED_MEDIA_TYPE, detail),
            E::MalformedJson(_) => Self::new(&problems::MALFORMED_REQUEST, detail),
            E::InvalidBody(errors) => Self::invalid(&errors),
            E::KeyReused => Self::new(&problems::KEY_REUSED, detail),
            E::InFlight => Self::new(&problems::REQUEST_IN_FLIGHT, detail),
            E::Overloaded => Self { cause, ..Self::new(&problems::OVERLOADED, detail) },
            // The pool logs the outage. A line for each request would bury the rest of the log.
            E::Unreachable(_) => Self::unavailable("the database can't be reached right now", cause),
            E::KeyExpired { location } => Self::new(&problems::KEY_EXPIRED, detail).with("resource", location),
            E::NoSuchResource => Self::new(&problems::NOT_FOUND, detail),
            E::Panicked | E::ReplyTooLarge(_) | E::ResourceNotNamed(_) | E::UnknownFingerprint(_) => {
                Self::internal(detail)
            }
        }
    }
}

impl From<diesel::result::Error> for ApiError {
    /// A constraint violation that arrives here is a defect: a feature locks the rows that its decision depends on, or
    /// inserts with ON CONFLICT.
    fn from(error: diesel::result::Error) -> Self {
        let answer = match idempotency::fault(&error) {
            Fault::RunAgain | Fault::Reconnect | Fault::Unavailable => {
                Self::unavailable("the database can't serve this right now", Cause::of(&error))
            }
            Fault::Other => Self::internal(&error),
        };
        Self { database: Some(Arc::new(error)), ..answer }
    }
}

/// A row that the client named.
pub trait OrNotFound<T> {
    /// 404 if there is no such row.
    ///
    /// # Errors
    /// 404. The database's.
    fn or_not_found(self, what: &str) -> Result<T, ApiError>;
}

impl<T> OrNotFound<T> for QueryResult<T> {
    fn or_not_found(self, what: &str) -> Result<T, ApiError> {
        self.optional()?.ok_or_else(|| ApiError::not_found(what))
    }
}

impl From<serde_json::Error> for ApiError {
    /// Only replies are serialized with `?`, so an error here is a defect.
    fn from(error: serde_json::Error) -> Self {
        Self::internal(error)
    }
}
