//! A request with a key: the key, the typed body, and the JSON that the fingerprint covers.

use std::fmt::Display;

use uuid::Uuid;

use crate::error::Error;
use crate::fingerprint::{Canonical, Received};
use crate::json::parse_body;
use crate::key::{Address, Key};
use crate::policy::Policy;
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
    /// A request from its parts, for a service that reads requests without the extractor.
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

    /// Names one id of the path, as the handler parsed it. Call it once for each `{..}` of the policy's route, in order. So two
    /// spellings of one id (`/permits/1` and `/permits/01`) are one resource, and a key has one effect there.
    ///
    /// The table's `scope` holds 512 characters: the method, the path and the ids. Limit your ids if they are longer texts.
    #[must_use]
    pub fn on(mut self, id: impl Display) -> Self {
        self.ids.push(id.to_string());
        self
    }

    /// The address of this request's record under a policy.
    ///
    /// # Errors
    /// [`Error::ResourceNotNamed`].
    pub fn address(&self, account_id: Uuid, policy: &Policy) -> Result<Address, Error> {
        Address::new(account_id, policy, &self.ids, &self.key)
    }

    /// The content that the fingerprint covers, and the typed body.
    pub(crate) fn received(self, policy: &Policy) -> Result<(Received, T), Error> {
        Ok((Received::new(policy.method(), policy.path(&self.ids)?, self.canonical), self.body))
    }
}
