//! Lists as Stripe has them: newest first, in pages, by a time window.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::form::Form;
use super::refusal::Refusal;

/// Stripe's default and largest number of objects on a page.
const LIMITS: (i64, i64) = (10, 100);

/// The parameters of a list.
#[derive(Debug)]
pub struct Listing {
    pub limit: i64,
    pub starting_after: Option<String>,
    pub payment_intent: Option<String>,
    /// Inclusive.
    pub from: Option<DateTime<Utc>>,
    /// Exclusive.
    pub before: Option<DateTime<Utc>>,
}

impl Listing {
    /// # Errors
    /// For a parameter that is unknown or wrong.
    pub fn of(mut form: Form, of_payments: bool) -> Result<Self, Refusal> {
        let (default, most) = LIMITS;
        let limit = match form.take("limit") {
            None => default,
            Some(text) => match text.parse() {
                Ok(limit) if (1..=most).contains(&limit) => limit,
                _ => return Err(Refusal::parameter("limit", None, format!("The limit must be from 1 to {most}."))),
            },
        };
        let mut time = |name: &str, more: i64| -> Result<Option<DateTime<Utc>>, Refusal> {
            let Some(text) = form.take(name) else { return Ok(None) };
            // Times are whole seconds, so "later than" means "from the next second on".
            let at =
                text.parse::<i64>().ok().and_then(|seconds| DateTime::from_timestamp(seconds.checked_add(more)?, 0));
            at.map(Some).ok_or_else(|| Refusal::parameter(name, None, format!("Invalid timestamp: {text}")))
        };
        let from = time("created[gte]", 0)?.max(time("created[gt]", 1)?);
        let before = match (time("created[lte]", 1)?, time("created[lt]", 0)?) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        let starting_after = form.take("starting_after");
        let payment_intent = if of_payments { None } else { form.take("payment_intent") };
        form.end()?;
        Ok(Self { limit, starting_after, payment_intent, from, before })
    }

    /// The page of these rows. There is one row more than the page takes if more pages follow.
    pub fn page<T>(&self, url: &str, rows: &[T], object: impl Fn(&T) -> Value) -> Value {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let data: Vec<_> = rows.iter().take(limit).map(object).collect();
        json!({"object": "list", "url": url, "has_more": rows.len() > limit, "data": data})
    }
}
