// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the client reads Stripe's answers, good and bad.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use actix_web::http::StatusCode;
use actix_web::web::Bytes;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use external_calls::CallError;
use serde_json::{Value, json};
use stripe_gateway::{Call, End, Gateway as _, InvalidGatewayUrl, Key, Outcome, Stripe};

use crate::payment;

/// A gateway that gives every request the same answer, and records the requests.
pub struct Fixed {
    pub gateway: Stripe,
    pub calls: Arc<AtomicUsize>,
    /// The last request's head and body.
    pub last: Arc<Mutex<String>>,
}

impl Fixed {
    pub fn start(status: u16, body: impl Into<Bytes>) -> Self {
        Self::start_with(status, body, &[])
    }

    pub fn start_with(status: u16, body: impl Into<Bytes>, headers: &[(&str, &str)]) -> Self {
        let (calls, last, body) = (Arc::new(AtomicUsize::new(0)), Arc::<Mutex<String>>::default(), body.into());
        let headers: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (counted, kept) = (calls.clone(), last.clone());
        let server = HttpServer::new(move || {
            let (body, headers, counted, kept) = (body.clone(), headers.clone(), counted.clone(), kept.clone());
            App::new().default_service(web::to(move |request: HttpRequest, sent: Bytes| {
                counted.fetch_add(1, Ordering::SeqCst);
                *kept.lock().unwrap() = format!("{request:?}{}", String::from_utf8_lossy(&sent));
                let mut response = HttpResponse::build(StatusCode::from_u16(status).unwrap());
                response.insert_header(("Location", request.path()));
                for (name, value) in &headers {
                    response.insert_header((name.as_str(), value.as_str()));
                }
                let response = response.body(body.clone());
                async move { response }
            }))
        })
        .workers(1)
        .disable_signals()
        .bind("127.0.0.1:0")
        .unwrap();
        let gateway = Stripe::new(&format!("http://{}", server.addrs()[0]), &Key::of_sandbox()).unwrap();
        tokio::spawn(server.run());
        Self { gateway, calls, last }
    }

    async fn pay(&self) -> Result<Outcome, CallError> {
        self.gateway.send("ours", Call::Payment(&payment(500, "pm_card_visa"))).await
    }
}

/// A PaymentIntent of our call.
pub fn intent(status: &str) -> Value {
    json!({
        "id": "pi_1", "object": "payment_intent", "amount": 500, "currency": "eur", "status": status,
        "metadata": {"reference": "ours", "account": "a"}, "last_payment_error": null, "new_member": 1,
    })
}

pub fn changed(mut object: Value, pointer: &str, value: impl Into<Value>) -> Value {
    *object.pointer_mut(pointer).unwrap() = value.into();
    object
}

fn card_error(code: &str, decline_code: Option<&str>) -> Value {
    let error = json!({"type": "card_error", "code": code, "decline_code": decline_code, "message": "no"});
    let declined = changed(intent("requires_payment_method"), "/last_payment_error", error.clone());
    let mut error = error;
    error["payment_intent"] = declined;
    json!({"error": error})
}

#[tokio::test]
async fn a_payment_goes_out_in_stripes_form_and_its_key_is_a_header() {
    let gateway = Fixed::start(200, intent("succeeded").to_string());
    let succeeded = Outcome { gateway_id: Some("pi_1".to_owned()), end: End::Succeeded };
    assert_eq!(gateway.pay().await, Ok(succeeded));

    let sent = gateway.last.lock().unwrap().to_ascii_lowercase();
    for part in [
        "post:/v1/payment_intents",
        "\"idempotency-key\": \"ours\"",
        "\"stripe-version\": \"2026-10-28.endive\"",
        "application/x-www-form-urlencoded",
        "amount=500&currency=eur&payment_method=pm_card_visa&confirm=true&error_on_requires_action=true",
        "&payment_method_types%5b%5d=card&metadata%5breference%5d=ours&metadata%5baccount%5d=00000000-",
    ] {
        assert!(sent.contains(part), "{part} is not in {sent}");
    }
}

#[tokio::test]
async fn an_answer_that_is_not_fully_understood_counts_as_no_answer() {
    let good = || intent("succeeded");
    let declined = || card_error("card_declined", Some("generic_decline"));
    for (status, body) in [
        (200, String::new()),
        (200, "<html>".to_owned()),
        (200, changed(good(), "/metadata/reference", "another").to_string()),
        (200, changed(good(), "/metadata", json!({})).to_string()),
        (200, changed(good(), "/amount", 501).to_string()),
        (200, changed(good(), "/currency", "usd").to_string()),
        (200, changed(good(), "/object", "charge").to_string()),
        (200, format!("{}{}", good(), " ".repeat(70_000))),
        (201, good().to_string()),
        (202, good().to_string()),
        (307, String::new()),
        (402, "{}".to_owned()),
        (402, good().to_string()),
        (402, changed(declined(), "/error/payment_intent/metadata/reference", "another").to_string()),
        (402, changed(declined(), "/error/payment_intent/amount", 501).to_string()),
        (402, changed(declined(), "/error/payment_intent/status", "succeeded").to_string()),
        (402, changed(declined(), "/error/payment_intent", Value::Null).to_string()),
        // A proxy's refusal is not Stripe's.
        (400, "<html>Bad Request</html>".to_owned()),
        (413, String::new()),
    ] {
        let gateway = Fixed::start(status, body.clone());
        let outcome = gateway.pay().await;
        assert!(matches!(outcome, Err(CallError::NoAnswer { .. })), "{status} {body:.80}: {outcome:?}");
        assert_eq!(gateway.calls.load(Ordering::SeqCst), 1, "{status} {body:.80}");
    }
}

#[tokio::test]
async fn a_decline_has_the_issuers_code_or_the_errors() {
    for (code, decline_code, told) in [
        ("card_declined", Some("insufficient_funds"), "insufficient_funds"),
        ("expired_card", None, "expired_card"),
        ("authentication_required", Some("authentication_required"), "authentication_required"),
    ] {
        let outcome = Fixed::start(402, card_error(code, decline_code).to_string()).pay().await;
        let end = End::Declined { decline_code: told.to_owned() };
        assert_eq!(outcome, Ok(Outcome { gateway_id: Some("pi_1".to_owned()), end }));
    }
}

#[tokio::test]
async fn a_payment_that_has_not_succeeded_has_no_outcome_yet() {
    for status in
        ["processing", "requires_action", "requires_capture", "requires_payment_method", "canceled", "brand_new"]
    {
        let outcome = Fixed::start(200, intent(status).to_string()).pay().await;
        assert_eq!(outcome, Err(CallError::Pending { id: "pi_1".to_owned() }), "{status}");
    }
}

#[tokio::test]
async fn an_answer_with_invalid_utf_8_in_an_unread_member_counts_as_no_answer() {
    let mut body = intent("succeeded").to_string().replace("\"new_member\":1", "\"new_member\":\"?\"").into_bytes();
    let at = body.iter().position(|byte| *byte == b'?').unwrap();
    body[at] = 0xff;
    assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok(), "the JSON parser alone accepts the body");
    let answered = Fixed::start(200, body).pay().await;
    assert!(matches!(answered, Err(CallError::NoAnswer { .. })), "{answered:?}");
}

#[tokio::test]
async fn a_retry_after_is_read_as_seconds_and_as_a_date() {
    let date = |from_now: Duration| httpdate::fmt_http_date(SystemTime::now() + from_now);
    let long_past = "Sun, 06 Nov 1994 08:49:37 GMT".to_owned();
    for (text, shortest, longest) in
        [("30".to_owned(), 30, 30), ("0".to_owned(), 0, 0), (date(Duration::from_secs(90)), 80, 90), (long_past, 0, 0)]
    {
        for status in [429, 503, 403] {
            let gateway = Fixed::start_with(status, Bytes::new(), &[("Retry-After", &text)]);
            let Err(CallError::Later { retry_after, .. } | CallError::ServerError { retry_after, .. }) =
                gateway.pay().await
            else {
                panic!("{status} {text}")
            };
            let seconds = retry_after.map(|wait| wait.as_secs());
            assert!(seconds.is_some_and(|s| (shortest..=longest).contains(&s)), "{status} {text}: {seconds:?}");
        }
    }
    for nonsense in ["soon", "-1", "1.5", ""] {
        let found = Fixed::start_with(503, Bytes::new(), &[("Retry-After", nonsense)]).pay().await;
        assert_eq!(found, Err(CallError::ServerError { status: 503, retry_after: None, stored: false }), "{nonsense}");
    }
}

#[tokio::test]
async fn each_status_has_its_error_and_the_client_never_repeats_a_call() {
    let refusal = |kind: &str, code: Option<&str>| json!({"error": {"type": kind, "code": code}}).to_string();
    let missing = refusal("invalid_request_error", Some("resource_missing"));
    let later = |status| CallError::Later { status, retry_after: None };
    let refused = |status, code: Option<&str>| CallError::Refused { status, code: code.map(str::to_owned) };
    let broken = |status, stored| CallError::ServerError { status, retry_after: None, stored };
    for (status, body, headers, error) in [
        (400, missing.clone(), &[][..], refused(400, Some("resource_missing"))),
        (400, refusal("invalid_request_error", None), &[], refused(400, None)),
        (400, refusal("invalid_request_error", Some("lock_timeout")), &[], later(400)),
        (402, refusal("invalid_request_error", Some("x")), &[], refused(402, Some("x"))),
        (422, missing.clone(), &[], refused(422, Some("resource_missing"))),
        (401, missing.clone(), &[], later(401)),
        (403, missing.clone(), &[], later(403)),
        (404, missing.clone(), &[], later(404)),
        (405, String::new(), &[], later(405)),
        (408, String::new(), &[], later(408)),
        (409, refusal("invalid_request_error", Some("idempotency_key_in_use")), &[], later(409)),
        (425, String::new(), &[], later(425)),
        (429, refusal("invalid_request_error", Some("lock_timeout")), &[], later(429)),
        (500, refusal("api_error", None), &[], broken(500, false)),
        (500, refusal("api_error", None), &[("Stripe-Should-Retry", "true")], broken(500, false)),
        (500, refusal("api_error", None), &[("Stripe-Should-Retry", "false")], broken(500, true)),
        (500, refusal("api_error", None), &[("Idempotent-Replayed", "true")], broken(500, true)),
        (503, String::new(), &[], broken(503, false)),
    ] {
        let gateway = Fixed::start_with(status, body.clone(), headers);
        assert_eq!(gateway.pay().await, Err(error), "{status} {body} {headers:?}");
        assert_eq!(gateway.calls.load(Ordering::SeqCst), 1, "{status}");
    }
    let other = Fixed::start(400, refusal("idempotency_error", None)).pay().await;
    assert!(matches!(other, Err(CallError::OtherCall { .. })), "{other:?}");
}

#[tokio::test]
async fn a_url_that_cannot_be_called_is_refused_at_once() {
    let (test, live) = (Key::of_sandbox(), Key::parse("sk_live_x").unwrap());
    assert!(Stripe::new("https://api.stripe.com", &live).is_ok());
    assert!(Stripe::new("https://api.stripe.com/", &test).is_ok());
    for (url, key) in [
        ("ftp://pay.example", &test),
        ("127.0.0.1:8081", &test),
        ("", &test),
        ("http://a/?b", &test),
        ("http://127.0.0.1:8081", &live),
    ] {
        match Stripe::new(url, key).err() {
            Some(InvalidGatewayUrl::Scheme) => assert!(url.starts_with("ftp") || url.starts_with("127"), "{url}"),
            Some(InvalidGatewayUrl::Malformed(_)) => assert!(!url.contains("8081") || url.starts_with("127"), "{url}"),
            Some(InvalidGatewayUrl::LiveKeyInClear) => assert!(key.is_live(), "{url}"),
            other => panic!("{url}: {other:?}"),
        }
    }
}
