// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which signatures of an event count, and which call an event is about.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use stripe_gateway::webhook::{BadSignature, Secrets, WrongSecrets, call_of};
use uuid::Uuid;

const NOW: u64 = 1_800_000_000;

const BODY: &str = r#"{"amount": 1}"#;

fn v1(secret: &str, time: u64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{time}.{body}").as_bytes());
    let hex = mac.finalize().into_bytes().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    format!("v1={hex}")
}

#[test]
fn only_a_fresh_signature_over_this_body_counts() {
    let secrets = Secrets::parse("whsec_old, whsec_new").unwrap();
    let check = |header: &str| secrets.check(header, BODY.as_bytes(), UNIX_EPOCH + Duration::from_secs(NOW));
    let (right, other) = (v1("whsec_new", NOW, BODY), v1("whsec_other", NOW, BODY));
    let at = |time: u64| format!("t={time},{}", v1("whsec_old", time, BODY));
    let after = |wrong: usize| format!("t={NOW},{}{right}", format!("{other},").repeat(wrong));
    for good in [
        at(NOW),
        at(NOW - 300),
        at(NOW + 300),
        format!("t={NOW},v0=abc,{right},v1=zz"),
        format!("{right},t={NOW}"),
        after(7),
    ] {
        assert_eq!(check(&good), Ok(()), "{good}");
    }
    for bad in [
        String::new(),
        format!("t={NOW},{other}"),
        right.clone(),
        format!("t={NOW},v1="),
        format!("t={NOW}"),
        format!("t=soon,{right}"),
        format!("t={},{right}", NOW - 1),
        format!("t={NOW},{}", v1("whsec_new", NOW, "{}")),
        format!("t={NOW},v0{}", right.trim_start_matches("v1")),
        at(NOW - 301),
        at(NOW + 301),
        // A ninth signature is not read.
        after(8),
    ] {
        assert_eq!(check(&bad), Err(BadSignature), "{bad}");
    }
    assert_eq!(Secrets::default().check(&at(NOW), BODY.as_bytes(), SystemTime::now()), Err(BadSignature));
}

#[test]
fn secrets_are_one_or_two_in_stripes_form_and_are_never_shown() {
    for right in ["whsec_a", "whsec_a,whsec_b", " whsec_a , whsec_b "] {
        let secrets = Secrets::parse(right).unwrap();
        assert_eq!(secrets.first(), Some("whsec_a"));
        assert!(!format!("{secrets:?}").contains("whsec"), "{secrets:?}");
    }
    for wrong in ["", "whsec_", "sk_test_a", "whsec_a b", "whsec_a,", "whsec_a,whsec_b,whsec_c"] {
        assert_eq!(Secrets::parse(wrong), Err(WrongSecrets), "{wrong}");
    }
}

#[test]
fn an_event_names_its_call_by_metadata_of_our_form() {
    let (account, reference) = (Uuid::from_u128(7), "0a".repeat(32));
    let named = |metadata: Value| call_of(json!({"data": {"object": {"metadata": metadata}}}).to_string().as_bytes());
    let ours = json!({"account": account, "reference": reference, "of_the_client": 1});
    assert_eq!(named(ours), Some((account, reference.clone())));
    for of_others in [
        Value::Null,
        json!({}),
        json!({"account": account}),
        json!({"reference": reference}),
        json!({"account": "7", "reference": reference}),
        json!({"account": account, "reference": "order 7"}),
        json!({"account": account, "reference": format!("{reference}0a")}),
        json!({"account": account, "reference": reference.replace('a', "g")}),
        json!({"account": account, "reference": 7}),
    ] {
        assert_eq!(named(of_others.clone()), None, "{of_others}");
    }
    assert_eq!(call_of(b"{}"), None);
    assert_eq!(call_of(b"no JSON"), None);
}
