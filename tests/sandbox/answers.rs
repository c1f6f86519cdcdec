//! How the HTTP client reads a gateway's answers, good and bad.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use actix_web::http::StatusCode;
use actix_web::web::Bytes;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use external_calls::{CallError, StillUnknown};
use idempotent_payments::gateway::{Call, Capture, Gateway, HttpGateway, InvalidGatewayUrl, Outcome};
use serde_json::json;

use crate::find_outcome;

/// A gateway that gives every request the same answer, and counts the requests.
struct Fixed {
    gateway: HttpGateway,
    calls: Arc<AtomicUsize>,
}

impl Fixed {
    fn start(status: u16, body: impl Into<Bytes>) -> Self {
        Self::start_with(status, body.into(), None)
    }

    fn start_with(status: u16, body: Bytes, retry_after: Option<String>) -> Self {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let server = HttpServer::new(move || {
            let (body, counted, retry_after) = (body.clone(), counted.clone(), retry_after.clone());
            App::new().default_service(web::to(move |request: HttpRequest| {
                counted.fetch_add(1, Ordering::SeqCst);
                let mut response = HttpResponse::build(StatusCode::from_u16(status).unwrap());
                response.insert_header(("Location", request.path()));
                if let Some(retry_after) = &retry_after {
                    response.insert_header(("Retry-After", retry_after.as_str()));
                }
                let response = response.body(body.clone());
                async move { response }
            }))
        })
        .workers(1)
        .disable_signals()
        .bind("127.0.0.1:0")
        .unwrap();
        let gateway = HttpGateway::new(&format!("http://{}", server.addrs()[0])).unwrap();
        tokio::spawn(server.run());
        Self { gateway, calls }
    }

    async fn capture(&self) -> Result<Outcome, CallError> {
        self.gateway.capture(&capture()).await
    }
}

fn capture() -> Capture {
    Capture {
        reference: "ours".to_owned(),
        amount: 500,
        currency: "EUR".to_owned(),
        payment_method: "pm_card_visa".to_owned(),
    }
}

fn entry(reference: &str, amount: i64, outcome: &str) -> String {
    json!({ "reference": reference, "amount": amount, "currency": "EUR", "outcome": outcome, "new": 1 }).to_string()
}

#[tokio::test]
async fn an_answer_that_is_not_fully_understood_counts_as_no_answer() {
    for (status, body) in [
        (201, String::new()),
        (201, "<html>".to_owned()),
        (201, entry("another", 500, "succeeded")),
        (201, entry("ours", 501, "succeeded")),
        (201, entry("ours", 500, "pending")),
        (201, entry("ours", 500, "succeeded").replace("EUR", "USD")),
        (201, entry("ours", 500, "card_declined")),
        (200, entry("ours", 500, "card_declined")),
        (201, entry("ours", 500, "error")),
        (402, entry("ours", 500, "succeeded")),
        (402, entry("ours", 500, "error")),
        (201, format!("{}{}", entry("ours", 500, "succeeded"), " ".repeat(70_000))),
        (202, entry("ours", 500, "succeeded")),
        (402, "{}".to_owned()),
        (307, String::new()),
    ] {
        let gateway = Fixed::start(status, body.clone());
        let outcome = gateway.capture().await;
        assert!(matches!(outcome, Err(CallError::NoAnswer { .. })), "{status} {body:.80}: {outcome:?}");
        assert_eq!(gateway.calls.load(Ordering::SeqCst), 1, "{status} {body:.80}");
    }
}

#[tokio::test]
async fn an_answer_that_agrees_with_the_call_counts_for_each_outcome() {
    let declined = |code: &str| Outcome::Declined { decline_code: code.to_owned() };
    for (status, outcome, taken) in [
        (201, "succeeded", Outcome::Succeeded),
        (200, "succeeded", Outcome::Succeeded),
        (402, "card_declined", declined("card_declined")),
        (402, "insufficient_funds", declined("insufficient_funds")),
    ] {
        let gateway = Fixed::start(status, entry("ours", 500, outcome));
        assert_eq!(gateway.capture().await, Ok(taken), "{status} {outcome}");
    }
}

#[tokio::test]
async fn an_answer_with_invalid_utf_8_in_an_unread_member_counts_as_no_answer() {
    let mut body = entry("ours", 500, "succeeded").replace("\"new\":1", "\"new\":\"?\"").into_bytes();
    let at = body.iter().position(|byte| *byte == b'?').unwrap();
    body[at] = 0xff;
    assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok(), "the JSON parser alone accepts the body");
    let books = [b"[".as_slice(), body.as_slice(), b"]".as_slice()].concat();

    let answered = Fixed::start(201, body).capture().await;
    let found = Fixed::start(200, books).gateway.find(&Call::Capture(capture())).await;

    assert!(matches!(answered, Err(CallError::NoAnswer { .. })), "{answered:?}");
    assert!(matches!(found, Err(CallError::NoAnswer { .. })), "{found:?}");
}

#[tokio::test]
async fn a_retry_after_is_read_as_seconds_and_as_a_date() {
    let date = |from_now: Duration| httpdate::fmt_http_date(SystemTime::now() + from_now);
    let long_past = "Sun, 06 Nov 1994 08:49:37 GMT".to_owned();
    for (text, shortest, longest) in
        [("30".to_owned(), 30, 30), ("0".to_owned(), 0, 0), (date(Duration::from_secs(90)), 80, 90), (long_past, 0, 0)]
    {
        for status in [429, 503, 403] {
            let gateway = Fixed::start_with(status, Bytes::new(), Some(text.clone()));
            let Err(CallError::Later { retry_after, .. } | CallError::ServerError { retry_after, .. }) =
                gateway.capture().await
            else {
                panic!("{status} {text}")
            };
            let seconds = retry_after.map(|wait| wait.as_secs());
            assert!(seconds.is_some_and(|s| (shortest..=longest).contains(&s)), "{status} {text}: {seconds:?}");
        }
    }
    for nonsense in ["soon", "-1", "1.5", ""] {
        let gateway = Fixed::start_with(503, Bytes::new(), Some(nonsense.to_owned()));
        let found = gateway.capture().await;
        assert_eq!(found, Err(CallError::ServerError { status: 503, retry_after: None }), "{nonsense}");
    }
}

#[tokio::test]
async fn each_status_has_its_error_and_the_client_never_repeats_a_call() {
    for (status, error) in [
        (400, CallError::Refused { status: 400 }),
        (422, CallError::Refused { status: 422 }),
        (401, CallError::Later { status: 401, retry_after: None }),
        (403, CallError::Later { status: 403, retry_after: None }),
        (404, CallError::Later { status: 404, retry_after: None }),
        (405, CallError::Later { status: 405, retry_after: None }),
        (408, CallError::Later { status: 408, retry_after: None }),
        (409, CallError::Later { status: 409, retry_after: None }),
        (425, CallError::Later { status: 425, retry_after: None }),
        (429, CallError::Later { status: 429, retry_after: None }),
        (500, CallError::ServerError { status: 500, retry_after: None }),
        (503, CallError::ServerError { status: 503, retry_after: None }),
    ] {
        let gateway = Fixed::start(status, entry("ours", 500, "succeeded"));
        assert_eq!(gateway.capture().await, Err(error));
        assert_eq!(gateway.calls.load(Ordering::SeqCst), 1, "{status}");
    }
}

#[tokio::test]
async fn the_books_are_read_for_this_reference_only_and_a_success_in_them_counts() {
    let line = |outcome| entry("ours", 500, outcome);
    let succeeded = Ok(Some(Outcome::Succeeded));
    let declined = Ok(Some(Outcome::Declined { decline_code: "card_declined".to_owned() }));
    for (lines, found) in [
        (vec![], Ok(None)),
        (vec![entry("another", 500, "succeeded")], Ok(None)),
        (vec![line("card_declined")], declined),
        (vec![line("error")], Ok(Some(Outcome::Failed))),
        (vec![line("succeeded"), line("card_declined")], succeeded.clone()),
        (vec![line("succeeded"), line("succeeded")], succeeded),
    ] {
        let gateway = Fixed::start(200, format!("[{}]", lines.join(",")));
        assert_eq!(gateway.gateway.find(&Call::Capture(capture())).await, found, "{lines:?}");
    }
}

/// For example a key was used, the database was restored from before, and the key was used again for another amount.
#[tokio::test]
async fn books_with_another_amount_for_the_reference_resolve_nothing_and_nothing_is_sent() {
    for outcome in ["succeeded", "card_declined", "error"] {
        assert_resolves_nothing(&entry("ours", 501, outcome)).await;
        assert_resolves_nothing(&entry("ours", 500, outcome).replace("EUR", "USD")).await;
    }
}

async fn assert_resolves_nothing(line: &str) {
    let gateway = Fixed::start(200, format!("[{line}]"));
    let found = find_outcome(&gateway.gateway, &Call::Capture(capture()), true).await;
    assert!(matches!(found, Err(StillUnknown { error: CallError::NoAnswer { .. }, .. })), "{line}: {found:?}");
    assert_eq!(gateway.calls.load(Ordering::SeqCst), 1, "{line}: only the look");
}

#[tokio::test]
async fn a_url_that_cannot_be_called_is_refused_at_once() {
    for (url, scheme) in [("https://pay.example", true), ("127.0.0.1:8081", false), ("", false), ("http://a/?b", false)]
    {
        match HttpGateway::new(url).err() {
            Some(InvalidGatewayUrl::Scheme) => assert!(scheme, "{url}"),
            Some(InvalidGatewayUrl::Malformed(_)) => assert!(!scheme, "{url}"),
            other => panic!("{url}: {other:?}"),
        }
    }
}
