//! Reconciliation: the gateway's PaymentIntents and refunds beside our charges and refunds.
//!
//! Guarantees: nothing is written, here or at the gateway. Each side is read once, page by page, so the work grows with the number
//! of charges and refunds, and not faster. Of one day at a time, 16 bytes for each of the gateway's objects are remembered; nothing
//! else grows. What a person is told about is read a second time first, since both sides change meanwhile.
//!
//! A day's objects of the gateway are read first. Each is looked up here by its reference, whenever it was made here. Then the day's
//! rows are read, and those whose reference was not seen are looked up at the gateway by their ids.

mod compare;
mod ours;
mod report;

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use diesel::pg::PgConnection;
use external_calls::CallError;
use uuid::Uuid;

pub use self::compare::Finding;
use self::compare::{Compared, compare};
use self::ours::Ours;
pub use self::report::{Difference, Side, Totals};
use crate::gateway::Stripe;
use crate::gateway::books::{Book, Entry};
use crate::shop::status::PaymentStatus;

/// The part that is read at a time, which bounds the memory: 16 MB for a million objects a day.
const PART: TimeDelta = TimeDelta::days(1);

/// The gateway's objects are read from so long before a part to so long after it: a call is sent after its row is written, and
/// clocks differ. A call that was sent later than that is looked up by its id.
const MARGIN: TimeDelta = TimeDelta::hours(1);

/// So many rows are read at a time: some 200 kB.
const ROWS: i64 = 1000;

/// What to compare.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// From this time on, by the clock of each side.
    pub since: DateTime<Utc>,
    /// Before this time.
    pub until: DateTime<Utc>,
    /// Only this account's.
    pub account_id: Option<Uuid>,
}

/// Why the comparison could not be completed.
#[derive(Debug, thiserror::Error)]
pub enum Incomplete {
    /// The gateway's books could not be read.
    #[error("the gateway's books can't be read: {0}")]
    Gateway(#[from] CallError),
    /// The database failed.
    #[error("the database can't be read: {0}")]
    Database(#[from] diesel::result::Error),
    /// Nobody takes the report.
    #[error("the report can't be written: {0}")]
    Report(#[from] std::io::Error),
}

/// Compares both sides, and reports each difference as it is found. `progress` is told now and then.
///
/// # Errors
/// [`Incomplete`]: the report is not complete.
pub async fn reconcile(
    conn: &mut PgConnection,
    gateway: &Stripe,
    accounts: &[Uuid],
    asked: Asked,
    report: impl FnMut(&Difference) -> std::io::Result<()>,
    progress: impl FnMut(DateTime<Utc>, &Totals),
) -> Result<Totals, Incomplete> {
    let mut run = Run { conn, gateway, asked, report, progress, totals: Totals::default() };
    let mut from = asked.since;
    while from < asked.until {
        let before = asked.until.min(from + PART);
        for book in [Book::Payments, Book::Refunds] {
            let seen = run.theirs(book, from, before).await?;
            for account_id in accounts {
                run.ours(book, *account_id, (from, before), &seen).await?;
            }
        }
        from = before;
    }
    Ok(run.totals)
}

/// The references of the gateway's objects, by their first 128 bits: they are hashes.
type Seen = HashSet<u128>;

fn short(reference: &str) -> u128 {
    reference.get(..32).and_then(|digits| u128::from_str_radix(digits, 16).ok()).unwrap_or_default()
}

struct Run<'a, R, P> {
    conn: &'a mut PgConnection,
    gateway: &'a Stripe,
    asked: Asked,
    report: R,
    progress: P,
    totals: Totals,
}

impl<R: FnMut(&Difference) -> std::io::Result<()>, P: FnMut(DateTime<Utc>, &Totals)> Run<'_, R, P> {
    /// Looks up each of the gateway's objects here.
    async fn theirs(&mut self, book: Book, from: DateTime<Utc>, before: DateTime<Utc>) -> Result<Seen, Incomplete> {
        let (mut seen, mut after) = (Seen::new(), None);
        loop {
            let page = self.gateway.entries(book, from - MARGIN, before + MARGIN, after.as_deref()).await?;
            let mut of_accounts: BTreeMap<Uuid, Vec<(String, Entry, bool)>> = BTreeMap::new();
            for entry in page.data {
                // What was made outside of this part is compared with its own part, or not asked for.
                let is_in_part = (from..before).contains(&entry.created_at);
                let Some((account_id, reference)) = entry.call.clone() else {
                    self.totals.foreign += u64::from(is_in_part);
                    continue;
                };
                let is_second = !seen.insert(short(&reference));
                if is_in_part && self.asked.account_id.is_none_or(|asked| asked == account_id) {
                    of_accounts.entry(account_id).or_default().push((reference, entry, is_second));
                }
            }
            for (account_id, entries) in of_accounts {
                self.look_up_here(book, account_id, entries).await?;
            }
            (self.progress)(from, &self.totals);
            match page.more_after {
                None => return Ok(seen),
                more => after = more,
            }
        }
    }

    async fn look_up_here(
        &mut self,
        book: Book,
        account_id: Uuid,
        entries: Vec<(String, Entry, bool)>,
    ) -> Result<(), Incomplete> {
        let references: Vec<_> = entries.iter().map(|(reference, ..)| reference.as_str()).collect();
        let rows = ours::by_reference(self.conn, book, account_id, &references)?;
        let rows: BTreeMap<&str, &Ours> = rows.iter().map(|row| (row.reference.as_str(), row)).collect();
        for (reference, entry, is_second) in &entries {
            self.totals.there += 1;
            match rows.get(reference.as_str()) {
                // The row is written before the call is sent, so it is not on its way.
                None => self.tell(Finding::OnlyThere, book, account_id, reference, None, Some(entry))?,
                Some(row) => self.both(book, account_id, row, entry, *is_second).await?,
            }
        }
        Ok(())
    }

    /// Compares a pair.
    async fn both(
        &mut self,
        book: Book,
        account_id: Uuid,
        row: &Ours,
        entry: &Entry,
        is_second: bool,
    ) -> Result<(), Incomplete> {
        match compare(row, entry, is_second, Utc::now()) {
            Compared::Same => {}
            Compared::Open => self.totals.open += 1,
            Compared::Differs(_) => {
                // One side may have changed since the other was read.
                let rows = ours::by_reference(self.conn, book, account_id, &[&row.reference])?;
                let row = rows.first().unwrap_or(row);
                let now = self.gateway.entry(book, &entry.id).await?;
                let entry = now.as_ref().unwrap_or(entry);
                match compare(row, entry, is_second, Utc::now()) {
                    Compared::Same => {}
                    Compared::Open => self.totals.open += 1,
                    Compared::Differs(finding) => {
                        self.tell(finding, book, account_id, &row.reference, Some(row), Some(entry))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Looks up at the gateway what was not seen there.
    async fn ours(
        &mut self,
        book: Book,
        account_id: Uuid,
        (from, before): (DateTime<Utc>, DateTime<Utc>),
        seen: &Seen,
    ) -> Result<(), Incomplete> {
        let (mut next, last) = (ours::first_id(from), ours::first_id(before));
        loop {
            let rows = ours::next(self.conn, book, account_id, (next, last), ROWS)?;
            for row in &rows {
                self.totals.here += 1;
                if !seen.contains(&short(&row.reference)) {
                    self.look_up_there(book, account_id, row).await?;
                }
            }
            (self.progress)(from, &self.totals);
            match rows.last() {
                Some(last) if i64::try_from(rows.len()).is_ok_and(|read| read == ROWS) => {
                    next = Uuid::from_u128(last.id.as_u128() + 1);
                }
                _ => return Ok(()),
            }
        }
    }

    async fn look_up_there(&mut self, book: Book, account_id: Uuid, row: &Ours) -> Result<(), Incomplete> {
        match (row.status, &row.gateway_id) {
            (PaymentStatus::Processing, _) => self.totals.open += 1,
            // The gateway refused the call, and made no object.
            (PaymentStatus::Failed, None) => {}
            (_, None) => self.tell(Finding::OnlyHere, book, account_id, &row.reference, Some(row), None)?,
            (_, Some(id)) => match self.gateway.entry(book, id).await? {
                Some(entry) if entry.call.as_ref().is_some_and(|(_, reference)| *reference == row.reference) => {
                    // What was made in the time that was asked for is compared there.
                    if !(self.asked.since..self.asked.until).contains(&entry.created_at) {
                        self.both(book, account_id, row, &entry, false).await?;
                    }
                }
                other => {
                    self.tell(Finding::OnlyHere, book, account_id, &row.reference, Some(row), other.as_ref())?;
                }
            },
        }
        Ok(())
    }

    fn tell(
        &mut self,
        finding: Finding,
        book: Book,
        account_id: Uuid,
        reference: &str,
        here: Option<&Ours>,
        there: Option<&Entry>,
    ) -> Result<(), Incomplete> {
        self.totals.differences += 1;
        let difference = Difference {
            finding,
            kind: match book {
                Book::Payments => "charge",
                Book::Refunds => "refund",
            },
            account_id,
            location: here.map(|row| row.location(book)),
            gateway_id: there.map(|entry| entry.id.clone()).or_else(|| here.and_then(|row| row.gateway_id.clone())),
            reference: reference.to_owned(),
            here: here.map(Side::from),
            there: there.map(Side::from),
        };
        Ok((self.report)(&difference)?)
    }
}
