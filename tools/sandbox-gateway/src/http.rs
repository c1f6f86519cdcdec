//! The sandbox over HTTP: refuses overlapping calls, and delays or withholds answers.
//!
//! Guarantees: the answer is committed before this file delays or withholds the answer. So a client that gives up has lost the
//! answer, but the call has happened. A client of a real gateway must handle the same case.

use std::time::Duration;

use actix_web::body::BodyStream;
use actix_web::http::StatusCode;
use actix_web::http::header::ContentType;
use actix_web::web::{self, Data, Json, JsonConfig, Query};
use actix_web::{HttpRequest, HttpResponse};
use diesel::PgConnection;
use futures_util::stream;
use serde::Deserialize;

use super::Sandbox;
use super::books;
use super::calls::{Call, Capture, LONGEST_NAME, Refund};
use super::keys::{self, Delivery};
use super::refusal::Refusal;

/// How long `pm_card_slow` takes. A caller commonly waits 4 s for a call.
const SLOW: Duration = Duration::from_secs(3);

/// How long the connection of a lost reply stays open. Most callers give up long before. A caller without a time limit, for
/// example curl, is then cut off, as by a load balancer.
const LOST: Duration = Duration::from_secs(30);

/// The largest request body, in bytes. A call has some 300.
const BODY_LIMIT: usize = 16 * 1024;

#[derive(Deserialize)]
pub struct Filter {
    reference: Option<String>,
}

/// `POST /captures`
pub async fn capture(
    request: HttpRequest,
    body: Json<Capture>,
    sandbox: Data<Sandbox>,
) -> Result<HttpResponse, Refusal> {
    answer(&request, Call::Capture(body.into_inner()), sandbox).await
}

/// `POST /refunds`
pub async fn refund(request: HttpRequest, body: Json<Refund>, sandbox: Data<Sandbox>) -> Result<HttpResponse, Refusal> {
    answer(&request, Call::Refund(body.into_inner()), sandbox).await
}

/// `GET /captures`: the whole book, oldest first, or the lines of one reference.
pub async fn captures(filter: Query<Filter>, sandbox: Data<Sandbox>) -> Result<HttpResponse, Refusal> {
    let entries = sandbox.query(move |conn| Ok(books::captures(conn, filter.reference.as_deref())?)).await?;
    Ok(HttpResponse::Ok().json(entries))
}

/// `GET /refunds`: the whole book, oldest first, or the lines of one reference.
pub async fn refunds(filter: Query<Filter>, sandbox: Data<Sandbox>) -> Result<HttpResponse, Refusal> {
    let entries = sandbox.query(move |conn| Ok(books::refunds(conn, filter.reference.as_deref())?)).await?;
    Ok(HttpResponse::Ok().json(entries))
}

/// Carries out the call, or finds its stored answer. Then delivers the answer in the way of the payment method.
async fn answer(request: &HttpRequest, call: Call, sandbox: Data<Sandbox>) -> Result<HttpResponse, Refusal> {
    let key = idempotency_key(request)?;
    call.check()?;
    let place = sandbox.in_flight.enter(&key).ok_or(Refusal::Overlap)?;

    let key_ttl = sandbox.key_ttl;
    let answer = sandbox.query(move |conn| keys::carry_out(conn, &key, key_ttl, &call)).await?;
    match answer.delivery {
        Delivery::Prompt => {}
        Delivery::Slow => tokio::time::sleep(SLOW).await,
        Delivery::Lost => {
            // For the gateway, the call has ended and only the answer gets lost. So the next call of the key overlaps no call.
            drop(place);
            // In most cases the client leaves first, and the server drops this future.
            tokio::time::sleep(LOST).await;
            return Ok(hang_up());
        }
    }
    let status = StatusCode::from_u16(answer.status.unsigned_abs()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Ok(HttpResponse::build(status).content_type(ContentType::json()).body(answer.body))
}

/// Closes the connection without a byte: the body fails before its head is sent.
fn hang_up() -> HttpResponse {
    let gone = stream::iter([Err::<web::Bytes, _>(std::io::Error::other("the sandbox loses this reply"))]);
    HttpResponse::Ok().body(BodyStream::new(gone))
}

/// A body of the wrong shape is refused like any call that the gateway does not accept.
pub fn json() -> JsonConfig {
    JsonConfig::default().limit(BODY_LIMIT).error_handler(|error, _| Refusal::NotAccepted(error.to_string()).into())
}

fn idempotency_key(request: &HttpRequest) -> Result<String, Refusal> {
    let mut sent = request.headers().get_all("Idempotency-Key");
    let (Some(key), None) = (sent.next(), sent.next()) else {
        return Err(Refusal::Key);
    };
    let key = key.to_str().map_err(|_| Refusal::Key)?;
    let valid = (1..=LONGEST_NAME).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    if valid { Ok(key.to_owned()) } else { Err(Refusal::Key) }
}

impl Sandbox {
    /// Runs `work` with a connection, on a thread that may block. The work runs to its end, even if the caller leaves.
    #[expect(
        clippy::disallowed_methods,
        reason = "the sandbox stands for somebody else's server and shares nothing with ours"
    )]
    async fn query<T, F>(&self, work: F) -> Result<T, Refusal>
    where
        T: Send + 'static,
        F: FnOnce(&mut PgConnection) -> Result<T, Refusal> + Send + 'static,
    {
        let pool = self.pool.clone();
        web::block(move || work(&mut *pool.get().map_err(|_| Refusal::Busy)?)).await.map_err(|_| Refusal::Stopping)?
    }
}
