// SPDX-License-Identifier: MIT OR Apache-2.0
//! Leases: an external call has one holder at a time, and a holder that slept past its lease writes nothing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use diesel::pg::PgConnection;
use tokio::sync::{Semaphore, oneshot};
use uuid::Uuid;

use crate::fines::QUICK;
use crate::hook::At;
use crate::lifted::{Db, Response};
use crate::office::Office;
use crate::provider::Does;
use crate::support::{count, eventually, execute};
use external_calls::{Counts, Resolver, Step};
use idempotency::{Database, Error, SingleFlight};
use idempotency_testing::Proxy;

/// Starts a payment. Its holder waits at the provider until the test releases the call.
async fn payment_in_flight(does: Does) -> (Office, i64, tokio::task::JoinHandle<Response>) {
    let office = Office::open();
    let fine = office.fine("AB-1");
    office.provider.script("AB-1", [does]);
    let request = tokio::spawn(office.pay("k", fine));
    office.provider.until_sent(1).await;
    (office, fine, request)
}

#[tokio::test]
async fn a_holder_that_slept_past_its_lease_writes_nothing_over_the_next_ones_outcome() {
    let (office, fine, request) = payment_in_flight(Does::HoldThenPay).await;
    office.let_leases_end();
    let another = office.another_process();
    assert_eq!(another.run_once().await.resolved, 1);

    office.provider.release();

    // The first holder answers with the outcome that the next holder recorded.
    assert_eq!(request.await.unwrap().status, 201);
    assert_eq!(office.count("external_calls WHERE attempts = 2"), 1);
    let counted = [&office, &another].map(|office| {
        let Counts { resolved, unknown, .. } = office.resolver.counts();
        (resolved.load(Ordering::SeqCst), unknown.load(Ordering::SeqCst))
    });
    assert_eq!(
        counted,
        [(0, 0), (1, 0)],
        "the first holder recorded nothing, and that says nothing about the provider"
    );
    office.assert_paid_once("k", fine).await;
}

#[tokio::test]
async fn a_holder_that_slept_past_its_lease_writes_nothing_while_the_next_holder_works() {
    let (office, fine, request) = payment_in_flight(Does::HoldThenPay).await;
    office.let_leases_end();
    office.provider.script("AB-1", [Does::HoldThenPay]);
    let another = office.another_process();
    let next = tokio::spawn(async move { another.run_once().await });
    office.provider.until_sent(2).await;

    office.provider.release();

    assert_eq!(request.await.unwrap().status, 202);
    assert_eq!((office.count("receipts"), office.status(fine).as_str()), (0, "paying"));
    assert_eq!(office.count("external_calls WHERE resolved_at IS NULL AND attempts = 2"), 1);
    office.provider.release();
    next.await.unwrap();
    office.let_leases_end();
    office.run_once().await;
    office.assert_paid_once("k", fine).await;
}

#[tokio::test]
async fn a_holder_that_lost_its_lease_and_fails_does_not_shorten_the_next_lease() {
    let (office, _, request) = payment_in_flight(Does::HoldThenAnswer(429)).await;
    office.let_leases_end();
    office.provider.script("AB-1", [Does::PayAndLose]);
    let another = office.another_process();
    let next = tokio::spawn(async move { another.run_once().await });
    office.provider.until_sent(2).await;

    office.provider.release();

    assert_eq!(request.await.unwrap().status, 202);
    // Had the first holder given back its lease, the external call would be due 2 s to 2.5 s later.
    let next_ones = "attempts = 2 AND next_attempt_at > now() + interval '3 seconds'";
    assert_eq!(office.count(&format!("external_calls WHERE {next_ones}")), 1);
    assert_eq!(next.await.unwrap().resolved, 0);
}

#[tokio::test]
async fn the_first_lease_and_the_next_last_as_long_as_the_limits_say() {
    let (office, _, request) = payment_in_flight(Does::HoldThenAnswer(429)).await;
    assert_eq!(office.count("external_calls WHERE next_attempt_at = created_at + interval '5 seconds'"), 1);
    office.let_leases_end();
    office.provider.script("AB-1", [Does::HoldThenAnswer(429)]);
    let another = office.another_process();
    let next = tokio::spawn(async move { another.run_once().await });
    office.provider.until_sent(2).await;
    // `unanswered_at` is the time at which the holder took the lease.
    let whole = "attempts = 2 AND next_attempt_at = unanswered_at + interval '5 seconds'";
    assert_eq!(office.count(&format!("external_calls WHERE {whole}")), 1);
    office.provider.release();
    office.provider.release();
    request.await.unwrap();
    next.await.unwrap();
}

#[tokio::test]
async fn only_one_holder_has_the_lease() {
    let (office, _, request) = payment_in_flight(Does::HoldThenPay).await;
    assert_eq!(office.another_process().run_once().await.taken, 0, "the request has the lease");
    office.let_leases_end();
    let (one, another) = (office.another_process(), office.another_process());

    let (one, another) = tokio::join!(one.run_once(), another.run_once());

    assert_eq!(one.taken + another.taken, 1);
    office.provider.release();
    assert_eq!(request.await.unwrap().status, 201);
    assert_eq!(office.count("receipts"), 1);
}

/// A pool: each piece of work waits until the test lets it run.
#[derive(Clone)]
struct Gated {
    db: Db,
    asked: Arc<AtomicUsize>,
    turns: Arc<Semaphore>,
}

impl Database for Gated {
    async fn run<T, E>(
        &self,
        account_id: Uuid,
        work: impl FnOnce(&mut PgConnection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.turns.acquire().await.unwrap().forget();
        self.db.run(account_id, work).await
    }

    fn single_flight(&self) -> &SingleFlight {
        self.db.single_flight()
    }
}

#[tokio::test]
async fn if_two_resolvers_see_a_due_external_call_only_one_takes_it() {
    let office = Office::open();
    office.unknown_payment("k", Does::Answer(429)).await;
    office.let_leases_end();
    let (asked, turns) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(1)));
    let gated = Gated { db: Db::open(&office.url, 2), asked: Arc::clone(&asked), turns: Arc::clone(&turns) };
    let late = Resolver::new(office.resolver.system().clone(), gated);
    let late = tokio::spawn(async move { late.run_once(false).await.unwrap() });
    eventually("the late resolver has seen the due external call", || asked.load(Ordering::SeqCst) == 2).await;
    // The other resolver takes the lease and gives it back without an outcome: the external call is not due for 4 s.
    office.provider.script("k", [Does::Answer(429)]);
    assert_eq!(office.run_once().await.taken, 1);

    turns.add_permits(100);

    assert_eq!(late.await.unwrap().taken, 0);
    assert_eq!((office.provider.sendings().len(), office.count("external_calls WHERE attempts = 2")), (2, 1));
}

/// If the holder sent its call now, the call would be younger than the row says. A refusal of the next holder's call could then
/// count while this call hangs.
#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_was_suspended_past_its_lease_does_not_send() {
    let office = Office::open();
    let fine = office.fine("AB-1");
    let url = office.url.clone();
    office.hook.once(At::Step(Step::Begun), move || {
        // The holder is suspended until the lease is over by the database's clock.
        while count(&url, "external_calls WHERE next_attempt_at > now()") > 0 {
            std::thread::yield_now();
        }
    });

    assert_eq!(office.pay("k", fine).await.status, 202);

    assert_eq!(office.provider.sendings().len(), 0);
    office.let_leases_end();
    assert_eq!(office.another_process().run_once().await.resolved, 1);
    office.assert_paid_once("k", fine).await;
}

/// After a lost COMMIT the holder reads its lease from the row. The lease began when the request came, not with that
/// read.
#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_lost_its_first_commit_and_was_suspended_past_its_lease_does_not_send() {
    let (direct, proxy) = (Office::open(), Arc::new(Proxy::start()));
    let office = Office::open_on(proxy.url(&direct.url), direct.provider.clone());
    let fine = office.fine("AB-1");
    let (hook, url) = (office.hook.clone(), direct.url.clone());
    office.hook.once(At::Step(Step::Claimed), move || {
        proxy.lose_answer_of_next_commit();
        hook.once(At::Step(Step::Begun), move || {
            while count(&url, "external_calls WHERE next_attempt_at > now()") > 0 {
                std::thread::yield_now();
            }
        });
    });

    assert_eq!(office.pay("k", fine).await.status, 202);

    // The holder notices that its lease is over, and gives the call back.
    office.resolver.shutdown().await;
    assert_eq!(office.provider.sendings().len(), 0);
    direct.let_leases_end();
    assert_eq!(direct.run_once().await.resolved, 1);
    direct.assert_paid_once("k", fine).await;
}

/// The lease ends after the fence and before the COMMIT. The fence's lock keeps the next holder out until then.
#[tokio::test]
async fn nobody_takes_the_next_lease_while_the_outcome_is_written() {
    let office = Office::open();
    let fine = office.fine("AB-1");
    let (behind_the_fence, arrived) = oneshot::channel();
    let (go_on, may_go_on) = mpsc::channel();
    let (hook, url) = (office.hook.clone(), office.url.clone());
    office.hook.once(At::Step(Step::Called), move || {
        execute(&url, "UPDATE external_calls SET next_attempt_at = now()");
        hook.once(At::Apply, move || {
            behind_the_fence.send(()).unwrap();
            may_go_on.recv_timeout(Duration::from_secs(10)).unwrap();
        });
    });
    let request = tokio::spawn(office.pay("k", fine));
    arrived.await.unwrap();

    let next = office.another_process().run_once().await;

    go_on.send(()).unwrap();
    assert_eq!((next.taken, office.provider.sendings().len()), (0, 1));
    assert_eq!(request.await.unwrap().status, 201);
    office.assert_paid_once("k", fine).await;
}

/// The outcome's transaction takes longer than a request may wait. It goes on after the request has its answer.
#[tokio::test]
async fn a_request_waits_no_longer_than_the_handlers_limit() {
    let office = Office::open();
    let fine = office.fine("AB-1");
    let (go_on, may_go_on) = mpsc::channel();
    office.hook.once(At::Apply, move || may_go_on.recv_timeout(Duration::from_secs(10)).unwrap());

    let begun = Instant::now();
    let answer = office.pay("k", fine).await;
    let took = begun.elapsed();

    assert_eq!(answer.status, 202);
    // The limit is 3 s, and the next longer one, the lease's, 5 s.
    assert!(took >= QUICK.handler && took < Duration::from_millis(4500), "{took:?}");
    go_on.send(()).unwrap();
    eventually("the outcome is written", || office.status(fine) == "paid").await;
    office.assert_paid_once("k", fine).await;
}
