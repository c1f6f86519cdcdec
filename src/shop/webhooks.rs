//! The gateway's webhook. An event is a hint: it only makes the resolver look now. Nothing in it is trusted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use chrono::Utc;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use uuid::Uuid;

use crate::db::Db;
use crate::http::ApiError;
use crate::http::problems::{MALFORMED_REQUEST, NOT_FOUND, OVERLOADED};
use crate::shop::ledger::{Ledger, Ours};
use crate::shop::payments::{Call, Resolver};
use crate::shop::status::PaymentStatus;
use external_calls::{CallError, ExternalSystem as _, Hinted, Sent};
use idempotency::read_body;
use stripe_gateway::End;
use stripe_gateway::webhook::{BadSignature, Secrets, call_of};

/// How many events may use the database at once. A flood of events waits here, not in the queue for connections, where
/// it would delay the account's charges. An event takes milliseconds, so four at once are hundreds a second.
static HINTS: Semaphore = Semaphore::const_new(4);

/// How long an event waits. Stripe waits for some ten seconds, and redelivers what is refused.
const HINT_WITHIN: Duration = Duration::from_secs(5);

/// How many events about resolved calls are compared with the gateway at once. A flood of events must not keep the
/// gateway from answering about charges. Stripe redelivers what is refused.
static COMPARISONS: Semaphore = Semaphore::const_new(4);

/// How often the gateway and the database have differed about a resolved charge or refund since the process started.
pub static DIFFERENCES: AtomicU64 = AtomicU64::new(0);

/// `POST /webhooks/stripe`: 200 for every signed event.
///
/// # Errors
/// 400 malformed-request for a bad signature. 404 if no secret is configured. 503 if the event can't be checked now.
pub async fn stripe(
    request: HttpRequest,
    body: Payload,
    secrets: Data<Secrets>,
    resolver: Data<Resolver>,
    db: Data<Db>,
) -> Result<HttpResponse, ApiError> {
    if secrets.is_empty() {
        return Err(ApiError::new(&NOT_FOUND, "this server has no secret for the gateway's events"));
    }
    let body = read_body(&request, body.into_inner()).await?;
    let mut signatures = request.headers().get_all("Stripe-Signature");
    let signature = match (signatures.next(), signatures.next()) {
        (Some(one), None) => one.to_str().unwrap_or_default(),
        _ => "",
    };
    secrets.check(signature, &body, SystemTime::now()).map_err(|bad: BadSignature| {
        log::warn!("an event of the gateway was refused: {bad}");
        ApiError::new(&MALFORMED_REQUEST, bad.to_string())
    })?;
    if let Some((account_id, reference)) = call_of(&body) {
        let hinted = {
            let _turn = timeout(HINT_WITHIN, HINTS.acquire()).await.map_err(|_| later())?;
            resolver.hint(account_id, reference.clone()).await?
        };
        if let Hinted::Resolved(call) = hinted {
            compare(&resolver, &db, account_id, reference, call).await?;
        }
    }
    Ok(HttpResponse::Ok().finish())
}

fn later() -> ApiError {
    ApiError::new(&OVERLOADED, "the server can't check this event now: send it again later")
}

/// Asks the gateway about a resolved call. A difference is for a person: it changes nothing.
async fn compare(
    resolver: &Resolver,
    db: &Db,
    account_id: Uuid,
    reference: String,
    call: Call,
) -> Result<(), ApiError> {
    let _turn = COMPARISONS.try_acquire().map_err(|_| later())?;
    let ledger = Ledger { book: call.sent().book(), account_id };
    let name = reference.clone();
    let ours = db.read(account_id, move |conn| Ok::<_, ApiError>(ledger.by_reference(conn, &[&name])?.pop())).await?;
    let Some(Ours { id, status, gateway_id: outside_id, created_at: since, .. }) = ours else {
        return Err(ApiError::not_found("charge or refund"));
    };
    let location = ledger.location(id);
    let sent = Sent { reference, outside_id, since, until: Utc::now() };
    let (agrees, theirs) = match resolver.system().look_up(&sent, &call).await {
        Ok(Some(outcome)) => {
            let succeeded = outcome.end == End::Succeeded;
            (succeeded == (status == PaymentStatus::Succeeded), if succeeded { "succeeded" } else { "failed" })
        }
        // The gateway refused the call and created no object.
        Ok(None) => (status == PaymentStatus::Failed, "not there"),
        Err(CallError::Pending { .. }) => (false, "without an outcome"),
        Err(error) => {
            log::warn!("an event about {location} can't be checked: {error}");
            return Err(later());
        }
    };
    if !agrees {
        DIFFERENCES.fetch_add(1, Ordering::Relaxed);
        let ours = status.as_str();
        log::error!("{location} is {ours} here and {theirs} at the gateway: a person must look");
    }
    Ok(())
}
