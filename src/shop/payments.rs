//! Payments: the two endpoints that call the gateway, and the gateway as the crate `external-calls` needs it.
//!
//! This is the second pattern in use. A handler shows its first transaction. [`Payments`] defines how a call is sent,
//! looked up and applied, for charges and refunds alike. The crate does the rest.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web::{Bytes, Data};
use diesel::pg::PgConnection;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::db::Db;
use crate::http::problems::{
    CARD_DECLINED, CHARGE_NOT_REFUNDABLE, GATEWAY_FAILED, INVALID_REQUEST, KEY_EXPIRED, NOT_FOUND, ORDER_NOT_PAYABLE,
    PAYMENT_IN_PROGRESS, REFUND_EXCEEDS_CHARGE,
};
use crate::http::{Account, ApiError, Endpoint, Id, Keyed, endpoint};
use crate::process::failpoint;
use crate::shop::charges::{self, CREATE_CHARGE, Charge, ChargeCall, NewCharge};
use crate::shop::refunds::{self, CREATE_REFUND, NewRefund, Refund, RefundCall};
use external_calls::{self, CallError, ExternalSystem, Limits, MadeBy, Sent, Started, Step};
use idempotency::{Answer, Policy, Reply};
use stripe_gateway::{End, Gateway, Outcome};

/// Resolves charges and refunds.
pub type Resolver = external_calls::Resolver<Payments, Db>;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        endpoint(__path_create_charge, create_charge).keyed(CREATE_CHARGE).decides([
            &CARD_DECLINED,
            &GATEWAY_FAILED,
            &INVALID_REQUEST,
            &NOT_FOUND,
            &ORDER_NOT_PAYABLE,
            &PAYMENT_IN_PROGRESS,
            &KEY_EXPIRED,
        ]),
        endpoint(__path_create_refund, create_refund).keyed(CREATE_REFUND).decides([
            &GATEWAY_FAILED,
            &INVALID_REQUEST,
            &NOT_FOUND,
            &CHARGE_NOT_REFUNDABLE,
            &REFUND_EXCEEDS_CHARGE,
            &PAYMENT_IN_PROGRESS,
            &KEY_EXPIRED,
        ]),
    ]
}

/// `POST /v1/charges`: 201 if the charge succeeded, 402 if it was declined, 202 while the outcome is unknown.
///
/// # Errors
/// 404: no such order. 409 order-not-payable, payment-in-progress, idempotency-key-expired. 422: the gateway can't express the
/// amount. The errors of the idempotency key.
#[utoipa::path(post, path = "/v1/charges", operation_id = "createCharge", tag = "Charges", summary = "Create a charge",
    description = "Pays the whole of a pending order. The answer is 201 if the payment succeeded, 402 if it was declined, and 202 \
        while its outcome is not known.",
    request_body = NewCharge,
    responses((status = 201, body = Charge, description = "The charge succeeded"), (status = 202, body = Charge, description = "The charge is processing")))]
pub async fn create_charge(
    account: Account,
    request: Keyed<NewCharge>,
    resolver: Data<Resolver>,
) -> Result<Answer, ApiError> {
    resolver
        .run(CREATE_CHARGE, account.id, request, |conn, new, made_by| {
            let (charge, call) = charges::insert(conn, made_by, new)?;
            Ok(Started { call: Call::Charge(call), location: charges::location(charge.id), body: json(&charge)? })
        })
        .await
}

/// `POST /v1/charges/{id}/refunds`: 201 if the refund succeeded, 402 if the gateway refused, 202 while the outcome is unknown.
///
/// # Errors
/// 404: no such charge. 409 charge-not-refundable, refund-exceeds-charge, payment-in-progress, idempotency-key-expired. The
/// errors of the idempotency key.
#[utoipa::path(post, path = "/v1/charges/{id}/refunds", operation_id = "createRefund", tag = "Refunds", summary = "Create a refund",
    description = "Refunds a part of a charge, or all that is left of it. The answer is 202 while the outcome is not known. A full \
        refund revokes what the payment granted.",
    params(Id),
    request_body = Option<NewRefund>,
    responses((status = 201, body = Refund, description = "The refund succeeded"), (status = 202, body = Refund, description = "The refund is processing")))]
pub async fn create_refund(
    account: Account,
    charge: Id,
    request: Keyed<NewRefund>,
    resolver: Data<Resolver>,
) -> Result<Answer, ApiError> {
    resolver
        .run(CREATE_REFUND, account.id, request.on(charge.0), move |conn, new, made_by| {
            let (refund, call) = refunds::insert(conn, made_by, charge.0, new)?;
            Ok(Started { call: Call::Refund(call), location: refunds::location(refund.id), body: json(&refund)? })
        })
        .await
}

fn json<T: Serialize>(body: &T) -> Result<Bytes, ApiError> {
    Ok(Bytes::from(serde_json::to_vec(body)?))
}

/// A call to the gateway, as it is stored with its external call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Call {
    /// For a charge.
    Charge(ChargeCall),
    /// For a refund.
    Refund(RefundCall),
}

impl Call {
    /// What is sent.
    pub(super) fn sent(&self) -> stripe_gateway::Call<'_> {
        match self {
            Self::Charge(call) => stripe_gateway::Call::Payment(&call.payment),
            Self::Refund(call) => stripe_gateway::Call::Refund(&call.refund),
        }
    }
}

/// The gateway, as the crate `external-calls` sees it.
#[derive(Clone)]
pub struct Payments(pub Arc<dyn Gateway>);

impl ExternalSystem for Payments {
    type Call = Call;
    type Outcome = Outcome;
    type Error = ApiError;

    /// Gateways (Stripe, for example) keep keys for at least 24 h. The hour less covers clocks that differ, and the
    /// time until the call arrives.
    const KEY_LIFETIME: Duration = Duration::from_secs(23 * 60 * 60);

    const LIMITS: Limits = stripe_gateway::LIMITS;

    fn policy(&self, call: &Call) -> Policy {
        match call {
            Call::Charge(_) => CREATE_CHARGE,
            Call::Refund(_) => CREATE_REFUND,
        }
    }

    async fn send(&self, reference: &str, call: &Call) -> Result<Outcome, CallError> {
        self.0.send(reference, call.sent()).await
    }

    async fn look_up(&self, sent: &Sent, call: &Call) -> Result<Option<Outcome>, CallError> {
        self.0.look_up(sent, call.sent()).await
    }

    fn refused(&self, _: &Call, _: u16, code: Option<&str>) -> Outcome {
        Outcome { gateway_id: None, end: End::Failed { code: code.map(str::to_owned) } }
    }

    fn apply(
        &self,
        conn: &mut PgConnection,
        account_id: Uuid,
        call: &Call,
        outcome: &Outcome,
    ) -> Result<Reply, ApiError> {
        match call {
            Call::Charge(charge) => charges::apply(conn, account_id, charge, outcome),
            Call::Refund(refund) => refunds::apply(conn, account_id, refund, outcome),
        }
    }

    fn pending(&self, conn: &mut PgConnection, account_id: Uuid, call: &Call) -> Result<Bytes, ApiError> {
        match call {
            Call::Charge(charge) => json(&charges::find(conn, account_id, charge.charge_id)?),
            Call::Refund(refund) => json(&refunds::find(conn, account_id, refund.refund_id)?),
        }
    }

    fn reached(&self, _: &MadeBy, attempt: Option<i32>, step: Step) {
        let point = match step {
            Step::Received => "before-claim",
            Step::Claimed => "after-claim",
            Step::Begun => "after-commit-1",
            // This point and `given-back` are only for a listener. No process ends there.
            Step::Leased => "leased",
            Step::Sending => "before-call",
            Step::Called => "after-call",
            Step::Applied => "before-commit-2",
            Step::Recorded => "after-commit-2",
            Step::GivenBack => "given-back",
            Step::Answering => "before-answer",
        };
        failpoint::passed(point, attempt);
    }

    fn carried<T>(work: impl Future<Output = T> + Send + 'static) -> impl Future<Output = T> + Send + 'static {
        let work = failpoint::carried(work);
        #[cfg(feature = "otel")]
        let work = opentelemetry::trace::FutureExt::with_current_context(work);
        work
    }
}
