//! `external_calls::find_outcome` with the HTTP client against a real sandbox.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use external_calls::{CallError, Next, StillUnknown};
use stripe_gateway::{Call, End, Gateway as _, Key, Outcome, Refund, Stripe};
use uuid::Uuid;

use crate::{DAY, Sandbox, end_of, find_outcome, fresh_reference, look_up, payment, sent};

fn declined(code: &str) -> End {
    End::Declined { decline_code: code.to_owned() }
}

#[tokio::test]
async fn each_card_that_answers_is_known_at_once() {
    let sandbox = Sandbox::start();
    let gateway = sandbox.gateway();
    for (card, end, in_the_books) in [
        ("pm_card_visa", End::Succeeded, "succeeded"),
        ("pm_card_slow", End::Succeeded, "succeeded"),
        ("pm_card_gateway_error", End::Succeeded, "succeeded"),
        ("pm_card_visa_chargeDeclined", declined("generic_decline"), "requires_payment_method"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", declined("insufficient_funds"), "requires_payment_method"),
        ("pm_card_chargeDeclinedExpiredCard", declined("expired_card"), "requires_payment_method"),
        ("pm_card_threeDSecure2Required", declined("authentication_required"), "requires_payment_method"),
    ] {
        let (reference, payment) = (fresh_reference(), payment(4900, card));
        assert_eq!(look_up(&gateway, &reference, &payment).await, Ok(None), "{card}");
        for look_first in [false, false, true] {
            assert_eq!(end_of(&gateway, &reference, &payment, look_first).await, Ok(end.clone()), "{card}");
        }
        assert_eq!(look_up(&gateway, &reference, &payment).await, Ok(Some(end)), "{card}");
        assert_eq!(sandbox.statuses(&reference).await, [in_the_books], "{card}");
    }
}

#[tokio::test]
async fn an_unknown_card_is_refused_with_its_code_and_a_stored_error_is_only_looked_up() {
    let sandbox = Sandbox::start();
    let gateway = sandbox.gateway();
    let refused = end_of(&gateway, &fresh_reference(), &payment(500, "pm_card_unknown"), false).await;
    assert_eq!(refused, Ok(End::Failed { code: Some("resource_missing".to_owned()) }));

    let reference = fresh_reference();
    let unknown = end_of(&gateway, &reference, &payment(500, "pm_card_sticky_error"), false).await.unwrap_err();
    assert_eq!(unknown.error, CallError::ServerError { status: 500, retry_after: None, stored: true });
    assert_eq!(unknown.next, Next::Look { id: None });
}

#[tokio::test]
async fn a_lost_reply_is_unknown_after_one_call_and_known_by_the_next() {
    let sandbox = Sandbox::start();
    let gateway = sandbox.gateway();
    let (reference, payment) = (fresh_reference(), payment(4900, "pm_card_lost_reply"));

    let begun = Instant::now();
    let first = end_of(&gateway, &reference, &payment, false).await;
    assert!(matches!(first, Err(StillUnknown { error: CallError::NoAnswer { .. }, .. })), "{first:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "the call was repeated after no answer: {:?}", begun.elapsed());

    assert_eq!(end_of(&gateway, &reference, &payment, false).await, Ok(End::Succeeded));
    assert_eq!(sandbox.statuses(&reference).await, ["succeeded"]);
}

#[tokio::test]
async fn after_the_gateway_forgot_the_key_a_look_prevents_a_second_payment() {
    // The worst gateway: it forgets each key at once.
    let sandbox = Sandbox::start_with(Duration::ZERO, "127.0.0.1:0".parse().unwrap());
    let gateway = sandbox.gateway();
    let (reference, payment) = (fresh_reference(), payment(4900, "pm_card_visa"));

    let first = end_of(&gateway, &reference, &payment, true).await;
    assert_eq!(first, Ok(End::Succeeded), "the books have no payment, so the call is sent");
    assert_eq!(end_of(&gateway, &reference, &payment, true).await, Ok(End::Succeeded));
    assert_eq!(sandbox.statuses(&reference).await, ["succeeded"]);

    // Without a look, the second payment happens.
    assert_eq!(end_of(&gateway, &reference, &payment, false).await, Ok(End::Succeeded));
    assert_eq!(sandbox.statuses(&reference).await, ["succeeded", "succeeded"]);
}

#[tokio::test]
async fn a_call_that_overlaps_is_unknown_and_not_refused() {
    let sandbox = Sandbox::start();
    let gateway = sandbox.gateway();
    let (reference, payment) = (fresh_reference(), payment(4900, "pm_card_slow"));

    let (slow, overlapping) = tokio::join!(end_of(&gateway, &reference, &payment, false), async {
        sandbox.until_paid(&reference).await;
        end_of(&gateway, &reference, &payment, false).await
    });
    assert_eq!(slow, Ok(End::Succeeded));
    let error = CallError::Later { status: 409, retry_after: None };
    assert_eq!(overlapping, Err(StillUnknown { error, unanswered: true, next: Next::Send }));
}

#[tokio::test]
async fn a_gateway_that_is_down_is_unknown_at_once() {
    // This port was free a moment ago, so nobody listens on it.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = Stripe::new(&format!("http://{free}/"), &Key::of_sandbox()).unwrap();
    for look_first in [false, true] {
        let begun = Instant::now();
        let found = end_of(&gateway, &fresh_reference(), &payment(500, "pm_card_visa"), look_first).await;
        assert!(matches!(found, Err(StillUnknown { error: CallError::NoAnswer { .. }, .. })), "{found:?}");
        assert!(begun.elapsed() < Duration::from_secs(1));
    }
}

#[tokio::test]
async fn a_payment_begun_while_the_gateway_was_down_succeeds_once_it_is_up() {
    let sandbox = Sandbox::start();
    let (gateway, addr) = (sandbox.gateway(), sandbox.addr);
    let (before, during, payment) = (fresh_reference(), fresh_reference(), payment(4900, "pm_card_visa"));
    assert_eq!(end_of(&gateway, &before, &payment, false).await, Ok(End::Succeeded));
    sandbox.kill().await;
    assert!(end_of(&gateway, &during, &payment, false).await.is_err());

    let sandbox = Sandbox::start_with(DAY, addr);
    for reference in [&before, &during] {
        assert_eq!(end_of(&gateway, reference, &payment, false).await, Ok(End::Succeeded));
        assert_eq!(sandbox.statuses(reference).await, ["succeeded"]);
    }
}

#[tokio::test]
async fn a_refund_is_found_and_a_refund_above_the_rest_has_failed() {
    let sandbox = Sandbox::start();
    let gateway = sandbox.gateway();
    let payment_intent = sandbox.paid(4900).await;
    let refund = |amount| Refund {
        account_id: Uuid::nil(),
        payment_intent: payment_intent.clone(),
        amount,
        currency: "EUR".to_owned(),
    };
    let (reference, part) = (fresh_reference(), refund(4000));
    let mut found = Vec::new();
    for look_first in [false, true, false] {
        found.push(find_outcome(&gateway, &reference, Call::Refund(&part), look_first).await.unwrap());
    }
    found.push(gateway.look_up(&sent(&reference), Call::Refund(&part)).await.unwrap().unwrap());
    let books = sandbox.book("/v1/refunds", &reference).await;
    assert_eq!(books.len(), 1);
    let gateway_id = Some(books[0]["id"].as_str().unwrap().to_owned());
    assert_eq!(found, vec![Outcome { gateway_id, end: End::Succeeded }; 4]);

    let over = find_outcome(&gateway, &fresh_reference(), Call::Refund(&refund(901)), false).await;
    assert_eq!(over, Ok(Outcome { gateway_id: None, end: End::Failed { code: None } }));
}

/// For example, the database was restored to a time before the first payment, and the key was used for another order.
#[tokio::test]
async fn a_reference_used_again_for_another_amount_moves_no_money_and_a_person_must_look() {
    let sandbox = Sandbox::start();
    let gateway = sandbox.gateway();
    let (reference, other) = (fresh_reference(), payment(4901, "pm_card_visa"));
    end_of(&gateway, &reference, &payment(4900, "pm_card_visa"), false).await.unwrap();

    let sent = end_of(&gateway, &reference, &other, false).await.unwrap_err();
    assert!(matches!(sent, StillUnknown { error: CallError::OtherCall { .. }, next: Next::Park, .. }), "{sent:?}");
    let looked = end_of(&gateway, &reference, &other, true).await.unwrap_err();
    assert!(matches!(looked.error, CallError::NoAnswer { .. }), "{looked:?}");
    assert_eq!(sandbox.statuses(&reference).await, ["succeeded"]);
}
