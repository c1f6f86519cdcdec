//! The sandbox over HTTP: refuses overlapping calls, and delays or withholds answers.
//!
//! Guarantees: the answer is committed before it is delayed or withheld. So a client that gives up has lost the answer,
//! but the call has happened. A client of Stripe must handle the same case.

use std::time::Duration;

use actix_web::body::BodyStream;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, ContentType, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::web::{self, Bytes, Data, Path};
use actix_web::{HttpRequest, HttpResponse, ResponseError as _, rt};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use diesel::PgConnection;
use futures_util::stream;

use super::calls::Call;
use super::form::Form;
use super::keys::{self, Delivery, Made};
use super::list::Listing;
use super::refusal::Refusal;
use super::{Sandbox, books, events, objects};

/// How long `pm_card_slow` takes. A caller commonly waits 4 s for a call.
const SLOW: Duration = Duration::from_secs(3);

/// How long the connection of a lost reply stays open. Most callers give up long before. One without a time limit, such
/// as curl, is then cut off, as by a load balancer.
const LOST: Duration = Duration::from_secs(30);

/// The largest request body, in bytes. A call has some 500, and full metadata 27,000.
pub const BODY_LIMIT: usize = 64 * 1024;

/// The longest idempotency key: Stripe's.
const LONGEST_KEY: usize = 255;

/// `POST /v1/payment_intents`
pub async fn pay(request: HttpRequest, body: Bytes, sandbox: Data<Sandbox>) -> Result<HttpResponse, Refusal> {
    let form = Form::parse(&body)?;
    let text = format!("{} {}", request.path(), form.canonical());
    answer(&request, text, Call::payment(form)?, sandbox).await
}

/// `POST /v1/refunds`
pub async fn refund(request: HttpRequest, body: Bytes, sandbox: Data<Sandbox>) -> Result<HttpResponse, Refusal> {
    let form = Form::parse(&body)?;
    let text = format!("{} {}", request.path(), form.canonical());
    answer(&request, text, Call::refund(form)?, sandbox).await
}

/// `GET /v1/payment_intents`
pub async fn payments(request: HttpRequest, sandbox: Data<Sandbox>) -> Result<HttpResponse, Refusal> {
    let listing = Listing::of(Form::parse(request.query_string().as_bytes())?, true)?;
    let page = sandbox.query(move |conn| books::payments(conn, &listing, objects::payment_intent)).await?;
    Ok(HttpResponse::Ok().json(page))
}

/// `GET /v1/refunds`
pub async fn refunds(request: HttpRequest, sandbox: Data<Sandbox>) -> Result<HttpResponse, Refusal> {
    let listing = Listing::of(Form::parse(request.query_string().as_bytes())?, false)?;
    let page = sandbox.query(move |conn| books::refunds(conn, &listing, objects::refund)).await?;
    Ok(HttpResponse::Ok().json(page))
}

/// `GET /v1/payment_intents/{id}`
pub async fn one_payment(id: Path<String>, sandbox: Data<Sandbox>) -> Result<HttpResponse, Refusal> {
    let intent = sandbox.query(move |conn| books::payment(conn, &id)).await?;
    Ok(HttpResponse::Ok().json(objects::payment_intent(&intent)))
}

/// `GET /v1/refunds/{id}`
pub async fn one_refund(id: Path<String>, sandbox: Data<Sandbox>) -> Result<HttpResponse, Refusal> {
    let refund = sandbox.query(move |conn| books::refund(conn, &id)).await?;
    Ok(HttpResponse::Ok().json(objects::refund(&refund)))
}

/// Anything else.
pub async fn nothing_here() -> Result<HttpResponse, Refusal> {
    Err(Refusal::NoRoute)
}

/// Carries out the call, or finds its stored answer, and then delivers the answer as the card demands.
async fn answer(
    request: &HttpRequest,
    text: String,
    call: Call,
    sandbox: Data<Sandbox>,
) -> Result<HttpResponse, Refusal> {
    let key = idempotency_key(request)?;
    let place = match &key {
        Some(key) => Some(sandbox.in_flight.enter(key).ok_or(Refusal::Overlap)?),
        None => None,
    };
    let (key_ttl, sent_key) = (sandbox.key_ttl, key.clone());
    let answer = sandbox.query(move |conn| keys::carry_out(conn, sent_key.as_deref(), key_ttl, &text, &call)).await?;
    if let Some(made) = answer.made {
        sandbox.tell(made);
    }
    match answer.delivery {
        Delivery::Prompt => {}
        Delivery::Slow => tokio::time::sleep(SLOW).await,
        Delivery::Lost => {
            // To the gateway the call has ended, and only its answer is lost. So the next call of the key does not
            // overlap it.
            drop(place);
            // Usually the client leaves first, and the server drops this future.
            tokio::time::sleep(LOST).await;
            return Ok(hang_up());
        }
    }
    let status = StatusCode::from_u16(answer.status.unsigned_abs()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    if let Some(key) = key {
        response.insert_header(("Idempotency-Key", key));
    }
    if answer.is_replay {
        response.insert_header(("Idempotent-Replayed", "true"));
    }
    if status.is_server_error() {
        response.insert_header(("Stripe-Should-Retry", if answer.is_stored { "false" } else { "true" }));
    }
    Ok(response.content_type(ContentType::json()).body(answer.body))
}

/// Closes the connection without a byte: the body fails before its head is sent.
fn hang_up() -> HttpResponse {
    let gone = stream::iter([Err::<web::Bytes, _>(std::io::Error::other("the sandbox loses this reply"))]);
    HttpResponse::Ok().body(BodyStream::new(gone))
}

fn idempotency_key(request: &HttpRequest) -> Result<Option<String>, Refusal> {
    let wrong =
        || Refusal::parameter("Idempotency-Key", None, "Idempotency-Key must be one header of 1 to 255 characters.");
    let mut sent = request.headers().get_all("Idempotency-Key");
    match (sent.next(), sent.next()) {
        (None, _) => Ok(None),
        (Some(key), None) => {
            let key = key.to_str().map_err(|_| wrong())?;
            let is_right = (1..=LONGEST_KEY).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
            if is_right { Ok(Some(key.to_owned())) } else { Err(wrong()) }
        }
        (Some(_), Some(_)) => Err(wrong()),
    }
}

/// Lets requests with a test key pass, and gives each answer an id.
pub async fn frame(
    request: ServiceRequest,
    next: Next<impl actix_web::body::MessageBody + 'static>,
) -> Result<ServiceResponse, actix_web::Error> {
    let is_open = request.path() == "/health" || has_test_key(&request);
    let mut response = if is_open {
        next.call(request).await?.map_into_boxed_body()
    } else {
        request.into_response(Refusal::Unauthorized.error_response())
    };
    let id = format!("req_{:016x}", fastrand::u64(..));
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert(HeaderName::from_static("request-id"), id);
    }
    response
        .headers_mut()
        .insert(HeaderName::from_static("stripe-version"), HeaderValue::from_static(super::STRIPE_VERSION));
    Ok(response)
}

/// `Bearer sk_test_..`, or `Basic` with the key as the user's name.
fn has_test_key(request: &ServiceRequest) -> bool {
    let Some(Ok(header)) = request.headers().get(AUTHORIZATION).map(HeaderValue::to_str) else { return false };
    match header.split_once(' ') {
        Some(("Bearer", key)) => key.starts_with("sk_test_"),
        Some(("Basic", text)) => BASE64_STANDARD.decode(text).is_ok_and(|user| user.starts_with(b"sk_test_")),
        _ => false,
    }
}

impl Sandbox {
    /// Sends the events of what a call created.
    fn tell(&self, made: Made) {
        let Some(webhook) = self.webhook.clone() else { return };
        let (client, pool) = (self.client.clone(), self.pool.clone());
        rt::spawn(async move {
            match made {
                Made::Payment(intent) => {
                    if let Some(event) = events::of_payment(&intent) {
                        events::deliver(client, webhook, event).await;
                    }
                }
                Made::Refund(refund) => {
                    events::deliver(client.clone(), webhook.clone(), events::of_refund(&refund)).await;
                    if refund.changes_later() {
                        tokio::time::sleep(books::LATER.to_std().unwrap_or_default()).await;
                        let now = query(pool, move |conn| books::refund(conn, &refund.id)).await;
                        if let Ok(refund) = now {
                            events::deliver(client, webhook, events::of_changed_refund(&refund)).await;
                        }
                    }
                }
            }
        });
    }

    async fn query<T, F>(&self, work: F) -> Result<T, Refusal>
    where
        T: Send + 'static,
        F: FnOnce(&mut PgConnection) -> Result<T, Refusal> + Send + 'static,
    {
        query(self.pool.clone(), work).await
    }
}

/// Runs `work` with a connection, on a thread that may block. The work runs to its end, even if the caller leaves.
#[expect(
    clippy::disallowed_methods,
    reason = "the sandbox stands for somebody else's server and shares nothing with ours"
)]
async fn query<T, F>(pool: super::Connections, work: F) -> Result<T, Refusal>
where
    T: Send + 'static,
    F: FnOnce(&mut PgConnection) -> Result<T, Refusal> + Send + 'static,
{
    web::block(move || work(&mut *pool.get().map_err(|_| Refusal::Busy)?)).await.map_err(|_| Refusal::Stopping)?
}
