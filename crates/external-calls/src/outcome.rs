// SPDX-License-Identifier: MIT OR Apache-2.0
//! The outcome of a call: when to send, when to send again, when to look, and what counts as an outcome.
//!
//! Guarantees: [`find_outcome`] returns an outcome only if the external system has stated it. Everything else is
//! [`StillUnknown`], and the same call is tried again later. [`find_outcome`] ends within
//! [`Limits::find_outcome`](super::Limits::find_outcome).
//!
//! The dangerous answer is the refusal. "Refused, and the books are empty" seems to mean that nothing happened. But if an
//! earlier sending went unanswered, it may still arrive, and take effect after the refusal. So a refusal counts only if
//! every earlier sending was answered, or if the last unanswered one is long past.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use chrono::{DateTime, Utc};

use crate::{CallError, ExternalSystem};

/// What is known before a sending.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each one is a fact, and any of them may come with any other")]
pub struct Sending {
    /// The external system may have forgotten the key, so the key no longer prevents a second effect. The call is sent only if
    /// the external system doesn't have it, and only if no earlier sending may still arrive.
    pub look_first: bool,
    /// An earlier sending went unanswered, less than
    /// [`Limits::refusal_counts_after`](super::Limits::refusal_counts_after) ago.
    pub earlier_unanswered: bool,
    /// The call is looked up and not sent: an earlier answer named an object that has no outcome yet, or the external system has
    /// stored an error under the key.
    pub only_look: bool,
    /// At least two earlier leases sent the call. If it is put off again ([`CallError::Later`]), it is looked up: some
    /// systems keep answering a call that they have already carried out with the 409 of a call in flight, for as long
    /// as the key lives.
    pub sent_twice: bool,
    /// No sending begins after this time, when the lease is over: a holder that was suspended would send later than the
    /// call's row says, and a refusal could count too early. None if there is no lease.
    pub send_until: Option<Instant>,
}

/// What is known about the sendings of a call, for a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The call's name at the external system.
    pub reference: String,
    /// The id of the object that the call made there, once an answer named it.
    pub outside_id: Option<String>,
    /// No sending began before this time.
    pub since: DateTime<Utc>,
    /// No sending that went unanswered can have taken effect after this time.
    pub until: DateTime<Utc>,
}

/// The outcome is not known now. The call may or may not have taken effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the outcome is still unknown: {error}")]
pub struct StillUnknown {
    /// Why.
    pub error: CallError,
    /// Whether a sending got no answer that tells what became of it.
    pub unanswered: bool,
    /// What the next lease does.
    pub next: Next,
}

/// What the next lease does after an attempt without an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// It sends the call again, or looks if an answer has named an object. The attempt counts towards parking.
    Send,
    /// It only looks, for the object with this id if an answer named one. The attempt does not count towards parking.
    Look {
        /// The object's id at the external system.
        id: Option<String>,
    },
    /// Nothing: the external call is parked, and a person must look.
    Park,
}

impl StillUnknown {
    fn of(error: CallError, unanswered: bool) -> Self {
        let next = match &error {
            CallError::Pending { id } => Next::Look { id: Some(id.clone()) },
            CallError::OtherCall { .. } => Next::Park,
            _ => Next::Send,
        };
        Self { error, unanswered, next }
    }
}

/// Makes the call and finds its outcome, or looks the outcome up.
///
/// # Errors
/// [`StillUnknown`], at the latest after [`Limits::find_outcome`](super::Limits::find_outcome).
pub async fn find_outcome<O: ExternalSystem>(
    system: &O,
    sent: &Sent,
    call: &O::Call,
    sending: Sending,
) -> Result<O::Outcome, StillUnknown> {
    let limit = O::LIMITS.find_outcome;
    let found = tokio::time::timeout(limit, look_and_send(system, sent, call, sending)).await;
    found.unwrap_or_else(|_| {
        // A sending that was cut off is like a sending whose answer was lost.
        let error = CallError::NoAnswer { reason: format!("no outcome within {} s", limit.as_secs()) };
        Err(StillUnknown::of(error, !sending.only_look))
    })
}

async fn look_and_send<O: ExternalSystem>(
    system: &O,
    sent: &Sent,
    call: &O::Call,
    sending: Sending,
) -> Result<O::Outcome, StillUnknown> {
    if sending.look_first || sending.only_look {
        // If the look fails, nothing is sent.
        let unsent = |error| StillUnknown::of(error, false);
        if let Some(outcome) = system.look_up(sent, call).await.map_err(unsent)? {
            return Ok(outcome);
        }
        if sending.only_look {
            let (reason, next) = match sent.outside_id {
                // A person must look at an object that is gone, so the attempt counts.
                Some(_) => ("the object that an earlier answer named is not there", Next::Send),
                None => (
                    "the books don't have the call, and sending it again would bring the stored error",
                    Next::Look { id: None },
                ),
            };
            return Err(StillUnknown { next, ..unsent(CallError::NoAnswer { reason: reason.to_owned() }) });
        }
        if sending.earlier_unanswered {
            let reason = "an earlier sending may still arrive, and the key no longer stops a second one".to_owned();
            return Err(unsent(CallError::NoAnswer { reason }));
        }
    }
    let (error, unanswered) = match send_with_quick_repeats(system, &sent.reference, call, sending.send_until).await {
        Ok(outcome) => return Ok(outcome),
        Err(unknown) => (unknown.error, unknown.unanswered),
    };
    let unknown = |error| StillUnknown::of(error, unanswered);
    // The look must find what this sending did.
    let sent = &Sent { until: Utc::now() + O::LIMITS.refusal_counts_after, ..sent.clone() };
    match error {
        CallError::Later { .. } if sending.sent_twice => match system.look_up(sent, call).await {
            Ok(Some(outcome)) => Ok(outcome),
            Err(pending @ CallError::Pending { .. }) => Err(unknown(pending)),
            // The books say no more than the answer, which may carry a Retry-After.
            Ok(None) | Err(_) => Err(unknown(error)),
        },
        // The external system is silent, asks for time, or has already said enough. A look now would only add load.
        CallError::NoAnswer { .. }
        | CallError::Later { .. }
        | CallError::Pending { .. }
        | CallError::OtherCall { .. }
        | CallError::ServerError { retry_after: Some(_), .. } => Err(unknown(error)),
        // The external system may have stored the 5xx under the key. The books say what happened.
        CallError::ServerError { stored, .. } => {
            let found = system.look_up(sent, call).await.map_err(unknown)?;
            // While the key lives, another sending would get the same answer, so only the books can bring an outcome.
            let key_ends = !sending.look_first && O::KEY_LIFETIME < Duration::MAX;
            let next = if stored && key_ends { Next::Look { id: None } } else { Next::Send };
            found.ok_or_else(|| StillUnknown { next, ..unknown(error) })
        }
        CallError::Refused { status, code } => match system.look_up(sent, call).await.map_err(unknown)? {
            Some(outcome) => Ok(outcome),
            None if unanswered || sending.earlier_unanswered => Err(unknown(CallError::Refused { status, code })),
            None => Ok(system.refused(call, status, code.as_deref())),
        },
    }
}

/// Sends the call, and sends it again only after a 5xx that is not stored. If no answer came, a repeat would most
/// likely meet the first sending, still in progress. A refusal does not change. If the external system keeps no keys,
/// each repeat could be a second effect, so nothing is repeated.
async fn send_with_quick_repeats<O: ExternalSystem>(
    system: &O,
    reference: &str,
    call: &O::Call,
    until: Option<Instant>,
) -> Result<O::Outcome, StillUnknown> {
    let mut pauses = ExponentialBuilder::new()
        .with_min_delay(O::LIMITS.quick_pause)
        .with_max_times(if O::KEY_LIFETIME.is_zero() { 0 } else { O::LIMITS.quick_repeats as usize })
        .with_jitter()
        .build();
    let mut unanswered = false;
    loop {
        if until.is_some_and(|until| Instant::now() >= until) {
            let reason = "the lease is over, so the call is not sent".to_owned();
            return Err(StillUnknown::of(CallError::NoAnswer { reason }, unanswered));
        }
        let error = match system.send(reference, call).await {
            Ok(outcome) => return Ok(outcome),
            Err(error) => error,
        };
        // A refusal means that this sending had no effect, and an object shows what effect it had.
        unanswered |=
            !matches!(error, CallError::Refused { .. } | CallError::Pending { .. } | CallError::OtherCall { .. });
        let repeats = matches!(error, CallError::ServerError { retry_after: None, stored: false, .. });
        let pause: Option<Duration> = if repeats { pauses.next() } else { None };
        let Some(pause) = pause else { return Err(StillUnknown::of(error, unanswered)) };
        log::info!("call {reference} repeats in {pause:?}: {error}");
        tokio::time::sleep(pause).await;
    }
}
