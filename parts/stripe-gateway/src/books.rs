// SPDX-License-Identifier: MIT OR Apache-2.0
//! The gateway's books: all PaymentIntents and refunds of a period, page by page, so that they can be compared with
//! ours.
//!
//! Guarantees: nothing here moves money or writes. An incomplete list is an error, never a shorter list. Pages, answers
//! and the repeats of a failed request are bounded.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use chrono::{DateTime, Utc};
use reqwest::RequestBuilder;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::answer::{Metadata, ONE, Object, PAGE, Page, no_answer, not_understood, of_looking};
use super::stripe::Stripe;
use super::{Book, End, currency};
use external_calls::CallError;

/// How often a failed request is sent again. The list of a day may take thousands of requests, and one failure must not
/// end it.
const REPEATS: usize = 6;

/// The first pause before a repeat. Each further pause is twice as long, so all six take half a minute. That outlasts a
/// restart, or a rate limit per second.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// A longer Retry-After is cut to this. Stripe's rate limits are per second.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A PaymentIntent or a refund, as the books have it.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// The gateway's id, `pi_..` or `re_..`.
    #[serde(skip)]
    pub id: String,
    /// The account and the reference in its metadata. None if another program created it.
    #[serde(skip)]
    pub call: Option<(Uuid, String)>,
    /// The gateway's own word for it.
    pub status: String,
    /// What the status says about the money.
    #[serde(skip)]
    pub standing: Standing,
    /// In minor units. None if no call of ours can have asked for such an amount.
    pub amount: Option<i64>,
    /// ISO 4217, three capital letters.
    pub currency: String,
    /// When the gateway created it.
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
    /// A page of the entries that the gateway created in this period, newest first. `after` is the last entry of the
    /// previous page.
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
        let created = [("created[gte]", from.timestamp()), ("created[lt]", before.timestamp())];
        let page: Page = read_again(|| self.get_page(book, &created, after), PAGE).await?;
        let more_after = page.more_after()?;
        let data = page.data.into_iter().map(Object::entry).collect::<Result<_, _>>()?;
        Ok(Entries { data, more_after })
    }

    /// The entry with this id as it is now. None if the gateway has none.
    ///
    /// # Errors
    /// The gateway gave no answer.
    pub async fn entry(&self, book: Book, id: &str) -> Result<Option<Entry>, CallError> {
        match read_again(|| self.get_object(book, id), ONE).await {
            Ok(object) => Object::entry(object).map(Some),
            Err(CallError::Later { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Sends a GET until there is an answer, a bounded number of times.
async fn read_again<T: DeserializeOwned>(request: impl Fn() -> RequestBuilder, limit: usize) -> Result<T, CallError> {
    let send = || async { of_looking(request().send().await.map_err(no_answer)?, limit).await };
    let pauses = ExponentialBuilder::new().with_min_delay(FIRST_PAUSE).with_max_times(REPEATS);
    send.retry(pauses).adjust(pause_after).sleep(tokio::time::sleep).await
}

/// The pause before a request is sent again. None if it is not sent again.
fn pause_after(error: &CallError, pause: Option<Duration>) -> Option<Duration> {
    let asked = match error {
        // A wrong key and a missing object are answers: a repeat would not change them.
        CallError::Later { status: 401 | 403 | 404, .. } => return None,
        CallError::Later { retry_after, .. } | CallError::ServerError { retry_after, .. } => *retry_after,
        _ => None,
    };
    Some(pause?.max(asked.unwrap_or_default()).min(LONGEST_PAUSE))
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
            call: self.metadata.and_then(Metadata::call),
            amount: currency::from_gateway(self.amount, &currency),
            currency,
            status: self.status.unwrap_or_default(),
            standing,
            created_at: created.ok_or_else(|| not_understood("it has no time"))?,
            id: self.id,
        })
    }
}
