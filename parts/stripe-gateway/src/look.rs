// SPDX-License-Identifier: MIT OR Apache-2.0
//! Looking up what became of a call: by the object's id once it is known, else in a list.
//!
//! Lists are consistent at once. Stripe's search lags behind, so this module never searches. An incomplete list is
//! [`CallError::NoAnswer`], never "not there".

use chrono::Duration;

use super::answer::{ONE, Object, PAGE, Page, not_understood, of_looking};
use super::stripe::Stripe;
use super::{Call, End, Outcome};
use external_calls::{CallError, Sent};

/// How far our database's clock and the gateway's may be apart.
const CLOCKS_DIFFER: Duration = Duration::minutes(5);

/// The most pages of a list. Each takes a round trip of some 100 ms, so more would not fit into the time of a call.
const PAGES: usize = 40;

impl Stripe {
    pub(super) async fn look(&self, sent: &Sent, call: Call<'_>) -> Result<Option<Outcome>, CallError> {
        let reference = sent.reference.as_str();
        if let Some(id) = &sent.outside_id {
            let response = self.once(self.get_object(call.book(), id), reference).await?;
            let object: Object = of_looking(response, ONE).await?;
            if object.id != *id {
                return Err(not_understood("it is another object"));
            }
            object.check(reference, call)?;
            return object.outcome().map(Some);
        }
        let found = self.in_the_list(sent, call).await?;
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
    async fn in_the_list(&self, sent: &Sent, call: Call<'_>) -> Result<Vec<Object>, CallError> {
        let filters = match call {
            Call::Payment(_) => vec![
                ("created[gte]", (sent.since - CLOCKS_DIFFER).timestamp().to_string()),
                ("created[lte]", (sent.until + CLOCKS_DIFFER).timestamp().to_string()),
            ],
            Call::Refund(refund) => vec![("payment_intent", refund.payment_intent.clone())],
        };
        let (mut found, mut after) = (Vec::new(), None::<String>);
        for _ in 0..PAGES {
            let list = self.get_page(call.book(), &filters, after.as_deref());
            let page: Page = of_looking(self.once(list, &sent.reference).await?, PAGE).await?;
            after = page.more_after()?;
            found.extend(page.data.into_iter().filter(|object| object.is_of(&sent.reference)));
            if after.is_none() {
                return Ok(found);
            }
        }
        Err(not_understood("the list has too many pages"))
    }
}
