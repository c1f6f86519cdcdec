// SPDX-License-Identifier: MIT OR Apache-2.0
//! The crate in a handler, as its documentation shows: the extractor, the policy, the answer.

use actix_web::App;
use actix_web::dev::{Payload, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::test::{self, TestRequest};
use actix_web::web::{self, Bytes, Data};
use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use crate::toy::{ACCOUNT, Db, MAKE, NewToy, Response, ToyError, Workshop, make};
use idempotency::{Answer, Error, Keyed, read_body};

async fn make_toy(request: Keyed<NewToy>, db: Data<Db>) -> Result<Answer, ToyError> {
    MAKE.run(&**db, ACCOUNT, request, make).await
}

/// The extractor's refusal becomes the service's error, and the service's error is the answer.
async fn make_toy_in_own_words(request: Result<Keyed<NewToy>, ToyError>, db: Data<Db>) -> Result<Answer, ToyError> {
    MAKE.run(&**db, ACCOUNT, request?, make).await
}

/// Sends requests one after another to a service with both routes.
async fn answers<const N: usize>(workshop: &Workshop, requests: [TestRequest; N]) -> [ServiceResponse; N] {
    let routes = App::new()
        .app_data(Data::new(workshop.db.clone()))
        .route("/toys", web::post().to(make_toy))
        .route("/own-words", web::post().to(make_toy_in_own_words));
    let service = test::init_service(routes).await;
    let mut answers = Vec::with_capacity(N);
    for request in requests {
        answers.push(test::call_service(&service, request.to_request()).await);
    }
    answers.try_into().unwrap()
}

fn post(body: &'static str) -> TestRequest {
    TestRequest::post().uri("/toys").insert_header(("Content-Type", "application/json")).set_payload(body)
}

#[actix_web::test]
async fn a_copied_handler_makes_one_toy_and_replays() {
    let workshop = Workshop::open();
    let request = || post(r#"{"name":"ball"}"#).insert_header(("Idempotency-Key", "key"));

    // A key is the same key with and without quotes.
    let quoted = post(r#"{"name":"ball"}"#).insert_header(("Idempotency-Key", "\"key\""));
    let [first, retry, quoted] = answers(&workshop, [request(), request(), quoted]).await;

    let [first, retry, quoted] = [first, retry, quoted].map(|answer| Response::from(answer.into_parts().1));
    assert_eq!((first.status, first.header("Location")), (201, Some("/toys/1")));
    assert_eq!((retry.reply(), quoted.reply()), (first.reply(), first.reply()));
    assert!(!first.is_replay() && retry.is_replay() && quoted.is_replay());
    assert_eq!(workshop.toys(), 1);
}

#[actix_web::test]
async fn a_malformed_request_is_refused_before_the_body_runs() {
    let workshop = Workshop::open();
    let ball = || post(r#"{"name":"ball"}"#);
    let keyed = |request: TestRequest| request.insert_header(("Idempotency-Key", "key"));
    let requests = [
        ball(),
        keyed(ball()).append_header(("Idempotency-Key", "key")),
        keyed(post("{")),
        keyed(post(r#"{"colour":"red"}"#)),
        keyed(TestRequest::post().uri("/toys").set_payload(r#"{"name":"ball"}"#)),
        keyed(TestRequest::post().uri("/toys").set_payload(vec![b' '; 64 * 1024 + 1])),
    ];

    let statuses = answers(&workshop, requests).await.map(|answer| answer.status());

    let expected = [400, 400, 400, 422, 415, 413].map(|status| StatusCode::from_u16(status).unwrap());
    assert_eq!(statuses, expected);
    assert_eq!((workshop.toys(), workshop.records()), (0, 0));
}

#[actix_web::test]
async fn a_service_may_answer_with_its_own_error_instead_of_the_extractors() {
    let workshop = Workshop::open();
    let ball = |path| post(r#"{"name":"ball"}"#).uri(path);
    let keyed = |path| ball(path).insert_header(("Idempotency-Key", "key"));

    let requests = [ball("/toys"), ball("/own-words"), keyed("/own-words"), keyed("/toys")];
    let [module, service, first, retry] =
        answers(&workshop, requests).await.map(|answer| Response::from(answer.into_parts().1));

    assert_eq!((module.status, module.header("Content-Type")), (400, Some("application/problem+json")));
    assert_eq!((service.status, service.header("Content-Type")), (400, Some("text/plain; charset=utf-8")));
    assert_eq!(service.body, ToyError::from(Error::KeyMissing).to_string().into_bytes());
    // A valid request is the same request to both handlers: it has the same fingerprint.
    assert_eq!((first.status, retry.reply()), (201, first.reply()));
    assert!(retry.is_replay());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_arriving_is_given_up_after_ten_seconds() {
    let request = TestRequest::post().to_http_request();
    let begun = stream::iter([Ok(Bytes::from_static(b"{"))]).chain(stream::pending());
    let started = Instant::now();

    let read = read_body(&request, Payload::Stream { payload: begun.boxed_local() }).await;

    assert!(matches!(read, Err(Error::RequestTimeout)), "{read:?}");
    assert_eq!(started.elapsed().as_secs(), 10);
}
