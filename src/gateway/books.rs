//! The gateway's books: all PaymentIntents and refunds of a time, page by page, so that somebody can compare them with ours.
//!
//! Guarantees: nothing here moves money or writes. An incomplete list is an error, never a shorter list. Each page and each answer
//! has a bound, and so have the repeats of a request that fails.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use chrono::{DateTime, Utc};
use reqwest::RequestBuilder;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::answer::{Failure, ONE, Object, PAGE, Page, failure, not_understood, read};
pub use super::stripe::Book;
use super::stripe::Stripe;
use super::{End, currency};
use external_calls::CallError;

/// Stripe's largest page.
const PAGE_SIZE: &str = "100";

/// How often a request is sent again. A list of a day may take thousands of requests, and one that fails must not end it all.
const REPEATS: usize = 6;

/// The first pause before a repeat. Each further pause is twice as long, so all six take half a minute: a restart, or a limit of
/// requests in a second.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// A longer Retry-After is cut to this. Stripe's limits are for a second.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A PaymentIntent or a refund, as the books have it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The gateway's id, `pi_..` or `re_..`.
    pub id: String,
    /// The account and the reference in its metadata. None: another program made it.
    pub call: Option<(Uuid, String)>,
    /// In minor units. None: no call of ours asks for such an amount.
    pub amount: Option<i64>,
    /// ISO 4217, three capital letters.
    pub currency: String,
    /// The gateway's own word.
    pub status: String,
    /// What the status says about the money.
    pub standing: Standing,
    /// When the gateway made it.
    pub created_at: DateTime<Utc>,
}

/// What an entry says about the money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It moved.
    Succeeded,
    /// It did not move.
    Failed,
    /// It may still move.
    Pending,
}

/// A page of a list, newest first.
#[derive(Debug)]
pub struct Entries {
    /// The entries.
    pub data: Vec<Entry>,
    /// The last entry's id, if there are more.
    pub more_after: Option<String>,
}

impl Stripe {
    /// A page of the entries that the gateway made in this time, newest first. `after` is the last entry of the page before.
    ///
    /// # Errors
    /// The gateway did not give the whole page.
    pub async fn entries(
        &self,
        book: Book,
        from: DateTime<Utc>,
        before: DateTime<Utc>,
        after: Option<&str>,
    ) -> Result<Entries, CallError> {
        let mut query = vec![
            ("limit", PAGE_SIZE.to_owned()),
            ("created[gte]", from.timestamp().to_string()),
            ("created[lt]", before.timestamp().to_string()),
        ];
        query.extend(after.map(|after| ("starting_after", after.to_owned())));
        let page: Page = self.read_again(|| self.list(book, None).query(&query), PAGE).await?;
        let more_after = page.has_more.then(|| page.data.last().map(|object| object.id.clone()));
        let more_after = match more_after {
            Some(None) => return Err(not_understood("an empty page has more")),
            more => more.flatten(),
        };
        let data = page.data.into_iter().map(Object::entry).collect::<Result<_, _>>()?;
        Ok(Entries { data, more_after })
    }

    /// The entry with this id now. None: the gateway has none.
    ///
    /// # Errors
    /// The gateway gave no answer.
    pub async fn entry(&self, book: Book, id: &str) -> Result<Option<Entry>, CallError> {
        match self.read_again(|| self.list(book, Some(id)), ONE).await {
            Ok(object) => Object::entry(object).map(Some),
            Err(CallError::Later { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends a GET until there is an answer, a bounded number of times.
    async fn read_again<T: DeserializeOwned>(
        &self,
        request: impl Fn() -> RequestBuilder,
        limit: usize,
    ) -> Result<T, CallError> {
        let mut pauses = ExponentialBuilder::new().with_min_delay(FIRST_PAUSE).with_max_times(REPEATS).build();
        loop {
            let error = match read_once(request(), limit).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let asked = match &error {
                // The key is wrong, or there is no such object: an answer.
                CallError::Later { status: 401 | 403 | 404, .. } => return Err(error),
                CallError::Later { retry_after, .. } | CallError::ServerError { retry_after, .. } => *retry_after,
                CallError::NoAnswer { .. } => None,
                _ => return Err(error),
            };
            let Some(pause) = pauses.next() else { return Err(error) };
            tokio::time::sleep(pause.max(asked.unwrap_or_default()).min(LONGEST_PAUSE)).await;
        }
    }
}

async fn read_once<T: DeserializeOwned>(request: RequestBuilder, limit: usize) -> Result<T, CallError> {
    let response = request.send().await.map_err(super::answer::no_answer)?;
    if response.status() == 200 {
        return read(response, limit).await;
    }
    Err(match failure(response).await? {
        Failure::Declined(_) => not_understood("a list was declined"),
        Failure::Other(error) => error,
    })
}

impl Object {
    fn entry(self) -> Result<Entry, CallError> {
        let created = self.created.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
        let standing = match self.outcome() {
            Ok(outcome) if outcome.end == End::Succeeded => Standing::Succeeded,
            Ok(_) => Standing::Failed,
            Err(_) => Standing::Pending,
        };
        let currency = self.currency.to_ascii_uppercase();
        Ok(Entry {
            call: self.call(),
            amount: currency::from_gateway(self.amount, &currency),
            currency,
            status: self.status.unwrap_or_default(),
            standing,
            created_at: created.ok_or_else(|| not_understood("it has no time"))?,
            id: self.id,
        })
    }

    /// The account and the reference, if a call of this API made the object.
    fn call(&self) -> Option<(Uuid, String)> {
        let account_id = Uuid::try_parse(self.metadata.get("account")?).ok()?;
        let reference = self.metadata.get("reference")?;
        // A reference is a SHA-256 in hex. Anything else is somebody else's.
        let is_ours = reference.len() == 64 && reference.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_ours.then(|| (account_id, reference.clone()))
    }
}
