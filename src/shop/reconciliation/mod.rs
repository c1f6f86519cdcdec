//! Reconciliation: compares the gateway's PaymentIntents and refunds with our charges and refunds.
//!
//! Guarantees: nothing is written, here or at the gateway. Each side is read once, page by page, so the work is linear
//! in the number of charges and refunds. The memory is 16 bytes for each of the gateway's objects, of one day at a
//! time. Before a difference is reported, both are read again, since both sides change meanwhile.
//!
//! The gateway's objects of a day are read first. Each is looked up here by its reference, whenever its row was
//! written. Then the day's rows are read, and those whose reference was not seen are looked up at the gateway by their
//! ids.

mod compare;

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use diesel::pg::PgConnection;
use external_calls::CallError;
use serde::Serialize;
use uuid::Uuid;

pub use self::compare::Finding;
use self::compare::{Compared, compare};
use crate::http::first_id_at;
use crate::shop::ledger::{Ledger, Ours};
use crate::shop::status::PaymentStatus;
use stripe_gateway::books::Entry;
use stripe_gateway::{Book, Stripe};

/// The period that is read at a time. It bounds the memory: 16 MB for a million objects a day.
const PART: TimeDelta = TimeDelta::days(1);

/// The gateway's objects are read from this long before a part until this long after it: a call is sent after its row
/// is written, and clocks differ. A call that was sent later than that is looked up by its id.
const MARGIN: TimeDelta = TimeDelta::hours(1);

/// How many rows are read at a time: some 200 kB.
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

/// What has been compared so far.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Totals {
    /// Our charges and refunds.
    pub here: u64,
    /// The gateway's objects that this API created.
    pub there: u64,
    /// The gateway's objects that another program created.
    pub foreign: u64,
    /// What is open here, which is no difference.
    pub open: u64,
    /// The differences.
    pub differences: u64,
}

/// A difference.
#[derive(Clone, Debug, Serialize)]
pub struct Difference<'a> {
    /// What differs.
    pub finding: Finding,
    /// `charge` or `refund`.
    pub kind: &'static str,
    /// The account.
    pub account_id: Uuid,
    /// The path of our charge or refund, if there is one.
    pub location: Option<String>,
    /// The id of the gateway's object, if it is known.
    pub gateway_id: Option<&'a str>,
    /// The reference that both sides share.
    pub reference: &'a str,
    /// Our side.
    pub here: Option<&'a Ours>,
    /// The gateway's side.
    pub there: Option<&'a Entry>,
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
    /// The report could not be written.
    #[error("the report can't be written: {0}")]
    Report(#[from] std::io::Error),
}

/// Compares both sides, and reports each difference as it is found. `progress` gets the totals now and then.
///
/// # Errors
/// [`Incomplete`]: the report is not complete.
pub async fn reconcile(
    conn: &mut PgConnection,
    gateway: &Stripe,
    accounts: &[Uuid],
    asked: Asked,
    report: impl FnMut(&Difference<'_>) -> std::io::Result<()>,
    progress: impl FnMut(DateTime<Utc>, &Totals),
) -> Result<Totals, Incomplete> {
    let mut run = Run { conn, gateway, asked, report, progress, totals: Totals::default() };
    let mut from = asked.since;
    while from < asked.until {
        let before = asked.until.min(from + PART);
        for book in [Book::Payments, Book::Refunds] {
            let seen = run.theirs(book, from, before).await?;
            for account_id in accounts {
                run.ours(Ledger { book, account_id: *account_id }, from, before, &seen).await?;
            }
        }
        from = before;
    }
    Ok(run.totals)
}

/// The references of the gateway's objects. They are hashes, so their first 128 bits are enough.
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

impl<R: FnMut(&Difference<'_>) -> std::io::Result<()>, P: FnMut(DateTime<Utc>, &Totals)> Run<'_, R, P> {
    /// Looks up each of the gateway's objects here.
    async fn theirs(&mut self, book: Book, from: DateTime<Utc>, before: DateTime<Utc>) -> Result<Seen, Incomplete> {
        let (mut seen, mut after) = (Seen::new(), None);
        loop {
            let page = self.gateway.entries(book, from - MARGIN, before + MARGIN, after.as_deref()).await?;
            let mut of_accounts: BTreeMap<Uuid, Vec<(String, Entry, bool)>> = BTreeMap::new();
            for entry in page.data {
                // What was created outside this part is compared in its own part, or was not asked for.
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
                self.look_up_here(Ledger { book, account_id }, entries).await?;
            }
            (self.progress)(from, &self.totals);
            match page.more_after {
                None => return Ok(seen),
                more => after = more,
            }
        }
    }

    async fn look_up_here(&mut self, ledger: Ledger, entries: Vec<(String, Entry, bool)>) -> Result<(), Incomplete> {
        let references: Vec<_> = entries.iter().map(|(reference, ..)| reference.as_str()).collect();
        let rows = ledger.by_reference(self.conn, &references)?;
        let rows: BTreeMap<&str, &Ours> = rows.iter().map(|row| (row.reference.as_str(), row)).collect();
        for (reference, entry, is_second) in &entries {
            self.totals.there += 1;
            match rows.get(reference.as_str()) {
                // The row is written before the call is sent, so it is missing, not late.
                None => self.tell(Finding::OnlyThere, ledger, reference, None, Some(entry))?,
                Some(row) => self.both(ledger, row, entry, *is_second).await?,
            }
        }
        Ok(())
    }

    /// Compares a pair.
    async fn both(&mut self, ledger: Ledger, row: &Ours, entry: &Entry, is_second: bool) -> Result<(), Incomplete> {
        let mut compared = compare(row, entry, is_second, Utc::now());
        let (rows, now);
        let (mut row, mut entry) = (row, entry);
        if let Compared::Differs(_) = compared {
            // One side may have changed since the other was read.
            rows = ledger.by_reference(self.conn, &[&row.reference])?;
            now = self.gateway.entry(ledger.book, &entry.id).await?;
            (row, entry) = (rows.first().unwrap_or(row), now.as_ref().unwrap_or(entry));
            compared = compare(row, entry, is_second, Utc::now());
        }
        match compared {
            Compared::Same => {}
            Compared::Open => self.totals.open += 1,
            Compared::Differs(finding) => self.tell(finding, ledger, &row.reference, Some(row), Some(entry))?,
        }
        Ok(())
    }

    /// Looks up at the gateway what was not seen there.
    async fn ours(
        &mut self,
        ledger: Ledger,
        from: DateTime<Utc>,
        before: DateTime<Utc>,
        seen: &Seen,
    ) -> Result<(), Incomplete> {
        let mut next = Some(first_id_at(from));
        while let Some(first) = next {
            let rows = ledger.next(self.conn, first, first_id_at(before), ROWS)?;
            for row in &rows {
                self.totals.here += 1;
                if !seen.contains(&short(&row.reference)) {
                    self.look_up_there(ledger, row).await?;
                }
            }
            (self.progress)(from, &self.totals);
            next = rows.last().map(|last| Uuid::from_u128(last.id.as_u128() + 1));
        }
        Ok(())
    }

    async fn look_up_there(&mut self, ledger: Ledger, row: &Ours) -> Result<(), Incomplete> {
        let entry = match (row.status, &row.gateway_id) {
            (PaymentStatus::Processing, _) => {
                self.totals.open += 1;
                return Ok(());
            }
            // The gateway refused the call and created no object.
            (PaymentStatus::Failed, None) => return Ok(()),
            (_, None) => None,
            (_, Some(id)) => self.gateway.entry(ledger.book, id).await?,
        };
        let is_of_row = |entry: &&Entry| entry.call.as_ref().is_some_and(|(_, reference)| *reference == row.reference);
        match entry.as_ref().filter(is_of_row) {
            None => self.tell(Finding::OnlyHere, ledger, &row.reference, Some(row), entry.as_ref()),
            // What the gateway created within the requested period is compared there.
            Some(entry) if (self.asked.since..self.asked.until).contains(&entry.created_at) => Ok(()),
            Some(entry) => self.both(ledger, row, entry, false).await,
        }
    }

    fn tell(
        &mut self,
        finding: Finding,
        ledger: Ledger,
        reference: &str,
        here: Option<&Ours>,
        there: Option<&Entry>,
    ) -> Result<(), Incomplete> {
        self.totals.differences += 1;
        let gateway_id = there.map(|entry| entry.id.as_str()).or(here.and_then(|row| row.gateway_id.as_deref()));
        let (kind, account_id, location) = (ledger.kind(), ledger.account_id, here.map(|row| ledger.location(row.id)));
        Ok((self.report)(&Difference { finding, kind, account_id, location, gateway_id, reference, here, there })?)
    }
}
