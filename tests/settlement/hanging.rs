//! Calls that hang do not hold up other settlements.

use std::time::{Duration, Instant};

use crate::office::Office;
use crate::provider::Does;
use crate::support::eventually;

/// Returns how long another settlement waits while `hanging` calls hang. Each hanging settlement had `attempts` attempts before.
/// The module's own limits apply: a call hangs for 4 s, and the settler looks each second.
async fn delay_beside(hanging: usize, attempts: i32) -> Duration {
    let office = Office::open_slow();
    for n in 0..hanging {
        office.unknown_payment(&format!("hangs-{n}"), Does::Answer(429)).await;
        office.provider.script(&format!("hangs-{n}"), [Does::HoldThenPay]);
    }
    office.execute(&format!("UPDATE settlements SET attempts = {attempts}"));
    let other = office.unknown_payment("other", Does::Answer(429)).await;
    let before = office.provider.sendings().len();
    office.execute("UPDATE settlements SET next_attempt_at = now() + interval '1 hour'");
    let watch = tokio::spawn(office.settler.clone().watch());
    // At most half of the calls are for settlements that keep failing.
    let at_once = if attempts < 3 { hanging } else { hanging.min(32) };
    office.execute("UPDATE settlements SET next_attempt_at = now() WHERE key <> 'other'");
    office.provider.until_sent(before + at_once).await;

    let begun = Instant::now();
    office.execute("UPDATE settlements SET next_attempt_at = now() WHERE key = 'other'");
    eventually("the other settlement is settled", || office.status(other) == "paid").await;
    let delay = begun.elapsed();

    watch.abort();
    assert_eq!(office.provider.books().len(), 1, "a hanging call has ended");
    delay
}

#[tokio::test]
async fn forty_hanging_calls_do_not_delay_another_settlement() {
    let alone = delay_beside(0, 1).await;
    let beside_first_tries = delay_beside(40, 1).await;
    let beside_what_keeps_failing = delay_beside(70, 3).await;

    let second = Duration::from_secs(1);
    println!("{alone:?}, {beside_first_tries:?}, {beside_what_keeps_failing:?}");
    assert!(beside_first_tries < alone + second, "{beside_first_tries:?} beside 40, {alone:?} alone");
    assert!(beside_what_keeps_failing < alone + second, "{beside_what_keeps_failing:?} beside 70, {alone:?} alone");
}
