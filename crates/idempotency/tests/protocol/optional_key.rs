// SPDX-License-Identifier: MIT OR Apache-2.0
//! An endpoint whose clients may leave out the key.

use actix_web::App;
use actix_web::test::{self, TestRequest};
use actix_web::web::{self, Data};

use crate::toy::{ACCOUNT, Db, MAKE, NewToy, Response, ToyError, Workshop, make};
use idempotency::{Answer, Error, OptionallyKeyed};

async fn make_toy(request: OptionallyKeyed<NewToy>, db: Data<Db>) -> Result<Answer, ToyError> {
    MAKE.run(&**db, ACCOUNT, request.request, make).await
}

async fn answers<const N: usize>(workshop: &Workshop, requests: [TestRequest; N]) -> [Response; N] {
    let routes = App::new().app_data(Data::new(workshop.db.clone())).route("/toys", web::post().to(make_toy));
    let service = test::init_service(routes).await;
    let mut answers = Vec::with_capacity(N);
    for request in requests {
        let answer = test::call_service(&service, request.to_request()).await;
        answers.push(Response::from(answer.into_parts().1));
    }
    answers.try_into().unwrap()
}

fn post(body: &'static str) -> TestRequest {
    TestRequest::post().uri("/toys").insert_header(("Content-Type", "application/json")).set_payload(body)
}

fn ball() -> TestRequest {
    post(r#"{"name":"ball"}"#)
}

#[actix_web::test]
async fn a_request_without_a_key_runs_each_time_and_a_request_with_a_key_once() {
    let workshop = Workshop::open();
    let keyed = || ball().insert_header(("Idempotency-Key", "key"));

    let [one, two, first, retry] = answers(&workshop, [ball(), ball(), keyed(), keyed()]).await;

    assert_eq!([&one, &two, &first, &retry].map(|answer| answer.status), [201; 4]);
    assert_eq!(retry.reply(), first.reply());
    assert_eq!([one, two, first, retry].map(|answer| answer.is_replay()), [false, false, false, true]);
    assert_eq!((workshop.toys(), workshop.records()), (3, 3));
}

/// `Option<Keyed<T>>` would run the first three without protection.
#[actix_web::test]
async fn an_invalid_request_is_refused_with_and_without_a_key() {
    let workshop = Workshop::open();
    let malformed = |key: &'static str| ball().insert_header(("Idempotency-Key", key));
    let twice = malformed("key").append_header(("Idempotency-Key", "key"));
    let untyped = TestRequest::post().uri("/toys").set_payload(r#"{"name":"ball"}"#);
    let long = TestRequest::post().uri("/toys").set_payload(vec![b' '; 64 * 1024 + 1]);
    let requests = [malformed(""), malformed("a b"), twice, post("{"), post(r#"{"colour":"red"}"#), untyped, long];

    let answers = answers(&workshop, requests).await;

    assert_eq!(answers.each_ref().map(|answer| answer.status), [400, 400, 400, 400, 422, 415, 413]);
    let detail = Error::KeyInvalid("the key is empty").to_string();
    assert!(String::from_utf8_lossy(&answers[0].body).contains(&detail), "{answers:?}");
    assert_eq!((workshop.toys(), workshop.records()), (0, 0));
}
