//! The gateway's webhook: an event is a hint. A signed one makes the resolver look, and nothing in it is trusted.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use diesel::connection::SimpleConnection;
use hmac::{Hmac, KeyInit, Mac};
use idempotency::Address;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::app::{Answer, App, Client, WEBHOOK_SECRET, send};
use crate::binary::Replica;
use crate::gateways::{away, held};
use crate::paying::Sandbox;
use crate::scripted::{Does, Scripted};
use crate::support::{connect, eventually, eventually_blocked, fresh_database};

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn v1(secret: &str, time: u64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{time}.{body}").as_bytes());
    let hex = mac.finalize().into_bytes().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    format!("v1={hex}")
}

pub fn signed(body: &str) -> String {
    format!("t={},{}", now(), v1(WEBHOOK_SECRET, now(), body))
}

/// An event that claims a success of this call.
pub fn event(account: &str, reference: &str) -> Value {
    json!({
        "id": "evt_1", "object": "event", "type": "payment_intent.succeeded", "created": now(),
        "data": {"object": {
            "id": "pi_lie", "object": "payment_intent", "status": "succeeded", "amount": 1, "currency": "usd",
            "metadata": {"reference": reference, "account": account},
        }},
    })
}

impl Client {
    pub async fn deliver(&self, body: &str, signatures: &[String]) -> Answer {
        let mut request = self.anonymous("POST", "/webhooks/stripe").header("Content-Type", "application/json");
        for signature in signatures {
            request = request.header("Stripe-Signature", signature);
        }
        send(request.body(body.to_owned())).await
    }

    /// Redelivers what is refused for now, as Stripe does: another test may flood this process.
    async fn deliver_until_taken(&self, body: &str) -> Answer {
        for _ in 0..100 {
            let answer = self.deliver(body, &[signed(body)]).await;
            if answer.status != 503 {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("an event is refused for ten seconds");
    }

    async fn hint(&self, account: &str, reference: &str) -> Answer {
        let body = event(account, reference).to_string();
        self.deliver_until_taken(&body).await
    }

    /// The id of an account of the demo.
    pub fn account(&self, name: &str) -> String {
        let accounts = idempotent_payments::http::auth::accounts(&mut connect(&self.database)).unwrap();
        accounts.into_iter().find(|account| account.name == name).unwrap().id.to_string()
    }
}

pub fn reference(answer: &Answer) -> String {
    answer.json()["reference"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn only_one_fresh_signature_over_this_body_counts() {
    let app = App::start_without_resolver(fresh_database(), away());
    let body = event(&app.account("acme"), &"a".repeat(64)).to_string();
    app.deliver(&body, &[signed(&body)]).await.expect(200);
    let long_ago = now() - 310;
    for bad in [
        vec![],
        vec![format!("t={},{}", now(), v1("whsec_other", now(), &body))],
        vec![format!("t={long_ago},{}", v1(WEBHOOK_SECRET, long_ago, &body))],
        vec![signed(&body.replace("usd", "eur"))],
        vec![signed(&body), signed(&body)],
    ] {
        let refused = app.deliver(&body, &bad).await.expect_problem(400, "malformed-request");
        assert!(!refused.body.contains(WEBHOOK_SECRET), "{refused:?}");
    }
}

#[tokio::test]
async fn without_a_secret_there_is_no_webhook() {
    let (database, sandbox) = (fresh_database(), Sandbox::start());
    let replica = Replica::start(&database, &sandbox.url);
    replica.hint("acme", "x").await.expect_problem(404, "not-found");
}

#[tokio::test]
async fn with_two_secrets_events_of_both_count() {
    let (database, sandbox) = (fresh_database(), Sandbox::start());
    let secrets = [("GATEWAY_WEBHOOK_SECRET", "whsec_old,whsec_test")];
    let replica = Replica::start_logging(&database, &sandbox.url, &secrets);
    let body = event(&replica.account("acme"), "x").to_string();
    for (secret, status) in [("whsec_old", 200), ("whsec_test", 200), ("whsec_older", 400)] {
        let signature = format!("t={},{}", now(), v1(secret, now(), &body));
        replica.deliver(&body, &[signature]).await.expect(status);
    }
    assert!(!replica.log().join("\n").contains("whsec_"));
}

#[tokio::test]
async fn an_event_makes_a_waiting_charge_due_and_the_books_decide() {
    let (app, sandbox) = (App::start_without_resolver(fresh_database(), away()), Sandbox::start());
    let resolver = app.resolver(Arc::new(sandbox.gateway()));
    let order = app.pending_order().await;
    let unknown = app.pay("k", &order, "pm_card_visa_chargeDeclined").await.expect(202);
    app.put_off_leases();

    // The event lies: it says that the payment succeeded, with another amount.
    app.hint(&app.account("acme"), &reference(&unknown)).await.expect(200);

    assert_eq!(resolver.run_once(false).await.unwrap().resolved, 1, "the charge is not due");
    assert_eq!(app.count("charges WHERE failure_code = 'generic_decline'"), 1);
    assert_eq!((app.count("orders WHERE status = 'pending'"), sandbox.captures()), (1, 0));
}

#[tokio::test]
async fn an_event_of_a_lost_reply_resolves_the_charge_within_a_second_of_the_leases_end() {
    let gateway = Scripted::open();
    let app = App::start_without_resolver(fresh_database(), gateway.gateway());
    let background = tokio::spawn(app.resolver(gateway.gateway()).run_in_background());
    gateway.script("pm_card_lost_reply", [Does::CaptureAndLose]);
    let order = app.pending_order().await;
    let meanwhile = async {
        gateway.until_captured(1).await;
        let charge = app.get("/v1/charges").await.json()["data"][0].clone();
        let account = app.account("acme");
        for _ in 0..3 {
            app.hint(&account, charge["reference"].as_str().unwrap()).await.expect(200);
        }
        assert_eq!((gateway.sendings(), app.count("external_calls WHERE hinted AND leased")), (1, 1));
    };

    let (answer, ()) = tokio::join!(app.pay("k", &order, "pm_card_lost_reply"), meanwhile);

    answer.expect(202);
    let begun = Instant::now();
    eventually("the charge is resolved", || app.count("charges WHERE status = 'succeeded'") == 1).await;
    let took = begun.elapsed();
    println!("resolved {took:?} after the lease was given back");
    assert!(took < Duration::from_millis(1900), "it took {took:?}; without the event, at least two seconds");
    assert_eq!((gateway.captures(), app.events("charge.succeeded")), (1, 1));
    background.abort();
}

#[tokio::test]
async fn events_about_nothing_of_ours_are_accepted_and_change_nothing() {
    let app = App::start_without_resolver(fresh_database(), away());
    let order = app.pending_order().await;
    let unknown = app.pay("k", &order, "pm_card_visa").await.expect(202);
    app.put_off_leases();
    let (acme, globex, ours) = (app.account("acme"), app.account("globex"), reference(&unknown));

    let other_type = json!({"id": "evt_2", "object": "event", "type": "invoice.paid", "data": {"object": {"id": "in_1", "metadata": null}}});
    for body in [
        event(&globex, &ours).to_string(),
        event(&acme, &"0".repeat(64)).to_string(),
        event(&acme, "nul\u{0}").to_string(),
        event("nobody", &ours).to_string(),
        other_type.to_string(),
        "{}".to_owned(),
        "not JSON".to_owned(),
    ] {
        app.deliver(&body, &[signed(&body)]).await.expect(200);
    }

    assert_eq!(app.count("external_calls WHERE next_attempt_at > now() + interval '50 minutes' AND NOT hinted"), 1);
}

/// The event names a call whose row is not committed. It finds nothing, and the charge goes on.
#[tokio::test]
async fn an_event_before_our_own_commit_changes_nothing() {
    let app = App::start().await;
    let (acme, order) = (app.account("acme"), app.pending_order().await);
    let address = Address { account_id: acme.parse().unwrap(), scope: "account".into(), key: "k".into() };
    let mut holder = connect(&app.database);
    holder.batch_execute(&format!("BEGIN; SELECT FROM orders WHERE id = '{order}' FOR UPDATE")).unwrap();
    let meanwhile = async {
        eventually_blocked(&app.database, 1).await;
        app.hint(&acme, &address.reference()).await.expect(200);
        holder.batch_execute("COMMIT").unwrap();
    };

    let (paid, ()) = tokio::join!(app.pay("k", &order, "pm_card_visa"), meanwhile);

    assert_eq!(reference(&paid.expect(201)), address.reference());
    assert_eq!((app.captures(), app.count("external_calls WHERE attempts = 1 AND NOT hinted")), (1, 1));
}

#[tokio::test]
async fn events_after_the_outcome_change_nothing_in_any_order() {
    let app = App::start().await;
    let (acme, order) = (app.account("acme"), app.pending_order().await);
    let paid = app.pay("k", &order, "pm_card_visa").await.expect(201);
    let before = (app.events("charge.succeeded"), app.count("external_calls WHERE attempts = 1"));

    let succeeded = event(&acme, &reference(&paid)).to_string();
    let failed = succeeded.replace("payment_intent.succeeded", "payment_intent.payment_failed");
    for body in [&failed, &succeeded, &failed, &succeeded] {
        app.deliver_until_taken(body).await.expect(200);
    }

    assert_eq!((app.events("charge.succeeded"), app.count("external_calls WHERE attempts = 1")), before);
    assert_eq!(app.get(paid.header("Location").unwrap()).await.body, paid.body);
    assert_eq!(app.captures(), 1);
}

#[tokio::test]
async fn a_refund_that_fails_after_its_success_is_logged_and_counted_and_changes_nothing() {
    let (database, sandbox) = (fresh_database(), Sandbox::start());
    let secret = [("GATEWAY_WEBHOOK_SECRET", WEBHOOK_SECRET)];
    let replica = Replica::start_logging(&database, &sandbox.url, &secret);
    let (acme, order) = (replica.account("acme"), replica.pending_order().await);
    let charge = replica.pay("k", &order, "pm_card_refundFail").await.expect(201).id();
    let refund = replica.refund("r", &charge, Some(100)).await.expect(201);
    let differences = async || {
        let page = send(replica.anonymous("GET", "/metrics")).await.expect(200).body;
        let line = page.lines().find_map(|line| line.strip_prefix("gateway_differences_total ").map(str::to_owned));
        line.unwrap().parse::<f64>().unwrap()
    };
    replica.hint(&acme, &reference(&refund)).await.expect(200);
    assert!(differences().await.abs() < f64::EPSILON, "both agree at first");

    let mut seen = 0.0;
    for _ in 0..100 {
        replica.hint(&acme, &reference(&refund)).await.expect(200);
        seen = differences().await;
        if seen > 0.0 {
            break;
        }
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    assert!(seen >= 1.0);
    let told = replica.logged("a person must look").await;
    assert!(told.contains("ERROR") && told.contains(refund.header("Location").unwrap()), "{told}");
    assert_eq!(replica.get(refund.header("Location").unwrap()).await.body, refund.body);
}

/// A hint for a call that another holder has must not let a second holder in.
#[tokio::test]
async fn an_event_during_the_call_ends_no_lease() {
    let (gateway, hold) = held();
    let app = App::start_without_resolver(fresh_database(), gateway);
    let order = app.pending_order().await;
    let meanwhile = async {
        hold.until_called().await;
        let charge = app.get("/v1/charges").await.json()["data"][0].clone();
        app.hint(&app.account("acme"), charge["reference"].as_str().unwrap()).await.expect(200);
        assert_eq!(app.resolver(away()).run_once(false).await.unwrap().taken, 0);
        hold.let_go();
    };

    let (paid, ()) = tokio::join!(app.pay("k", &order, "pm_card_visa"), meanwhile);

    paid.expect(201);
}
