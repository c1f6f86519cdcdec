//! The crash matrix: the real binary crashes at every boundary of a charge and of a refund, and starts again. In half of the
//! tests a client retries, in the other half only the resolver works. In both cases the money moves once, and all books agree.

use serde_json::json;

use crate::app::Answer;
use crate::binary::Replica;
use crate::paying::{AMOUNT, Sandbox, UNITS, until_final};
use crate::support::{connect, count, eventually, fresh_database};

/// Every boundary, in the order of a request. The names are failpoints in `src/`.
const POINTS: [&str; 9] = [
    "before-claim",
    "after-claim",
    "before-commit-1",
    "after-commit-1",
    "before-call",
    "after-call",
    "before-commit-2",
    "after-commit-2",
    "before-answer",
];

/// After a crash at these points nothing is committed, so without a retry the request has no effect.
const NOTHING_COMMITTED: [&str; 3] = ["before-claim", "after-claim", "before-commit-1"];

/// The API's database, a gateway with another database, and the request that will crash.
struct Scene {
    database: String,
    sandbox: Sandbox,
    path: String,
    body: serde_json::Value,
}

impl Scene {
    /// An order, and the request that pays it.
    async fn of_a_charge() -> Self {
        let (database, sandbox) = (fresh_database(), Sandbox::start());
        let order = Replica::start(&database, &sandbox.url).pending_order().await;
        let body = json!({"order_id": order, "payment_method": "pm_card_visa"});
        Self { database, sandbox, path: "/v1/charges".to_owned(), body }
    }

    /// A paid order, and the request that refunds it.
    async fn of_a_refund() -> Self {
        let (database, sandbox) = (fresh_database(), Sandbox::start());
        let charge = Replica::start(&database, &sandbox.url).paid_charge().await;
        Self { database, sandbox, path: format!("/v1/charges/{charge}/refunds"), body: json!({}) }
    }

    fn start(&self) -> Replica {
        Replica::start(&self.database, &self.sandbox.url)
    }

    async fn send(&self, replica: &Replica, key: &str) -> Answer {
        replica.post(&self.path, key, self.body.clone()).await
    }

    /// Sends the request to a process that crashes at `point`, ends the leases, and starts another process.
    async fn crash_at(&self, point: &str) -> Replica {
        let mut doomed = Replica::start_to_crash_at(point, &self.database, &self.sandbox.url);
        let request = doomed.request("POST", &self.path).header("Idempotency-Key", "crashed").json(&self.body);
        assert!(request.send().await.is_err(), "a crash answers nothing");
        assert!(!doomed.end().await.success());
        doomed.let_leases_end();
        self.start()
    }

    async fn retry(&self, replica: &Replica) -> Answer {
        until_final(async || self.send(replica, "crashed").await).await
    }

    fn count(&self, what: &str) -> i64 {
        count(&self.database, what)
    }

    async fn until_resolved(&self) {
        eventually("no charge or refund is processing", || {
            self.count("charges WHERE status = 'processing'") + self.count("refunds WHERE status = 'processing'") == 0
        })
        .await;
    }

    /// Asserts that every retry gets the first final answer, and that the resource has the same body.
    async fn assert_answered_for_good(&self, replica: &Replica) {
        let first = self.retry(replica).await.expect(201);
        let resource = replica.get(first.header("Location").unwrap()).await.expect(200);
        assert_eq!(first.body, resource.body);
        let again = self.send(replica, "crashed").await.expect(201);
        assert!(again.is_replay());
        assert_eq!((&again.body, again.header("Location")), (&first.body, first.header("Location")));
        assert_eq!(self.count("idempotency_keys WHERE status = 202"), 0);
    }

    /// Asserts that there is one charge, one capture, a paid order and its entitlement, and that no other key can pay the order.
    async fn assert_paid_once(&self, replica: &Replica) {
        self.assert_answered_for_good(replica).await;
        self.send(replica, "another").await.expect_problem(409, "order-not-payable");
        assert_eq!(self.sandbox.captures(), 1);
        assert_eq!(self.count(&format!("charges WHERE status = 'succeeded' AND amount = {AMOUNT}")), 1);
        assert_eq!(self.count("charges"), 1);
        assert_eq!(self.count("orders WHERE status = 'paid'"), 1);
        assert_eq!(self.count(&format!("entitlements WHERE units = {UNITS} AND revoked_at IS NULL")), 1);
        assert_eq!(self.count("entitlements"), 1);
        for event in ["charge.succeeded", "order.paid", "entitlement.granted"] {
            assert_eq!(replica.events(event), 1, "{event}");
        }
    }

    /// Asserts that the API and the gateway have one refund, the order is refunded and its entitlement revoked, and no other key
    /// can refund more.
    async fn assert_refunded_once(&self, replica: &Replica) {
        self.assert_answered_for_good(replica).await;
        self.send(replica, "another").await.expect_problem(409, "charge-not-refundable");
        assert_eq!((self.sandbox.captures(), self.sandbox.refunds()), (1, 1));
        assert_eq!(self.count(&format!("refunds WHERE status = 'succeeded' AND amount = {AMOUNT}")), 1);
        assert_eq!(self.count("refunds"), 1);
        assert_eq!(self.count("charges WHERE amount_refunded = amount"), 1);
        assert_eq!(self.count("orders WHERE status = 'refunded'"), 1);
        assert_eq!(self.count("entitlements WHERE revoked_at IS NULL"), 0);
        for event in ["refund.succeeded", "order.refunded", "entitlement.revoked"] {
            assert_eq!(replica.events(event), 1, "{event}");
        }
    }
}

#[tokio::test]
async fn a_charge_that_crashed_anywhere_is_finished_once_by_a_retry() {
    for point in POINTS {
        println!("at {point}");
        let scene = Scene::of_a_charge().await;
        let replica = scene.crash_at(point).await;
        scene.retry(&replica).await.expect(201);
        scene.assert_paid_once(&replica).await;
    }
}

#[tokio::test]
async fn a_charge_that_crashed_anywhere_is_finished_once_without_a_retry() {
    for point in POINTS {
        println!("at {point}");
        let scene = Scene::of_a_charge().await;
        let replica = scene.crash_at(point).await;
        scene.until_resolved().await;
        if NOTHING_COMMITTED.contains(&point) {
            assert_eq!((scene.count("charges"), scene.sandbox.captures()), (0, 0));
            assert_eq!(scene.count("orders WHERE status = 'pending'"), 1);
        } else {
            assert_eq!(scene.sandbox.captures(), 1);
            scene.assert_paid_once(&replica).await;
        }
    }
}

#[tokio::test]
async fn a_refund_that_crashed_anywhere_is_finished_once_by_a_retry() {
    for point in POINTS {
        println!("at {point}");
        let scene = Scene::of_a_refund().await;
        let replica = scene.crash_at(point).await;
        scene.retry(&replica).await.expect(201);
        scene.assert_refunded_once(&replica).await;
    }
}

#[tokio::test]
async fn a_refund_that_crashed_anywhere_is_finished_once_without_a_retry() {
    for point in POINTS {
        println!("at {point}");
        let scene = Scene::of_a_refund().await;
        let replica = scene.crash_at(point).await;
        scene.until_resolved().await;
        if NOTHING_COMMITTED.contains(&point) {
            assert_eq!((scene.count("refunds"), scene.sandbox.refunds()), (0, 0));
            assert_eq!(scene.count("charges WHERE amount_refunded = 0"), 1);
        } else {
            assert_eq!(scene.sandbox.refunds(), 1);
            scene.assert_refunded_once(&replica).await;
        }
    }
}

#[tokio::test]
async fn a_database_restored_from_before_the_charge_takes_no_money_twice() {
    let scene = Scene::of_a_charge().await;
    let restored = Scene { database: copy_of(&scene.database), ..scene };
    let lost = Replica::start(&scene.database, &restored.sandbox.url);
    let charge = restored.send(&lost, "crashed").await.expect(201).id();
    lost.refund("refund", &charge, Some(1000)).await.expect(201);
    drop(lost);

    let replica = restored.start();
    restored.assert_paid_once(&replica).await;
}

/// A copy of a database that nobody is connected to.
fn copy_of(database: &str) -> String {
    let copy = format!("{database}_restored");
    let name = |url: &str| url.rsplit('/').next().unwrap().to_owned();
    let admin = database.replace(&name(database), "postgres");
    let sql = format!("CREATE DATABASE {} TEMPLATE {}", name(&copy), name(database));
    diesel::connection::SimpleConnection::batch_execute(&mut connect(&admin), &sql).unwrap();
    copy
}
