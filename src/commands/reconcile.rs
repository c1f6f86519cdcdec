//! `payments reconcile`: the gateway's books beside ours. Reads, and never writes.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use actix_web::rt;
use chrono::Utc;
use diesel::connection::SimpleConnection as _;
use serde_json::json;
use uuid::Uuid;

use super::Fatal;
use super::accounts::named;
use super::args::{Listing, Settings, When};
use super::database::connect;
use super::gateway::{InUse, check_mode};
use super::say;
use super::table::time;
use crate::http::auth;
use crate::shop::reconciliation::{Asked, Difference, Totals, reconcile};

/// The time between two lines of progress.
const TOLD_EVERY: Duration = Duration::from_secs(5);

/// Prints what differs, and returns whether anything does.
pub fn books(
    settings: &Settings,
    url: &str,
    since: When,
    until: Option<When>,
    account: Option<&str>,
    format: Listing,
) -> Result<bool, Fatal> {
    let mut conn = connect(url)?;
    conn.batch_execute("SET default_transaction_read_only = on")?;
    let mut accounts = auth::accounts(&mut conn)?;
    let account_id = account.map(|account| named(&mut conn, account)).transpose()?.map(|account| account.id);
    accounts.retain(|row| account_id.is_none_or(|asked| asked == row.id));
    let now = Utc::now();
    let asked = Asked { since: since.before(now), until: until.map_or(now, |at| at.before(now)), account_id };
    if asked.since >= asked.until {
        let (since, until) = (time(asked.since), time(asked.until));
        return Err(format!("--since is {since}, which is not before --until, {until}").into());
    }
    let ids: Vec<_> = accounts.iter().map(|row| row.id).collect();
    let names = accounts.into_iter().map(|row| (row.id, row.name)).collect();
    let report = Report { format, names };
    let mut told = Instant::now();
    let progress = |day, totals: &Totals| {
        if told.elapsed() >= TOLD_EVERY {
            let Totals { here, there, differences, .. } = totals;
            log::info!("from {} on, so far: {here} here, {there} there, {differences} differences", time(day));
            told = Instant::now();
        }
    };
    let totals = rt::System::new().block_on(async {
        let gateway = InUse::or_sandbox(settings, url)?;
        check_mode(&mut conn, gateway.mode())?;
        let client = gateway.client()?;
        Ok::<_, Fatal>(reconcile(&mut conn, &client, &ids, asked, |found| report.difference(found), progress).await?)
    })?;
    report.end(asked, &totals)?;
    Ok(totals.differences > 0)
}

/// What is printed: each difference on a line, as it is found.
struct Report {
    format: Listing,
    names: HashMap<Uuid, String>,
}

impl Report {
    fn difference(&self, found: &Difference<'_>) -> io::Result<()> {
        let name = self.names.get(&found.account_id).map(String::as_str);
        if self.format == Listing::Json {
            let mut line = json!(found);
            line["account"] = name.into();
            return writeln!(io::stdout(), "{line}");
        }
        let here = found.here.map(|row| format!("{} {} {}", row.status.as_str(), row.amount, row.currency));
        let there = found.there.map(|entry| {
            let amount = entry.amount.map_or("?".to_owned(), |amount| amount.to_string());
            format!("{} {amount} {}", entry.status, entry.currency)
        });
        let id = found.account_id.to_string();
        writeln!(
            io::stdout(),
            "{}: {} of {} is {} here and {} there ({}), reference {}",
            found.finding.as_str(),
            found.location.as_deref().unwrap_or(found.kind),
            name.unwrap_or(&id),
            here.as_deref().unwrap_or("nothing"),
            there.as_deref().unwrap_or("nothing"),
            found.gateway_id.unwrap_or("no id"),
            found.reference,
        )
    }

    fn end(&self, asked: Asked, totals: &Totals) -> Result<(), Fatal> {
        if self.format == Listing::Json {
            return say(json!({ "since": asked.since, "until": asked.until, "totals": totals }));
        }
        let (since, until) = (time(asked.since), time(asked.until));
        let Totals { here, there, foreign, open, differences } = totals;
        say(format_args!(
            "from {since} to {until}: {here} charges and refunds here, {there} there; {differences} differences, {open} open here"
        ))?;
        if *foreign > 0 {
            say(format_args!("{foreign} objects at the gateway are not of this API"))?;
        }
        if *differences > 0 {
            say("docs/operations.md, \"Compare the books\", says what to do about each")?;
        }
        Ok(())
    }
}
