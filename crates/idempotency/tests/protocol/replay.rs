// SPDX-License-Identifier: MIT OR Apache-2.0
//! A retry gets the first reply, a key belongs to one request, and the scope is the space in which a key is unique.

use std::time::Duration;

use uuid::Uuid;

use crate::support::{count, execute};
use crate::toy::{ACCOUNT, MAKE, Response, Runs, ToyError, Workshop, keyed, make};
use idempotency::{Error, Policy, Scope, hours};

#[tokio::test]
async fn a_retry_gets_the_first_reply_byte_for_byte() {
    let workshop = Workshop::open();

    let first = workshop.make("key").await;
    let retry = workshop.make("key").await;

    assert_eq!((first.status, first.header("Location")), (201, Some("/toys/1")));
    assert_eq!(first.header("Content-Type"), Some("application/json"));
    assert_eq!(retry.reply(), first.reply());
    assert_eq!(workshop.toys(), 1);
}

#[tokio::test]
async fn only_replays_say_that_they_are_replays() {
    let workshop = Workshop::open();

    let first = workshop.make("key").await;
    let retry = workshop.make("key").await;

    assert_eq!(first.header("Idempotency-Replayed"), None);
    assert_eq!(retry.header("Idempotency-Replayed"), Some("true"));
}

#[tokio::test]
async fn first_answer_and_replay_name_the_same_expiry() {
    let workshop = Workshop::open();

    let first = workshop.make("key").await;
    let retry = workshop.make("key").await;

    let expires = httpdate::parse_http_date(first.header("Idempotency-Expires").unwrap()).unwrap();
    let left = expires.duration_since(std::time::SystemTime::now()).unwrap();
    assert!(left > idempotency::seconds(59 * 60) && left <= hours(1), "{left:?}");
    assert_eq!(retry.header("Idempotency-Expires"), first.header("Idempotency-Expires"));
}

#[tokio::test]
async fn another_process_replays_too() {
    let workshop = Workshop::open();

    let first = workshop.make("key").await;
    let retry = workshop.another_process().make("key").await;

    assert_eq!(retry.reply(), first.reply());
    assert!(retry.is_replay());
}

#[tokio::test]
async fn a_key_sent_with_another_body_is_refused_and_changes_nothing() {
    let workshop = Workshop::open();
    let first = workshop.make("key").await;

    let other = workshop.send(MAKE, "key", "doll", make).await;

    assert!(matches!(other, Err(ToyError::Idempotency(Error::KeyReused))), "{other:?}");
    assert_eq!(workshop.toys(), 1);
    assert_eq!(workshop.make("key").await.reply(), first.reply());
}

#[tokio::test]
async fn spelling_does_not_make_another_request() {
    let workshop = Workshop::open();
    let send = async |json| {
        let request = keyed("/toys", "key", json).unwrap();
        MAKE.run(&workshop.db, ACCOUNT, request, make).await.map(Response::from)
    };

    let first = send(r#"{"name":"b\u00e4r"}"#).await.unwrap();
    let retry = send(" { \"name\" : \"bär\" }\n").await.unwrap();

    assert_eq!(retry.reply(), first.reply());
}

/// Base64 keys may differ in case alone, and so may a ULID and its lower-case form.
#[tokio::test]
async fn two_keys_that_differ_in_case_are_two_keys() {
    let workshop = Workshop::open();

    let (one, other) = (workshop.make("aBc").await, workshop.make("abc").await);

    assert!(!one.is_replay() && !other.is_replay());
    assert_eq!((workshop.toys(), workshop.records()), (2, 2));
    assert_eq!(workshop.make("aBc").await.reply(), one.reply());
}

/// Sends a key of this scope again to another route, and to another resource of its route. Returns whether each was a replay.
async fn sent_again(scope: Scope) -> (Result<bool, ToyError>, Result<bool, ToyError>) {
    let workshop = Workshop::open();
    let paint = Policy { route: "POST /toys/{id}/paint", scope, ..MAKE };
    let mend = Policy { route: "POST /toys/{id}/mend", ..paint };
    let send = async |policy, id| {
        let answer = workshop.send_on(&[id], ACCOUNT, policy, "key", "ball", make).await;
        answer.map(|response: Response| response.is_replay())
    };
    assert!(!send(paint, "1").await.unwrap());
    assert!(send(paint, "1").await.unwrap());
    (send(mend, "1").await, send(paint, "2").await)
}

#[tokio::test]
async fn an_account_scope_is_one_key_space_for_all_its_routes() {
    let (other_route, other_resource) = sent_again(Scope::Account).await;

    assert!(matches!(other_route, Err(ToyError::Idempotency(Error::KeyReused))), "{other_route:?}");
    assert!(matches!(other_resource, Err(ToyError::Idempotency(Error::KeyReused))), "{other_resource:?}");
}

#[tokio::test]
async fn a_route_scope_is_a_key_space_for_each_route() {
    let (other_route, other_resource) = sent_again(Scope::Route).await;

    assert!(matches!(other_route, Ok(false)), "{other_route:?}");
    assert!(matches!(other_resource, Err(ToyError::Idempotency(Error::KeyReused))), "{other_resource:?}");
}

#[tokio::test]
async fn a_resource_scope_is_a_key_space_for_each_resource() {
    let (other_route, other_resource) = sent_again(Scope::Resource).await;

    assert!(matches!(other_route, Ok(false)), "{other_route:?}");
    assert!(matches!(other_resource, Ok(false)), "{other_resource:?}");
}

/// Ids need not be UUIDs. The handler parses the id, so all spellings of a number are one resource.
#[tokio::test]
async fn two_spellings_of_one_id_are_one_resource() {
    let workshop = Workshop::open();
    let paint = Policy { route: "POST /toys/{id}/paint", scope: Scope::Resource, ..MAKE };
    let send = async |spelling: &str| {
        let id: i64 = spelling.parse().unwrap();
        let path = format!("/toys/{spelling}/paint");
        let request = keyed(&path, "key", r#"{"name":"ball"}"#).unwrap().on(id);
        paint.run(&workshop.db, ACCOUNT, request, make).await.map(Response::from).unwrap()
    };

    let first = send("1").await;
    for spelling in ["01", "+1"] {
        let retry = send(spelling).await;
        assert_eq!(retry.reply(), first.reply());
        assert!(retry.is_replay());
    }
    assert_eq!(workshop.toys(), 1);
}

#[test]
fn a_policys_path_has_each_id_in_its_place() {
    let mend = Policy { route: "POST /toys/{toy}/parts/{part}/mend", ..MAKE };
    let path = |policy: Policy, ids: &[&str]| policy.path(&ids.iter().map(ToString::to_string).collect::<Vec<_>>());

    assert_eq!(mend.method(), "POST");
    assert_eq!(path(mend, &["7", "lid"]).unwrap(), "/toys/7/parts/lid/mend");
    assert_eq!(path(MAKE, &[]).unwrap(), "/toys");
    for (policy, ids) in [(mend, &[][..]), (mend, &["7"]), (mend, &["7", "lid", "8"]), (MAKE, &["7"])] {
        let error = path(policy, ids).unwrap_err();
        assert!(matches!(error, Error::ResourceNotNamed(route) if route == policy.route), "{ids:?}: {error:?}");
    }
}

#[tokio::test]
async fn the_ids_of_a_resource_count_in_their_order() {
    let workshop = Workshop::open();
    let mend = Policy { route: "POST /toys/{toy}/parts/{part}/mend", scope: Scope::Resource, ..MAKE };
    let send = async |ids: &[&str]| workshop.send_on(ids, ACCOUNT, mend, "key", "ball", make).await.unwrap();

    assert!(!send(&["1", "2"]).await.is_replay());
    assert!(!send(&["2", "1"]).await.is_replay());
    assert!(send(&["1", "2"]).await.is_replay());

    for scope in ["POST /toys/1/parts/2/mend", "POST /toys/2/parts/1/mend"] {
        assert_eq!(count(&workshop.url, &format!("idempotency_keys WHERE scope = '{scope}'")), 1, "{scope}");
    }
}

/// If a handler forgot an id, all resources would share one key space. So the crate answers 500, and the body does not
/// run.
#[tokio::test]
async fn a_handler_that_does_not_name_its_resource_does_nothing() {
    let workshop = Workshop::open();
    let paint = Policy { route: "POST /toys/{id}/paint", scope: Scope::Resource, ..MAKE };
    for (policy, ids) in [(paint, &[][..]), (paint, &["1", "2"]), (MAKE, &["1"])] {
        let answer = workshop.send_on(ids, ACCOUNT, policy, "key", "ball", make).await;
        assert!(matches!(answer, Err(ToyError::Idempotency(Error::ResourceNotNamed(_)))), "{answer:?}");
    }
    assert_eq!((workshop.toys(), workshop.records()), (0, 0));
}

#[tokio::test]
async fn one_account_never_meets_anothers_keys() {
    let workshop = Workshop::open();
    let send = |account| workshop.send_on(&[], Uuid::from_u128(account), MAKE, "key", "ball", make);

    let answers = [send(1).await.unwrap(), send(2).await.unwrap()];

    assert!(answers.iter().all(|answer| !answer.is_replay()));
    assert_ne!(answers[0].body, answers[1].body);
    assert_eq!(workshop.toys(), 2);
}

#[tokio::test]
async fn a_request_whose_record_expired_runs_again() {
    let workshop = Workshop::open();
    let first = workshop.make("key").await;
    workshop.expire("key");

    let again = workshop.send(MAKE, "key", "another toy", make).await.unwrap();

    assert!(!again.is_replay());
    assert_ne!(again.body, first.body);
    assert_eq!((workshop.toys(), workshop.records()), (2, 1));
    assert_eq!(count(&workshop.url, "idempotency_keys WHERE expires_at > now()"), 1);
}

#[tokio::test]
async fn a_record_of_a_later_releases_fingerprint_is_never_replayed_or_overwritten() {
    let workshop = Workshop::open();
    workshop.make("key").await;
    execute(&workshop.url, "UPDATE idempotency_keys SET fingerprint_version = 3");
    let runs = Runs::default();
    let counted = runs.clone();

    let answer = workshop.send(MAKE, "key", "ball", move |conn, toy| {
        counted.is_first();
        make(conn, toy)
    });

    let answer = answer.await;
    assert!(matches!(answer, Err(ToyError::Idempotency(Error::UnknownFingerprint(3)))), "{answer:?}");
    assert_eq!(runs.so_far(), 0);
}

#[tokio::test]
async fn a_time_to_live_may_be_as_long_as_the_type_allows() {
    const FOR_EVER: Policy = Policy { success_ttl: Duration::MAX, ..MAKE };
    let workshop = Workshop::open();

    let first = workshop.send(FOR_EVER, "key", "ball", make).await.unwrap();
    let retry = workshop.send(FOR_EVER, "key", "ball", make).await.unwrap();

    assert_eq!((first.status, retry.is_replay(), retry.reply()), (201, true, first.reply()));
}
