// SPDX-License-Identifier: MIT OR Apache-2.0
//! The crate's own answers to errors before and around a body. A service without its own error documents can use them.

use actix_web::ResponseError;
use serde_json::{Value, json};

use crate::toy::Response;
use idempotency::{Error, FieldError, ReplyTooLarge};

fn rendered(error: &Error) -> (Response, Value) {
    let response = Response::from(error.error_response());
    let document = serde_json::from_slice(&response.body).unwrap();
    (response, document)
}

#[test]
fn every_error_is_a_problem_document_with_its_status() {
    let errors = [
        (Error::KeyMissing, 400),
        (Error::KeyInvalid("the key is empty"), 400),
        (Error::MalformedJson("it ends too early".to_owned()), 400),
        (Error::NoSuchResource, 404),
        (Error::RequestTimeout, 408),
        (Error::PayloadTooLarge, 413),
        (Error::UnsupportedMediaType("the body must be application/json"), 415),
        (Error::InvalidBody(Vec::new()), 422),
        (Error::KeyReused, 422),
        (Error::InFlight, 409),
        (Error::KeyExpired { location: "/toys/7".to_owned() }, 409),
        (Error::Overloaded, 503),
        (Error::Unreachable("no route to host".to_owned()), 503),
        (Error::Panicked, 500),
        (Error::ReplyTooLarge(ReplyTooLarge(1)), 500),
        (Error::ResourceNotNamed("POST /toys/{id}/paint"), 500),
        (Error::UnknownFingerprint(7), 500),
    ];
    for (error, status) in errors {
        let (response, document) = rendered(&error);
        assert_eq!((response.status, document["status"].as_u64()), (status, Some(status.into())), "{error:?}");
        assert_eq!(response.header("Content-Type"), Some("application/problem+json"), "{error:?}");
        assert!(document["title"].is_string() && document["detail"].is_string(), "{error:?}: {document}");
        assert_eq!(document["type"], "about:blank");
    }
}

#[test]
fn an_error_says_what_to_do_next_and_carries_retry_after_with_each_again() {
    let again = [
        Error::InFlight,
        Error::RequestTimeout,
        Error::Overloaded,
        Error::Unreachable("down".to_owned()),
        Error::Panicked,
        Error::ResourceNotNamed("POST /toys/{id}/paint"),
        Error::ReplyTooLarge(ReplyTooLarge(1)),
    ];
    for error in again {
        let (response, document) = rendered(&error);
        assert_eq!((response.header("Retry-After"), &document["retry"]), (Some("1"), &json!("again")), "{error:?}");
    }
    let otherwise = [
        (Error::KeyMissing, "fix"),
        (Error::PayloadTooLarge, "fix"),
        (Error::KeyReused, "new-key"),
        (Error::KeyExpired { location: String::new() }, "never"),
    ];
    for (error, retry) in otherwise {
        let (response, document) = rendered(&error);
        assert_eq!((response.header("Retry-After"), &document["retry"]), (None, &json!(retry)), "{error:?}");
    }
}

#[test]
fn a_wrong_body_is_reported_member_by_member() {
    let wrong = |pointer: &str, detail: &str| FieldError { pointer: pointer.to_owned(), detail: detail.to_owned() };
    let errors = vec![wrong("/name", "is missing"), wrong("/colour", "is not known")];

    let (_, document) = rendered(&Error::InvalidBody(errors));

    let told = json!([{"pointer": "/name", "detail": "is missing"}, {"pointer": "/colour", "detail": "is not known"}]);
    assert_eq!(document["errors"], told);
}

#[test]
fn an_expired_key_names_what_it_made() {
    let (_, document) = rendered(&Error::KeyExpired { location: "/toys/7".to_owned() });

    assert_eq!(document["resource"], "/toys/7");
    assert!(document.get("errors").is_none());
}

#[test]
fn an_internal_error_shows_no_cause() {
    let causes = [
        Error::Unreachable("secret-host".to_owned()),
        Error::ReplyTooLarge(ReplyTooLarge(987_654)),
        Error::ResourceNotNamed("POST /secret/{id}"),
    ];
    for error in causes {
        let (response, _) = rendered(&error);
        let text = String::from_utf8(response.body).unwrap();
        assert!(["secret", "987654"].iter().all(|cause| !text.contains(cause)), "{text}");
    }
}
