//! A gateway double without a database: every payment succeeds at once, and nothing is remembered.
//!
//! With the sandbox gateway, the throughput of charges includes the sandbox's own tables on the same machine. With this
//! double, the bench measures the API's own work. It has no books, so use it only for loads without faults.
//!
//! ```sh
//! cargo run --release --example gateway-double -- 18082
//! ```

use actix_web::web::{Form, post};
use actix_web::{App, HttpResponse, HttpServer};
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct Payment {
    amount: i64,
    currency: String,
    #[serde(rename = "metadata[reference]")]
    reference: String,
}

async fn pay(payment: Form<Payment>) -> HttpResponse {
    let Payment { amount, currency, reference } = payment.into_inner();
    HttpResponse::Ok().json(json!({
        "id": format!("pi_{reference}"), "object": "payment_intent", "amount": amount, "currency": currency,
        "status": "succeeded", "metadata": {"reference": reference},
    }))
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::args().nth(1).ok_or("usage: gateway-double PORT")?.parse()?;
    let server = HttpServer::new(|| App::new().route("/v1/payment_intents", post().to(pay))).workers(1);
    Ok(server.bind(("127.0.0.1", port))?.run().await?)
}
