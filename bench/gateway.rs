//! A gateway double without a database: every capture succeeds at once, and the double remembers nothing.
//!
//! With the sandbox gateway, the throughput of charges includes the sandbox's own tables on the same machine. With this double,
//! the bench measures the API's own work. The double can't answer `GET /captures`, so use it only for loads without faults.
//!
//! ```sh
//! cargo run --release --example gateway-double -- 18082
//! ```

use actix_web::http::StatusCode;
use actix_web::web::{Json, post};
use actix_web::{App, HttpResponse, HttpServer};
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct Capture {
    reference: String,
    amount: i64,
    currency: String,
}

async fn capture(capture: Json<Capture>) -> HttpResponse {
    let Capture { reference, amount, currency } = capture.into_inner();
    HttpResponse::build(StatusCode::CREATED).json(json!({
        "reference": reference, "amount": amount, "currency": currency, "outcome": "succeeded",
    }))
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::args().nth(1).ok_or("usage: gateway-double PORT")?.parse()?;
    let server = HttpServer::new(|| App::new().route("/captures", post().to(capture))).workers(1);
    Ok(server.bind(("127.0.0.1", port))?.run().await?)
}
