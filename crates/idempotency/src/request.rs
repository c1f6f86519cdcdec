// SPDX-License-Identifier: MIT OR Apache-2.0
//! A request with a key: the key, the typed body, and the JSON that the fingerprint covers.

use std::fmt::Display;

use uuid::Uuid;

use crate::error::Error;
use crate::fingerprint::{Canonical, Received};
use crate::json::parse_body;
use crate::key::{Address, Key};
use crate::policy::Policy;
use crate::store::Claim;
use crate::traits::Body;

/// A request with a key.
#[derive(Clone, Debug)]
pub struct Keyed<T> {
    /// The client's key.
    pub key: Key,
    /// The typed body.
    pub body: T,
    /// The request's id, for a problem's `instance`.
    pub instance: Uuid,
    /// The credential that the request came with, as the service names it: for example the id of an API key, never the secret.
    /// The record shows the one of its first request.
    pub credential: Option<String>,
    canonical: Canonical,
    ids: Vec<String>,
}

impl<T> Keyed<T> {
    /// A request from its parts, for a service that does not take the key from the header.
    ///
    /// # Errors
    /// [`Error::MalformedJson`], [`Error::InvalidBody`].
    pub fn new(key: Key, body: &[u8], instance: Uuid) -> Result<Self, Error>
    where
        T: Body,
    {
        let (json, body) = parse_body(body)?;
        Ok(Self { key, body, instance, credential: None, canonical: Canonical::of(json)?, ids: Vec::new() })
    }

    /// Names one id of the path, as the handler parsed it. Call it once for each `{..}` of the policy's route, in
    /// order. Two spellings of one id (`/permits/1` and `/permits/01`) are then one resource, on which a key has one
    /// effect.
    ///
    /// An id that the table's `scope` can't hold, with method and path, is answered with 404: see
    /// [`Policy::path`].
    #[must_use]
    pub fn on(mut self, id: impl Display) -> Self {
        self.ids.push(id.to_string());
        self
    }

    /// The address of this request's record under a policy.
    ///
    /// # Errors
    /// [`Error::ResourceNotNamed`], [`Error::NoSuchResource`].
    pub fn address(&self, account_id: Uuid, policy: &Policy) -> Result<Address, Error> {
        Address::new(account_id, policy, &self.ids, &self.key)
    }

    /// What the request claims its key with, the content that the fingerprint covers, and the typed body.
    pub(crate) fn claim(self, account_id: Uuid, policy: &Policy) -> Result<(Claim, Received, T), Error> {
        let address = self.address(account_id, policy)?;
        let received = Received::new(policy.method(), policy.path(&self.ids)?, self.canonical);
        let claim = Claim {
            lock: address.lock(),
            address,
            id: Uuid::now_v7(),
            route: policy.route,
            request_id: self.instance,
            credential: self.credential,
            fingerprint_version: received.version(),
            fingerprint: received.fingerprint(),
        };
        Ok((claim, received, self.body))
    }
}

/// A request whose key the client may leave out: for an existing endpoint, until all its clients send keys. A malformed
/// key is still refused.
///
/// Don't use `Option<Keyed<T>>` instead: it is `None` for every error, so a request with a malformed key would run
/// without protection, and without its body.
#[derive(Clone, Debug)]
pub struct OptionallyKeyed<T> {
    /// The request, with the client's key or with a new one, which no other request has. It runs like any other, again
    /// after a deadlock or a lost connection, and makes a record. But without the client's key, its next sending is
    /// another request.
    pub request: Keyed<T>,
    /// Whether the client sent a key.
    pub is_keyed: bool,
}
