// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stripe's events: the signature, and the call that an event is about.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize as _;
use serde_json::Value;
use sha2::Sha256;
use uuid::Uuid;

use super::answer::Metadata;

/// How old a signature may be, or how far in the future its time. It is the tolerance of Stripe's own libraries.
const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// How many signatures of a header are compared. While a secret is rotated, Stripe sends one for each valid secret.
const SIGNATURES: usize = 8;

/// The endpoint's secrets: one, or two while one is rotated. Never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets(Vec<String>);

/// The text is not one or two secrets of Stripe's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it must be what Stripe shows for the endpoint, whsec_.., or two of them with a comma")]
pub struct WrongSecrets;

/// The event was not signed with one of the secrets, or was signed too long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature is missing, wrong or older than five minutes")]
pub struct BadSignature;

impl Secrets {
    /// Reads one or two secrets, separated by a comma.
    ///
    /// # Errors
    /// [`WrongSecrets`], which does not show the text.
    pub fn parse(text: &str) -> Result<Self, WrongSecrets> {
        let secrets: Vec<_> = text.split(',').map(|secret| secret.trim().to_owned()).collect();
        let is_right = |secret: &String| {
            let rest = secret.strip_prefix("whsec_");
            rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic()))
        };
        if (1..=2).contains(&secrets.len()) && secrets.iter().all(is_right) {
            Ok(Self(secrets))
        } else {
            Err(WrongSecrets)
        }
    }

    /// The first secret. A sandbox signs with it.
    #[must_use]
    pub fn first(&self) -> Option<&str> {
        self.0.first().map(String::as_str)
    }

    /// Whether there is no secret. Without one, there is no endpoint.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks `Stripe-Signature` (`t=<seconds>,v1=<hex>`) over the body as received. The comparison takes the same time
    /// for every wrong signature.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn check(&self, header: &str, body: &[u8], now: SystemTime) -> Result<(), BadSignature> {
        let parts = || header.split(',').filter_map(|part| part.split_once('='));
        let time = parts().find_map(|(name, value)| (name == "t").then_some(value)).ok_or(BadSignature)?;
        let seconds: u64 = time.parse().map_err(|_| BadSignature)?;
        let now = now.duration_since(UNIX_EPOCH).map_err(|_| BadSignature)?;
        if now.as_secs().abs_diff(seconds) > TOLERANCE.as_secs() {
            return Err(BadSignature);
        }
        let signatures =
            || parts().filter(|(name, _)| *name == "v1").filter_map(|(_, hex)| bytes(hex)).take(SIGNATURES);
        let is_signed = |secret: &String| {
            let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return false };
            mac.update(time.as_bytes());
            mac.update(b".");
            mac.update(body);
            signatures().any(|signature| mac.clone().verify_slice(&signature).is_ok())
        };
        if self.0.iter().any(is_signed) { Ok(()) } else { Err(BadSignature) }
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

/// Decodes the hexadecimal digits of a signature. None if the text is something else.
fn bytes(hex: &str) -> Option<Vec<u8>> {
    if hex.len() != 64 {
        return None;
    }
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()).collect()
}

/// The account and the reference of the call that an event is about. None if the event is about something else. Nothing
/// more of an event is read, since nothing in it is trusted.
#[must_use]
pub fn call_of(event: &[u8]) -> Option<(Uuid, String)> {
    let event: Value = serde_json::from_slice(event).ok()?;
    Metadata::deserialize(event.pointer("/data/object/metadata")?).ok()?.call()
}
