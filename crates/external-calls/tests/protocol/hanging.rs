// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls that hang do not hold up other external calls.

use std::time::{Duration, Instant};

use crate::fines::{ACCOUNT, ANOTHER_ACCOUNT};
use crate::office::Office;
use crate::provider::Does;
use crate::support::eventually;

/// Returns how long another external call waits while `hanging` calls hang. Each hanging external call has had
/// `attempts` attempts. The crate's own limits apply: a call hangs for 4 s, and the resolver looks every second.
async fn delay_beside(hanging: usize, attempts: i32) -> Duration {
    let office = Office::open_slow();
    for n in 0..hanging {
        office.unknown_payment(&format!("hangs-{n}"), Does::Answer(429)).await;
        office.provider.script(&format!("hangs-{n}"), [Does::HoldThenPay]);
    }
    office.execute(&format!("UPDATE external_calls SET attempts = {attempts}"));
    let other = office.unknown_payment("other", Does::Answer(429)).await;
    let before = office.provider.sendings().len();
    office.execute("UPDATE external_calls SET next_attempt_at = now() + interval '1 hour'");
    let background = tokio::spawn(office.resolver.clone().run_in_background());
    // At most half of the calls are for external calls that keep failing.
    let at_once = if attempts < 3 { hanging } else { hanging.min(32) };
    office.execute("UPDATE external_calls SET next_attempt_at = now() WHERE key <> 'other'");
    office.provider.until_sent(before + at_once).await;

    let begun = Instant::now();
    office.execute("UPDATE external_calls SET next_attempt_at = now() WHERE key = 'other'");
    eventually("the other external call is resolved", || office.status(other) == "paid").await;
    let delay = begun.elapsed();

    background.abort();
    assert_eq!(office.provider.books().len(), 1, "a hanging call has ended");
    delay
}

#[tokio::test]
async fn forty_hanging_calls_do_not_delay_another_external_call() {
    let alone = delay_beside(0, 1).await;
    let beside_first_tries = delay_beside(40, 1).await;
    let beside_what_keeps_failing = delay_beside(70, 3).await;

    let second = Duration::from_secs(1);
    println!("{alone:?}, {beside_first_tries:?}, {beside_what_keeps_failing:?}");
    assert!(beside_first_tries < alone + second, "{beside_first_tries:?} beside 40, {alone:?} alone");
    assert!(beside_what_keeps_failing < alone + second, "{beside_what_keeps_failing:?} beside 70, {alone:?} alone");
}

/// The other account's external call is not among the first 200 that are due, yet its account's turn comes first.
#[tokio::test]
async fn hanging_calls_of_one_account_do_not_delay_another_account() {
    let office = Office::open_slow();
    let other = office.fine_of(ANOTHER_ACCOUNT, "other");
    office.provider.script("other", [Does::Answer(429)]);
    assert_eq!(office.pay_as(ANOTHER_ACCOUNT, "other", other).await.status, 202);
    office.unknown_payment("hangs", Does::Answer(429)).await;
    office.execute(&format!(
        "INSERT INTO external_calls (account_id, reference, scope, key, request_id, call, location, next_attempt_at) \
         SELECT account_id, 'hangs-' || n, scope, 'hangs-' || n, request_id, call, location, now() \
         FROM external_calls, generate_series(1, 400) AS n WHERE account_id = '{ACCOUNT}'"
    ));
    office.provider.script("hangs", (0..400).map(|_| Does::HoldThenPay));
    let before = office.provider.sendings().len();
    office.execute(
        "UPDATE external_calls SET next_attempt_at = now() + interval '1 hour' WHERE key IN ('hangs', 'other')",
    );
    let background = tokio::spawn(office.resolver.clone().run_in_background());
    // One account leaves 16 of the 64 calls to the others.
    office.provider.until_sent(before + 48).await;

    let begun = Instant::now();
    office.execute("UPDATE external_calls SET next_attempt_at = now() WHERE key = 'other'");
    eventually("the other account's external call is resolved", || office.status(other) == "paid").await;
    let delay = begun.elapsed();

    background.abort();
    // Within two looks; a hanging call ends after four seconds.
    assert!(delay < Duration::from_millis(2500), "{delay:?}");
}

/// Requests make eight calls at once here, and those of one account six.
#[tokio::test]
async fn requests_of_one_account_make_a_bounded_number_of_calls_and_leave_some_to_another_account() {
    let office = Office::open();
    let pay = |n: usize| {
        let plate = format!("hangs-{n}");
        office.provider.script(&plate, [Does::HoldThenPay]);
        tokio::spawn(office.pay(&plate, office.fine(&plate)))
    };
    let requests: Vec<_> = (0..6).map(pay).collect();
    office.provider.until_sent(6).await;

    let seventh = office.fine("seventh");
    assert_eq!(office.pay("seventh", seventh).await.status, 202);
    assert_eq!(office.provider.sendings().len(), 6, "the seventh call went out");
    let other = office.fine_of(ANOTHER_ACCOUNT, "other");
    assert_eq!(office.pay_as(ANOTHER_ACCOUNT, "other", other).await.status, 201);

    for _ in 0..6 {
        office.provider.release();
    }
    for request in requests {
        request.await.unwrap();
    }
    office.let_leases_end();
    office.run_once().await;
    assert_eq!((office.count("receipts"), office.provider.books().len()), (8, 8));
    let last = office.fine("last");
    assert_eq!(office.pay("last", last).await.status, 201, "the places are free again");
}
