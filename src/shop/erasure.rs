//! Erases a person: a customer gets a random name everywhere in the database, which says nothing about the person. The
//! metadata of the customer's orders, and of their charges and refunds, is emptied.
//!
//! Guarantees: orders, entitlements, events and stored replies get the name, in batches, each in a short transaction.
//! So an erasure never delays requests for long, and copes with an account of any size. If it is interrupted, the next
//! run erases the rest. Amounts, ids, times and everything else stay, so the books add up as before. A retry of an
//! order still gets its reply, with the new name in it.
//!
//! Not reached: back-ups, logs, and the data of clients and of the gateway. Idempotency keys and names of payment
//! methods are the client's own words: a client must not put a person's name into them. A request about the customer
//! that runs at the same time keeps the old name: if there was one, erase the customer again.

use std::cell::Cell;
use std::collections::HashSet;

use diesel::pg::PgConnection;
use diesel::prelude::*;
use idempotency::rewrite_replies;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::db::Jsonb;
use crate::schema::{entitlements, events, orders};
use crate::shop::metadata::{self, Metadata};

/// Rows per transaction. Reading that many events takes some 20 ms, and changing them all well below a second: a
/// request that meets one of their locks waits up to 3 s.
const BATCH: i64 = 1000;

/// What to do with the rows that name the customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Only count them.
    Count,
    /// Give them this name.
    Rename(String),
}

impl Mode {
    /// A random name, so that it leads nobody to the person, and the same in all rows, so that the customer's orders
    /// stay together.
    #[must_use]
    pub fn rename() -> Self {
        Self::Rename(format!("erased-{}", Uuid::new_v4().simple()))
    }
}

/// The number of rows that have, or had, the name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Orders.
    pub orders: usize,
    /// Stored replies of idempotency records.
    pub replies: usize,
    /// Entitlements.
    pub entitlements: usize,
    /// Events.
    pub events: usize,
}

impl Erased {
    /// Whether no row has the name.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// A customer of an account.
struct Person<'a> {
    account_id: Uuid,
    name: &'a str,
    mode: &'a Mode,
    /// The ids of the customer's charges and refunds.
    payments: HashSet<Uuid>,
}

/// One batch of the rows after an id. Adds the number of those with the name, and returns the last id, if there may be more.
type Step<'p> = fn(&Person<'p>, &mut PgConnection, Uuid, &mut Erased) -> QueryResult<Option<Uuid>>;

/// Gives the customer of an account a new name, or counts the rows with the old one. `progress` gets the numbers after each batch.
///
/// # Errors
/// A database error. The batches before it stay.
pub fn erase_customer(
    conn: &mut PgConnection,
    account_id: Uuid,
    customer: &str,
    mode: &Mode,
    mut progress: impl FnMut(&Erased),
) -> QueryResult<Erased> {
    let payments = metadata::payments_of(conn, account_id, customer)?;
    let mut person = Person { account_id, name: customer, mode, payments };
    let mut erased = Erased::default();
    // The copies first: while an order has the name, everybody sees that the erasure is not complete.
    let copies: [(Uuid, Step<'_>); 2] = [(Uuid::max(), Person::in_replies), (Uuid::nil(), Person::in_events)];
    let rows: [(Uuid, Step<'_>); 2] = [(Uuid::nil(), Person::in_entitlements), (Uuid::nil(), Person::in_orders)];
    person.through(conn, &[copies, rows].concat(), &mut erased, &mut progress)?;
    if let Mode::Rename(name) = mode {
        // A charge or a refund that was made meanwhile. No later run would find it, since its order has the new name now.
        let mut late = metadata::payments_of(conn, account_id, name)?;
        late.retain(|id| !person.payments.contains(id));
        if !late.is_empty() {
            person.payments = late;
            person.through(conn, &copies, &mut erased, &mut progress)?;
        }
    }
    Ok(erased)
}

impl<'p> Person<'p> {
    /// Takes each step in batches, each in a transaction.
    fn through(
        &self,
        conn: &mut PgConnection,
        steps: &[(Uuid, Step<'p>)],
        erased: &mut Erased,
        progress: &mut impl FnMut(&Erased),
    ) -> QueryResult<()> {
        for (first, step) in steps {
            let mut from = Some(*first);
            while let Some(id) = from {
                from = conn.transaction(|conn| step(self, conn, id, erased))?;
                progress(erased);
            }
        }
        Ok(())
    }

    fn in_orders(&self, conn: &mut PgConnection, after: Uuid, erased: &mut Erased) -> QueryResult<Option<Uuid>> {
        let ids: Vec<Uuid> = orders::table
            .filter(orders::account_id.eq(self.account_id))
            .filter(orders::customer.eq(self.name))
            .filter(orders::id.gt(after))
            .select(orders::id)
            .order(orders::id)
            .limit(BATCH)
            .for_update()
            .load(conn)?;
        if let Mode::Rename(name) = self.mode {
            metadata::erase(conn, self.account_id, &ids)?;
            diesel::update(orders::table)
                .filter(orders::account_id.eq(self.account_id))
                .filter(orders::id.eq_any(&ids))
                .set((orders::customer.eq(name), orders::metadata.eq(Jsonb(Metadata::new()))))
                .execute(conn)?;
        }
        erased.orders += ids.len();
        Ok(ids.last().copied())
    }

    fn in_entitlements(&self, conn: &mut PgConnection, after: Uuid, erased: &mut Erased) -> QueryResult<Option<Uuid>> {
        let ids: Vec<Uuid> = entitlements::table
            .filter(entitlements::account_id.eq(self.account_id))
            .filter(entitlements::customer.eq(self.name))
            .filter(entitlements::id.gt(after))
            .select(entitlements::id)
            .order(entitlements::id)
            .limit(BATCH)
            .for_update()
            .load(conn)?;
        if let Mode::Rename(name) = self.mode {
            diesel::update(entitlements::table)
                .filter(entitlements::account_id.eq(self.account_id))
                .filter(entitlements::id.eq_any(&ids))
                .set(entitlements::customer.eq(name))
                .execute(conn)?;
        }
        erased.entitlements += ids.len();
        Ok(ids.last().copied())
    }

    /// A reply is replayed byte for byte, so only the name and the metadata in the bytes change.
    fn in_replies(&self, conn: &mut PgConnection, before: Uuid, erased: &mut Erased) -> QueryResult<Option<Uuid>> {
        let old = member(self.name)?;
        let new = match self.mode {
            Mode::Count => None,
            Mode::Rename(name) => Some(member(name)?),
        };
        let found = Cell::new(0);
        let rewrite = |body: &[u8]| {
            let text = std::str::from_utf8(body).ok()?;
            let Named { id, customer } = serde_json::from_str(text).ok()?;
            let is_named = customer.as_deref() == Some(self.name);
            let is_payment = id.is_some_and(|id| self.payments.contains(&id));
            let metadata = (is_named || is_payment).then(|| metadata::erased_in(text)).flatten();
            if !is_named && metadata.is_none() {
                return None;
            }
            found.set(found.get() + 1);
            // Its metadata, which may contain the same text, is empty by now.
            new.as_ref().map(|new| metadata.as_deref().unwrap_or(text).replace(&old, new).into_bytes())
        };
        let (oldest, _) = rewrite_replies(conn, self.account_id, before, BATCH, rewrite)?;
        erased.replies += found.get();
        Ok(oldest)
    }

    /// The data of an order's or an entitlement's event contains the customer. That of a charge's or a refund's
    /// contains only metadata.
    fn in_events(&self, conn: &mut PgConnection, after: Uuid, erased: &mut Erased) -> QueryResult<Option<Uuid>> {
        let of_account = events::table.filter(events::account_id.eq(self.account_id));
        let page: Vec<EventNames> = of_account
            .filter(events::id.gt(after))
            .select((
                events::id,
                events::data.retrieve_as_text("customer").eq(self.name).nullable(),
                events::data.retrieve_as_text("id").nullable(),
                events::data.retrieve_as_text("metadata").ne("{}").nullable(),
            ))
            .order(events::id)
            .limit(BATCH)
            .load(conn)?;
        let is_payment = |id: &String| Uuid::try_parse(id).is_ok_and(|id| self.payments.contains(&id));
        let theirs = |(_, names, id, has_metadata): &&EventNames| {
            *names == Some(true) || (*has_metadata == Some(true) && id.as_ref().is_some_and(is_payment))
        };
        let ids: Vec<Uuid> = page.iter().filter(theirs).map(|(id, ..)| *id).collect();
        if let Mode::Rename(name) = self.mode {
            let with_name: Vec<(Uuid, Value)> =
                of_account.filter(events::id.eq_any(&ids)).select((events::id, events::data)).load(conn)?;
            for (id, mut data) in with_name {
                if let Some(known) = data.get_mut("customer") {
                    *known = name.as_str().into();
                }
                if let Some(metadata) = data.get_mut("metadata") {
                    *metadata = json!({});
                }
                diesel::update(events::table.find((self.account_id, id))).set(events::data.eq(data)).execute(conn)?;
            }
        }
        erased.events += ids.len();
        Ok(page.last().map(|(id, ..)| *id))
    }
}

/// An event: its id, whether its object has the customer's name, its object's id, and whether its object has metadata.
type EventNames = (Uuid, Option<bool>, Option<String>, Option<bool>);

/// What a reply tells about whom it concerns.
#[derive(Deserialize)]
struct Named {
    id: Option<Uuid>,
    customer: Option<String>,
}

/// The member `customer`, spelt as in every reply.
fn member(customer: &str) -> QueryResult<String> {
    let text = serde_json::to_string(customer).map_err(|e| diesel::result::Error::SerializationError(e.into()))?;
    Ok(format!("\"customer\":{text}"))
}
