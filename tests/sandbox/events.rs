//! The sandbox's events: what it sends to its webhook, signed.

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use actix_web::web::{self, Bytes, Data};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use sandbox_gateway::{Config, Webhook};
use serde_json::Value;
use stripe_gateway::webhook::Secrets;

use crate::{DAY, Sandbox, database_url, fresh_reference, until};

type Mail = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A receiver that refuses the first delivery.
fn receiver() -> (String, Mail) {
    let mail = Mail::default();
    let shared = Arc::clone(&mail);
    let server =
        HttpServer::new(move || App::new().app_data(Data::new(Arc::clone(&shared))).default_service(web::to(receive)));
    let server = server.workers(1).disable_signals().bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", server.addrs()[0]);
    tokio::spawn(server.run());
    (url, mail)
}

async fn receive(mail: Data<Mail>, request: HttpRequest, body: Bytes) -> HttpResponse {
    let signature = request.headers().get("Stripe-Signature").unwrap().to_str().unwrap().to_owned();
    let mut mail = mail.lock().unwrap();
    mail.push((signature, body.to_vec()));
    if mail.len() == 1 { HttpResponse::ServiceUnavailable().finish() } else { HttpResponse::Ok().finish() }
}

#[tokio::test]
async fn events_are_signed_delivered_again_and_name_what_happened() {
    let (url, mail) = receiver();
    let webhook = Some(Webhook { url, secret: "whsec_sandbox".to_owned() });
    let bind = "127.0.0.1:0".parse().unwrap();
    let sandbox = Sandbox::run(Config { database_url: database_url(), bind, key_ttl: DAY, pool_size: 4, webhook });
    let kinds = || -> Vec<String> {
        let mail = mail.lock().unwrap();
        let kind = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap()["type"].as_str().unwrap().to_owned();
        mail.iter().map(|(_, body)| kind(body)).collect()
    };

    let intent = sandbox.pay(&fresh_reference(), 500, "pm_card_pendingRefund").await.id();
    until("the event is delivered again", async || kinds().len() == 2).await;
    sandbox.pay(&fresh_reference(), 500, "pm_card_visa_chargeDeclined").await;
    until("the decline is reported", async || kinds().len() == 3).await;
    sandbox.refund(&fresh_reference(), &intent, 500).await;
    until("the refund and its change are reported", async || kinds().len() == 5).await;

    let told = [
        "payment_intent.succeeded",
        "payment_intent.succeeded",
        "payment_intent.payment_failed",
        "refund.created",
        "refund.updated",
    ];
    assert_eq!(kinds(), told);
    let secrets = Secrets::parse("whsec_sandbox").unwrap();
    for (signature, body) in mail.lock().unwrap().iter() {
        secrets.check(signature, body, SystemTime::now()).unwrap();
    }
}
