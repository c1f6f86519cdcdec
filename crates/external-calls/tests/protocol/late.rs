// SPDX-License-Identifier: MIT OR Apache-2.0
//! Retries after the key's record is gone: a key that once made a payment never makes another.

use serde_json::json;

use crate::lifted::Response;
use crate::office::{Office, json_of};
use crate::provider::Does;
use crate::support::connect;
use idempotency::sweep;

const EXPIRE: &str = "UPDATE idempotency_keys SET expires_at = now() - interval '1 second'";

/// Every way to lose a record.
const LOSSES: [&str; 3] = ["deleted", "expired", "swept"];

fn lose_records(office: &Office, how: &str) {
    office.execute(if how == "deleted" { "DELETE FROM idempotency_keys" } else { EXPIRE });
    if how == "swept" {
        assert!(sweep(&mut connect(&office.url)).unwrap().deleted > 0);
    }
}

fn assert_expired(late: &Response, fine: i64) {
    assert_eq!((late.status, late.is_replay()), (409, false), "{late:?}");
    assert_eq!(json_of(late)["resource"], json!(format!("/fines/{fine}")), "{late:?}");
    assert!(late.header("Idempotency-Expires").is_none() && late.header("Retry-After").is_none());
}

/// The body would fail, because the fine is already paid. But the reply is about the key, not the fine.
#[tokio::test]
async fn a_late_retry_with_the_same_body_names_what_the_key_made() {
    for how in LOSSES {
        let office = Office::open();
        let fine = office.fine("AB-1");
        assert_eq!(office.pay("k", fine).await.status, 201);
        lose_records(&office, how);

        for _ in 0..2 {
            assert_expired(&office.pay("k", fine).await, fine);
        }

        assert_eq!((office.provider.books().len(), office.count("external_calls")), (1, 1), "{how}");
        assert_eq!(office.count("idempotency_keys WHERE expires_at > now()"), 0, "{how}: the refusal was stored");
    }
}

/// The other body would succeed, because its fine is unpaid.
#[tokio::test]
async fn a_late_retry_with_another_body_pays_nothing_either() {
    for how in LOSSES {
        let office = Office::open();
        let (fine, other) = (office.fine("AB-1"), office.fine("AB-2"));
        assert_eq!(office.pay("k", fine).await.status, 201);
        lose_records(&office, how);

        for _ in 0..2 {
            assert_expired(&office.pay("k", other).await, fine);
        }

        assert_eq!((office.provider.books().len(), office.count("external_calls")), (1, 1), "{how}");
        assert_eq!(office.status(other), "unpaid", "{how}: writes of the body stayed");
        assert_eq!(office.pay("another-key", other).await.status, 201, "{how}");
    }
}

#[tokio::test]
async fn a_late_retry_of_a_payment_in_flight_names_it_and_sends_nothing() {
    let office = Office::open();
    let fine = office.unknown_payment("k", Does::PayAndLose).await;
    office.execute("DELETE FROM idempotency_keys");

    assert_expired(&office.pay("k", fine).await, fine);

    assert_eq!(office.provider.sendings().len(), 1);
}

#[tokio::test]
async fn late_retries_at_once_are_all_refused() {
    let office = Office::open();
    let (fine, other) = (office.fine("AB-1"), office.fine("AB-2"));
    assert_eq!(office.pay("k", fine).await.status, 201);
    office.execute(EXPIRE);
    let another = office.another_process();

    let late = futures_util::future::join_all((0..10).map(|n| {
        let process = if n % 2 == 0 { &office } else { &another };
        process.pay("k", other)
    }));

    for answer in late.await {
        // A retry that meets the key in flight in the other process gets Retry-After.
        if answer.header("Retry-After").is_none() {
            assert_expired(&answer, fine);
        }
    }
    assert_eq!((office.provider.books().len(), office.status(other).as_str()), (1, "unpaid"));
}

#[tokio::test]
async fn a_key_that_only_failed_is_free_once_its_record_is_gone() {
    let office = Office::open();
    let (paid, unpaid) = (office.fine("AB-1"), office.fine("AB-2"));
    assert_eq!(office.pay("first", paid).await.status, 201);
    assert_eq!(office.pay("k", paid).await.status, 409);
    office.execute(EXPIRE);

    assert_eq!(office.pay("k", unpaid).await.status, 201);
}
