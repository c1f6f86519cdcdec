//! CORS: which origins may call the API, and which headers their scripts may read.

use actix_cors::Cors;
use actix_web::http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderName, IF_MATCH, LOCATION, RETRY_AFTER};

use super::request_id::{TRACEPARENT, TRACESTATE, X_REQUEST_ID};
use crate::http::RETRY_ADVICE;
use idempotency::{IDEMPOTENCY_EXPIRES, IDEMPOTENCY_KEY, IDEMPOTENCY_REPLAYED};

/// For how many seconds a browser caches a preflight's answer: an hour. Chromium allows two at most.
const PREFLIGHT_MAX_AGE: usize = 60 * 60;

/// Allows these origins, such as `https://shop.example`. The port `:*` means any port.
pub(super) fn cors(origins: Vec<String>) -> Cors {
    Cors::default()
        .allowed_origin_fn(move |origin, _| {
            origin.to_str().is_ok_and(|origin| origins.iter().any(|allowed| is_allowed(origin, allowed)))
        })
        .allowed_methods(["GET", "HEAD", "POST", "PUT"])
        .allowed_headers([
            AUTHORIZATION,
            CONTENT_TYPE,
            HeaderName::from_static(IDEMPOTENCY_KEY),
            IF_MATCH,
            X_REQUEST_ID,
            TRACEPARENT,
            TRACESTATE,
        ])
        .expose_headers([
            HeaderName::from_static(IDEMPOTENCY_REPLAYED),
            HeaderName::from_static(IDEMPOTENCY_EXPIRES),
            RETRY_ADVICE,
            LOCATION,
            RETRY_AFTER,
            ETAG,
            X_REQUEST_ID,
        ])
        .max_age(PREFLIGHT_MAX_AGE)
}

fn is_allowed(origin: &str, allowed: &str) -> bool {
    let Some(host) = allowed.strip_suffix(":*") else { return origin == allowed };
    let Some(port) = origin.strip_prefix(host) else { return false };
    port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_allowed_whole_and_no_other() {
        for (origin, allowed) in [
            ("https://shop.example", "https://shop.example"),
            ("http://localhost", "http://localhost:*"),
            ("http://localhost:5173", "http://localhost:*"),
        ] {
            assert!(is_allowed(origin, allowed), "{origin}");
        }
        for (origin, allowed) in [
            ("https://shop.example.evil.example", "https://shop.example"),
            ("https://shop.example:8443", "https://shop.example"),
            ("http://localhost.evil.example", "http://localhost:*"),
            ("http://localhost:5173.evil.example", "http://localhost:*"),
            ("https://localhost:5173", "http://localhost:*"),
            ("null", "http://localhost:*"),
        ] {
            assert!(!is_allowed(origin, allowed), "{origin}");
        }
    }
}
