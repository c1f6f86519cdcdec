//! `payments reconcile`: the gateway's books beside ours. Reads, and never writes.

use std::collections::HashMap;
use std::io::Write as _;
use std::time::{Duration, Instant};

use actix_web::rt;
use chrono::Utc;
use diesel::connection::SimpleConnection as _;
use serde_json::json;
use uuid::Uuid;

use super::Fatal;
use super::accounts::named;
use super::args::{Listing, Period, Settings};
use super::database::connect;
use super::gateway::{InUse, check_mode};
use super::say;
use super::table::time;
use crate::http::auth;
use crate::shop::reconciliation::{Asked, Difference, Side, reconcile};

/// The time between two lines of progress.
const TOLD_EVERY: Duration = Duration::from_secs(5);

/// What the table looks like. The report is written as it is found, so no column waits for its widest cell.
macro_rules! columns {
    ($($cell:expr),*) => {
        format_args!("{:<10}  {:<6}  {:<32}  {:<32}  {:<45}  {:<35}  {:<64}  {}", $($cell),*)
    };
}

/// Prints what differs. Returns whether something does.
pub fn books(
    settings: &Settings,
    url: &str,
    period: Period,
    account: Option<&str>,
    format: Listing,
) -> Result<bool, Fatal> {
    let mut conn = connect(url)?;
    conn.batch_execute("SET default_transaction_read_only = on")?;
    let mut accounts = auth::accounts(&mut conn)?;
    let account_id = account.map(|account| named(&mut conn, account)).transpose()?.map(|account| account.id);
    accounts.retain(|row| account_id.is_none_or(|asked| asked == row.id));
    let now = Utc::now();
    let asked =
        Asked { since: period.since.before(now), until: period.until.map_or(now, |at| at.before(now)), account_id };
    if asked.since >= asked.until {
        return Err(
            format!("--since is {}, which is not before --until, {}", time(asked.since), time(asked.until)).into()
        );
    }
    let ids: Vec<_> = accounts.iter().map(|row| row.id).collect();
    let names: HashMap<Uuid, String> = accounts.into_iter().map(|row| (row.id, row.name)).collect();
    rt::System::new().block_on(async {
        let gateway = InUse::or_sandbox(settings, url)?;
        check_mode(&mut conn, gateway.mode())?;
        let mut told = Instant::now();
        if format == Listing::Table {
            say(columns!(
                "DIFFERS",
                "KIND",
                "HERE",
                "THERE",
                "CHARGE OR REFUND",
                "GATEWAY'S ID",
                "REFERENCE",
                "ACCOUNT"
            ))?;
        }
        let report = |difference: &Difference| {
            let name = names.get(&difference.account_id).map(String::as_str);
            match format {
                Listing::Table => line(difference, name),
                Listing::Json => {
                    let mut line = json!(difference);
                    line["account"] = name.into();
                    writeln!(std::io::stdout(), "{line}")
                }
            }
        };
        let totals = reconcile(&mut conn, &gateway.client()?, &ids, asked, report, |day, totals| {
            if told.elapsed() >= TOLD_EVERY {
                let far = format!("{} here, {} there, {} differences", totals.here, totals.there, totals.differences);
                log::info!("from {} on, so far: {far}", time(day));
                told = Instant::now();
            }
        })
        .await?;
        match format {
            Listing::Json => say(json!({ "since": asked.since, "until": asked.until, "totals": totals }))?,
            Listing::Table => {
                say(format_args!(
                    "\nfrom {} to {}: {} charges and refunds here, {} there; {} differences, {} open here",
                    time(asked.since),
                    time(asked.until),
                    totals.here,
                    totals.there,
                    totals.differences,
                    totals.open
                ))?;
                if totals.foreign > 0 {
                    say(format_args!("{} objects at the gateway are not of this API", totals.foreign))?;
                }
                if totals.differences > 0 {
                    say("docs/operations.md, \"Compare the books\", says what to do about each")?;
                }
            }
        }
        Ok(totals.differences > 0)
    })
}

fn line(difference: &Difference, name: Option<&str>) -> std::io::Result<()> {
    let Difference { finding, kind, account_id, location, gateway_id, reference, here, there } = difference;
    let side = |side: &Option<Side>| match side {
        None => "-".to_owned(),
        Some(Side { status, amount, currency, .. }) => {
            format!("{status} {} {currency}", amount.map_or_else(|| "?".to_owned(), |amount| amount.to_string()))
        }
    };
    let (id, made) = (account_id.to_string(), |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned()));
    let line = columns!(
        finding.as_str(),
        kind,
        side(here),
        side(there),
        made(location),
        made(gateway_id),
        reference,
        name.unwrap_or(&id)
    );
    writeln!(std::io::stdout(), "{line}")
}
