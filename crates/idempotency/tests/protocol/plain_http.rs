// SPDX-License-Identifier: MIT OR Apache-2.0
//! The crate without its framework: a request from `http` types, and an answer as one.

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use uuid::Uuid;

use crate::toy::{ACCOUNT, MAKE, NewToy, Workshop, keyed, make};
use idempotency::{Answer, Error, Keyed, MAX_REQUEST_BODY, OptionallyKeyed, Origin, Reply};

const REQUEST: Uuid = Uuid::from_u128(7);

type Pair = (&'static str, &'static str);

fn headers(pairs: &[Pair]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, value.parse().unwrap());
    }
    headers
}

fn header<'a>(response: &'a Response<Bytes>, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_request_from_http_types_is_the_request_that_the_extractor_reads() {
    let workshop = Workshop::open();
    let headers = headers(&[("idempotency-key", "\"key\""), ("content-type", "application/json; charset=utf-8")]);
    let request = Keyed::<NewToy>::from_http(&headers, br#"{"name":"ball"}"#, REQUEST).unwrap();
    assert_eq!((request.key.as_str(), request.instance), ("key", REQUEST));

    let first = MAKE.run(&workshop.db, ACCOUNT, request, make).await.unwrap().into_http();
    let extracted = keyed("/toys", "key", r#"{ "name": "ball" }"#).unwrap();
    let retry = MAKE.run(&workshop.db, ACCOUNT, extracted, make).await.unwrap().into_http();

    assert_eq!((first.status(), header(&first, "location")), (StatusCode::CREATED, Some("/toys/1")));
    assert_eq!(header(&first, "content-type"), Some("application/json"));
    assert_eq!((retry.status(), retry.body()), (first.status(), first.body()));
    assert_eq!(header(&retry, "location"), header(&first, "location"));
    assert_eq!(header(&first, "idempotency-replayed"), None);
    assert_eq!(header(&retry, "idempotency-replayed"), Some("true"));
    assert!(header(&first, "idempotency-expires").unwrap().ends_with(" GMT"));
    assert_eq!(first.extensions().get(), Some(&Origin::Fresh));
    assert_eq!(retry.extensions().get(), Some(&Origin::Replayed));
}

#[test]
fn the_checks_come_in_the_documented_order() {
    let key = ("idempotency-key", "key");
    let json = ("content-type", "application/json");
    let ball = br#"{"name":"ball"}"#.as_slice();
    let long = vec![b' '; MAX_REQUEST_BODY + 1];
    let vectors: &[(&[Pair], &[u8], u16)] = &[
        // The first two lack all that is checked later.
        (&[], &long, 413),
        (&[], ball, 415),
        (&[json, ("content-encoding", "gzip")], ball, 415),
        (&[json, json], ball, 415),
        (&[json], b"{", 400),
        (&[json, key, key], ball, 400),
        (&[json, key], b"{", 400),
        (&[json, key], br#"{"colour":"red"}"#, 422),
        // An empty body needs no type, and is `{}`.
        (&[key], b"", 422),
    ];
    for (pairs, body, status) in vectors {
        let error = Keyed::<NewToy>::from_http(&headers(pairs), body, REQUEST).unwrap_err();
        assert_eq!(error.status(), *status, "{pairs:?} {}: {error:?}", body.len());
        if !matches!(error, Error::KeyMissing) && pairs.contains(&key) {
            let error = OptionallyKeyed::<NewToy>::from_http(&headers(pairs), body, REQUEST).unwrap_err();
            assert_eq!(error.status(), *status, "optionally keyed: {pairs:?}");
        }
    }
    let missing = Keyed::<NewToy>::from_http(&headers(&[json]), ball, REQUEST);
    assert!(matches!(missing, Err(Error::KeyMissing)), "{missing:?}");
}

#[test]
fn requests_without_a_key_can_be_counted() {
    let json = ("content-type", "application/json");
    let read =
        |pairs: &[Pair]| OptionallyKeyed::<NewToy>::from_http(&headers(pairs), br#"{"name":"ball"}"#, REQUEST).unwrap();
    let (with, without) = (read(&[json, ("idempotency-key", "key")]), read(&[json]));
    assert!(with.is_keyed && with.request.key.as_str() == "key", "{with:?}");
    assert!(!without.is_keyed, "{without:?}");
    assert_ne!(without.request.key, read(&[json]).request.key);
}

#[test]
fn a_reply_that_http_does_not_know_is_a_500() {
    let reply = Reply { location: Some("/toys/1\r\nSet-Cookie: a=b".to_owned()), ..Reply::ok(&1).unwrap() };
    let answer = Answer { reply, origin: Origin::Fresh, expires_at: None, retry_after: 1 };
    assert_eq!(answer.into_http().status(), StatusCode::INTERNAL_SERVER_ERROR);
}
