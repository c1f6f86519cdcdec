//! Looking up what became of a call: by the object's id once it is known, else in a list.
//!
//! Lists are consistent at once. Stripe's search lags behind, so this module never searches. An incomplete list is
//! [`CallError::NoAnswer`], never "not there".

use chrono::Duration;

use super::answer::{Failure, ONE, Object, PAGE, Page, failure, not_understood, read};
use super::stripe::Stripe;
use super::{Call, End, Outcome};
use external_calls::{CallError, Sent};

/// How far the clocks of this database and of the gateway may be apart.
const CLOCKS_DIFFER: Duration = Duration::minutes(5);

/// The most objects of a page, by Stripe.
const PAGE_SIZE: usize = 100;

/// The most pages of a list. Each takes a round trip of some 100 ms, so more would not fit into the time of a call.
const PAGES: usize = 40;

impl Stripe {
    pub(super) async fn look(&self, sent: &Sent, call: Call<'_>) -> Result<Option<Outcome>, CallError> {
        look_up(self, sent, call).await
    }
}

async fn look_up(stripe: &Stripe, sent: &Sent, call: Call<'_>) -> Result<Option<Outcome>, CallError> {
    let reference = sent.reference.as_str();
    if let Some(id) = &sent.outside_id {
        let object: Object = get(stripe, call, Some(id), &[], reference, ONE).await?;
        if object.id != *id {
            return Err(not_understood("it is another object"));
        }
        object.check(reference, call)?;
        return object.outcome().map(Some);
    }
    let found = in_the_list(stripe, sent, call).await?;
    for object in &found {
        object.check(reference, call)?;
    }
    let outcomes: Vec<_> = found.iter().map(Object::outcome).collect();
    let succeeded = |outcome: &&Result<Outcome, CallError>| outcome.as_ref().is_ok_and(|o| o.end == End::Succeeded);
    if outcomes.iter().filter(succeeded).count() > 1 {
        log::error!("the gateway has more than one success for {reference}: the money moved more than once");
    }
    // A success means that the money moved, whatever the other objects say. An object without an outcome may still succeed.
    let pending = |outcome: &&Result<Outcome, CallError>| outcome.is_err();
    let decides = outcomes.iter().find(succeeded).or_else(|| outcomes.iter().find(pending)).or(outcomes.first());
    decides.cloned().transpose()
}

/// All objects of the list with the reference, newest first.
async fn in_the_list(stripe: &Stripe, sent: &Sent, call: Call<'_>) -> Result<Vec<Object>, CallError> {
    let mut query = vec![("limit", PAGE_SIZE.to_string())];
    match call {
        Call::Payment(_) => {
            query.push(("created[gte]", (sent.since - CLOCKS_DIFFER).timestamp().to_string()));
            query.push(("created[lte]", (sent.until + CLOCKS_DIFFER).timestamp().to_string()));
        }
        Call::Refund(refund) => query.push(("payment_intent", refund.payment_intent.clone())),
    }
    let filters = query.len();
    let mut found = Vec::new();
    for _ in 0..PAGES {
        let page: Page = get(stripe, call, None, &query, &sent.reference, PAGE).await?;
        let last = page.data.last().map(|object| object.id.clone());
        found.extend(page.data.into_iter().filter(|object| object.is_of(&sent.reference)));
        if !page.has_more {
            return Ok(found);
        }
        query.truncate(filters);
        query.push(("starting_after", last.ok_or_else(|| not_understood("an empty page has more"))?));
    }
    Err(not_understood("the list has too many pages"))
}

async fn get<T: serde::de::DeserializeOwned>(
    stripe: &Stripe,
    call: Call<'_>,
    id: Option<&str>,
    query: &[(&str, String)],
    reference: &str,
    limit: usize,
) -> Result<T, CallError> {
    let response = stripe.once(stripe.get(call, id, query), reference).await?;
    if response.status() == 200 {
        return read(response, limit).await;
    }
    // A refused look says nothing about the call.
    let status = response.status().as_u16();
    Err(match failure(response).await? {
        Failure::Declined(_) | Failure::Other(CallError::Refused { .. } | CallError::OtherCall { .. }) => {
            not_understood(&format!("the look was refused with {status}"))
        }
        Failure::Other(error) => error,
    })
}
