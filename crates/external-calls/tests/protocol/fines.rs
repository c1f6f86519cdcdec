// SPDX-License-Identifier: MIT OR Apache-2.0
//! A toy service that uses both crates: fines, and a call to a provider for the payment of a fine.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::Bytes;
use actix_web::{HttpResponse, ResponseError};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text, Uuid as SqlUuid};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::hook::{At, Hook};
use crate::traces;
use external_calls::{CallError, ExternalSystem, Limits, MadeBy, Sent, Started, Step};
use idempotency::{self, Body, Failure, Failures, FieldError, Policy, Reply, Scope, hours, seconds};

/// A fine is paid once. Each written outcome leaves a receipt, so that a test sees a second outcome.
pub const TABLES: &str = "CREATE TABLE fines (account_id uuid NOT NULL, id bigserial, plate text NOT NULL, \
     status text NOT NULL DEFAULT 'unpaid', note text NOT NULL DEFAULT '', PRIMARY KEY (account_id, id)); \
     CREATE TABLE receipts (account_id uuid NOT NULL, fine_id bigint NOT NULL, outcome text NOT NULL)";

/// The service can't record the payment of this fine: it answers with an error of its own, which is a defect.
pub const UNRECORDABLE: &str = "UN-1";
/// The service records the payment of this fine with a reply that is not final, which is a defect too.
pub const NEVER_FINAL: &str = "NF-1";

pub const ACCOUNT: Uuid = Uuid::from_u128(1);
pub const ANOTHER_ACCOUNT: Uuid = Uuid::from_u128(2);

/// A duplicate does not wait for the outcome: a retry gets the current reply at once.
pub const PAY: Policy = Policy {
    route: "POST /payments",
    scope: Scope::Account,
    failures: Failures::CacheFailures { failure_ttl: seconds(600) },
    success_ttl: hours(1),
    wait: seconds(0),
};

/// Short, so that tests are fast, and long enough for a machine under load.
pub const QUICK: Limits = Limits {
    connect: Duration::from_millis(500),
    call: Duration::from_secs(1),
    quick_pause: Duration::from_millis(10),
    find_outcome: Duration::from_millis(2500),
    record: Duration::from_secs(2),
    handler: Duration::from_secs(3),
    lease: Duration::from_secs(5),
    max_attempts: 5,
    // Requests make eight at once.
    calls_at_once: 2,
    ..Limits::DEFAULT
};

/// The call, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    fine: i64,
    plate: String,
    cents: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Paid,
    Refused,
}

/// The provider, as the crate sees it. With `SLOW`, the crate's own time limits apply.
#[derive(Clone)]
pub struct Fines<const SLOW: bool = false> {
    url: String,
    http: reqwest::Client,
    hook: Hook,
}

impl<const SLOW: bool> Fines<SLOW> {
    /// Fines that are paid through the provider at this URL.
    pub fn at(url: &str, hook: Hook) -> Self {
        // This workspace builds reqwest with TLS but without a crypto provider, and no client can be built without one.
        // Installing it fails if another test did so first, which is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(Self::LIMITS.call).connect_timeout(Self::LIMITS.connect);
        Self { url: url.to_owned(), http: client.no_proxy().build().unwrap(), hook }
    }
}

impl<const SLOW: bool> ExternalSystem for Fines<SLOW> {
    type Call = Payment;
    type Outcome = Outcome;
    type Error = OfficeError;

    const KEY_LIFETIME: Duration = Duration::from_secs(23 * 60 * 60);
    const LIMITS: Limits = if SLOW { Limits::DEFAULT } else { QUICK };

    fn policy(&self, _: &Payment) -> Policy {
        PAY
    }

    async fn send(&self, reference: &str, call: &Payment) -> Result<Outcome, CallError> {
        let request = self.http.post(&self.url).header("Idempotency-Key", reference).json(call);
        let response = request.send().await.map_err(no_answer)?;
        let header = response.headers().get("Retry-After").map(|value| value.to_str().unwrap().parse().unwrap());
        let (status, retry_after) = (response.status().as_u16(), header.map(Duration::from_secs));
        match status {
            201 => Ok(Outcome::Paid),
            202 => Err(CallError::Pending { id: reference.chars().rev().collect() }),
            409 | 429 => Err(CallError::Later { status, retry_after }),
            410 => Err(CallError::OtherCall { reason: "410".to_owned() }),
            400..=499 => Err(CallError::Refused { status, code: None }),
            // This provider stores a 501, and nothing else.
            _ => Err(CallError::ServerError { status, retry_after, stored: status == 501 }),
        }
    }

    async fn look_up(&self, sent: &Sent, _: &Payment) -> Result<Option<Outcome>, CallError> {
        let Sent { reference, outside_id, .. } = sent;
        let request = self.http.get(format!("{}?reference={reference}", self.url));
        let books: Value = request.send().await.map_err(no_answer)?.json().await.map_err(no_answer)?;
        match outside_id {
            // The object has no outcome until it is in the books.
            Some(id) if books["payments"] == 0 && books["lost"] == false => Err(CallError::Pending { id: id.clone() }),
            _ => Ok((books["payments"] != 0).then_some(Outcome::Paid)),
        }
    }

    fn refused(&self, _: &Payment, _: u16, _: Option<&str>) -> Outcome {
        Outcome::Refused
    }

    fn apply(
        &self,
        conn: &mut PgConnection,
        account_id: Uuid,
        call: &Payment,
        outcome: &Outcome,
    ) -> Result<Reply, OfficeError> {
        let (status, http_status) = match outcome {
            _ if call.plate == UNRECORDABLE => return Err(OfficeError::NotPayable),
            Outcome::Paid if call.plate == NEVER_FINAL => ("paid", 202),
            Outcome::Paid => ("paid", 201),
            Outcome::Refused => ("unpaid", 402),
        };
        self.hook.reached(At::Apply);
        set_status(conn, account_id, call.fine, status)?;
        diesel::sql_query("INSERT INTO receipts (account_id, fine_id, outcome) VALUES ($1, $2, $3)")
            .bind::<SqlUuid, _>(account_id)
            .bind::<BigInt, _>(call.fine)
            .bind::<Text, _>(format!("{outcome:?}"))
            .execute(conn)?;
        let reply = Reply::json(http_status, &json!({"fine": call.fine, "outcome": format!("{outcome:?}")}))?;
        Ok(Reply { location: Some(location(call.fine)), ..reply })
    }

    fn pending(&self, conn: &mut PgConnection, account_id: Uuid, call: &Payment) -> Result<Bytes, OfficeError> {
        let fine = fine(conn, account_id, call.fine)?;
        Ok(Bytes::from(json!({"fine": call.fine, "status": fine.status, "note": fine.note}).to_string()))
    }

    fn reached(&self, made_by: &MadeBy, attempt: Option<i32>, step: Step) {
        if let Some(attempt) = attempt {
            traces::tell(&self.url, &made_by.reference, attempt, step);
        }
        self.hook.reached(At::Step(step));
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err asks for")]
fn no_answer(error: reqwest::Error) -> CallError {
    CallError::NoAnswer { reason: error.to_string() }
}

pub fn location(fine: i64) -> String {
    format!("/fines/{fine}")
}

#[derive(QueryableByName)]
struct Fine {
    #[diesel(sql_type = Text)]
    plate: String,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = Text)]
    note: String,
}

fn fine(conn: &mut PgConnection, account_id: Uuid, id: i64) -> Result<Fine, OfficeError> {
    let select = "SELECT plate, status, note FROM fines WHERE account_id = $1 AND id = $2 FOR UPDATE";
    let fine = diesel::sql_query(select).bind::<SqlUuid, _>(account_id).bind::<BigInt, _>(id);
    Ok(fine.get_result(conn)?)
}

fn set_status(conn: &mut PgConnection, account_id: Uuid, id: i64, status: &str) -> Result<usize, OfficeError> {
    let update = diesel::sql_query("UPDATE fines SET status = $3 WHERE account_id = $1 AND id = $2");
    let update = update.bind::<SqlUuid, _>(account_id).bind::<BigInt, _>(id).bind::<Text, _>(status);
    Ok(update.execute(conn)?)
}

/// The body of the first transaction: an unpaid fine becomes `paying`.
pub fn begin_payment(
    conn: &mut PgConnection,
    new: &NewPayment,
    made_by: &MadeBy,
) -> Result<Started<Payment>, OfficeError> {
    let Fine { plate, status, .. } = fine(conn, made_by.account_id, new.fine)?;
    match status.as_str() {
        "unpaid" => {}
        "paying" => return Err(OfficeError::InFlight),
        _ => return Err(OfficeError::NotPayable),
    }
    set_status(conn, made_by.account_id, new.fine, "paying")?;
    let body = Bytes::from(json!({"fine": new.fine, "status": "paying", "note": ""}).to_string());
    Ok(Started { call: Payment { fine: new.fine, plate, cents: 2000 }, location: location(new.fine), body })
}

/// The request body.
#[derive(Clone, Debug, Deserialize)]
pub struct NewPayment {
    fine: i64,
}

impl Body for NewPayment {
    fn parse(json: &Value) -> Result<Self, Vec<FieldError>> {
        Self::deserialize(json).map_err(|e| vec![FieldError { pointer: String::new(), detail: e.to_string() }])
    }
}

/// The service's error type.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OfficeError {
    #[error("the fine can't be paid")]
    NotPayable,
    #[error("the fine is being paid")]
    InFlight,
    #[error(transparent)]
    Idempotency(#[from] idempotency::Error),
    #[error("database: {0}")]
    Database(Arc<diesel::result::Error>),
}

impl From<diesel::result::Error> for OfficeError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Database(Arc::new(error))
    }
}

impl From<serde_json::Error> for OfficeError {
    fn from(error: serde_json::Error) -> Self {
        diesel::result::Error::SerializationError(error.into()).into()
    }
}

impl Failure for OfficeError {
    fn is_final(&self) -> bool {
        matches!(self, Self::NotPayable)
    }

    fn database_error(&self) -> Option<&diesel::result::Error> {
        match self {
            Self::Database(error) => Some(error),
            _ => None,
        }
    }

    fn reply(&self, instance: Uuid) -> Reply {
        Reply::json(409, &json!({"problem": self.to_string(), "instance": instance})).unwrap()
    }
}

impl ResponseError for OfficeError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::NotPayable | Self::InFlight => StatusCode::CONFLICT,
            Self::Idempotency(error) => error.status_code(),
            Self::Database(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn error_response(&self) -> HttpResponse {
        match self {
            Self::Idempotency(error) => error.error_response(),
            _ => HttpResponse::build(self.status_code()).body(self.to_string()),
        }
    }
}
