//! Events, as the webhook gets them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use actix_web::web::{self, Data};
use actix_web::{App, HttpResponse, HttpServer};
use sandbox_gateway::Webhook;
use serde_json::Value;
use stripe_shared::event::EventType;
use stripe_shared::{Error, Event, PaymentIntent, Refund};

use crate::sandbox::{Sandbox, read};

type Mail = Arc<Mutex<Vec<String>>>;

async fn receive(mail: Data<Mail>, body: String) -> HttpResponse {
    mail.lock().unwrap().push(body);
    HttpResponse::Ok().finish()
}

/// A receiver of events: its URL, and what came.
fn receiver() -> (String, Mail) {
    let mail = Mail::default();
    let shared = Data::new(Arc::clone(&mail));
    let server = HttpServer::new(move || App::new().app_data(shared.clone()).default_service(web::to(receive)));
    let server = server.workers(1).disable_signals().bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", server.addrs()[0]);
    tokio::spawn(server.run());
    (url, mail)
}

#[tokio::test]
async fn each_kind_of_event_carries_its_object() {
    let (url, mail) = receiver();
    let sandbox = Sandbox::start_with(Some(Webhook { url, secret: "whsec_any".to_owned() }));
    let _: Error = sandbox.pay("pm_card_visa_chargeDeclined", 402).await;
    for card in ["pm_card_pendingRefund", "pm_card_refundFail"] {
        let intent = sandbox.paid(card).await;
        let _: Refund = sandbox.post("/v1/refunds", &[("payment_intent", &*intent)], 200).await;
    }
    test_database::eventually("seven events", || mail.lock().unwrap().len() == 7).await;

    let mut kinds = BTreeMap::<String, usize>::new();
    for body in mail.lock().unwrap().iter() {
        let event: Event = read(body);
        assert!(event.api_version.as_deref().is_some_and(|version| version == sandbox_gateway::STRIPE_VERSION));
        let object = serde_json::from_str::<Value>(body).unwrap()["data"]["object"].to_string();
        match event.type_ {
            EventType::PaymentIntentSucceeded | EventType::PaymentIntentPaymentFailed => {
                drop(read::<PaymentIntent>(&object));
            }
            _ => drop(read::<Refund>(&object)),
        }
        *kinds.entry(event.type_.to_string()).or_default() += 1;
    }
    let kind = |name: &str, times| (name.to_owned(), times);
    let told = [
        kind("payment_intent.payment_failed", 1),
        kind("payment_intent.succeeded", 2),
        kind("refund.created", 2),
        kind("refund.failed", 1),
        kind("refund.updated", 1),
    ];
    assert_eq!(kinds, BTreeMap::from(told));
}
