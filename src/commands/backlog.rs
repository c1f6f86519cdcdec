//! `payments backlog`: the charges and refunds whose outcome is not known yet.

use std::collections::HashMap;

use external_calls::{OfAccount, Open};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Fatal;
use super::accounts::named;
use super::args::Listing;
use super::database::connect;
use super::say;
use super::table::{table, time};
use crate::http::auth;

/// The most charges and refunds listed: more than a person reads, since there may be very many after a long outage.
const LISTED: i64 = 1000;

/// The most accounts listed: those with the largest backlog.
const ACCOUNTS: i64 = 100;

/// Lists the oldest ones, and each account's share.
pub fn list(url: &str, only_parked: bool, account: Option<&str>, format: Listing) -> Result<(), Fatal> {
    let conn = &mut connect(url)?;
    let account_id = account.map(|account| named(conn, account)).transpose()?.map(|account| account.id);
    let (accounts, calls) = (
        external_calls::backlog_by_account(conn, account_id, ACCOUNTS)?,
        external_calls::open_calls(conn, account_id, only_parked, LISTED)?,
    );
    let names: HashMap<Uuid, String> = auth::accounts(conn)?.into_iter().map(|row| (row.id, row.name)).collect();
    let name = |id: &Uuid| names.get(id).map_or("", String::as_str);
    if format == Listing::Json {
        let with_name = |mut value: Value, id: &Uuid| {
            value["account"] = name(id).into();
            value
        };
        let accounts: Vec<_> = accounts.iter().map(|of| with_name(json!(of), &of.account_id)).collect();
        let calls: Vec<_> = calls.iter().map(|call| with_name(json!(call), &call.account_id)).collect();
        return say(format_args!("{:#}", json!({ "accounts": accounts, "calls": calls })));
    }
    if calls.is_empty() {
        return say(if only_parked { "nothing is parked" } else { "the backlog is empty" });
    }
    say(of_accounts(&accounts, name))?;
    say("")?;
    say(of_calls(&calls, name))?;
    if i64::try_from(calls.len()).is_ok_and(|listed| listed == LISTED) {
        say(format_args!("these are the oldest {LISTED}"))?;
    }
    if calls.iter().any(|call| call.parked_at.is_some()) {
        say("\nwhen the gateway is well again, `payments resolve` resumes what is parked")?;
    }
    Ok(())
}

fn of_accounts<'a>(accounts: &[OfAccount], name: impl Fn(&Uuid) -> &'a str) -> String {
    let row = |of: &OfAccount| {
        let OfAccount { account_id, open, parked, oldest } = of;
        let oldest = oldest.map(time).unwrap_or_default();
        [account_id.to_string(), open.to_string(), parked.to_string(), oldest, name(account_id).to_owned()]
    };
    table(["ACCOUNT", "OPEN", "PARKED", "OLDEST SINCE", "NAME"], &accounts.iter().map(row).collect::<Vec<_>>())
}

fn of_calls<'a>(calls: &[Open], name: impl Fn(&Uuid) -> &'a str) -> String {
    let header =
        ["CHARGE OR REFUND", "SINCE", "ATTEMPTS", "NEXT ATTEMPT", "REQUEST", "REFERENCE", "IDEMPOTENCY KEY", "ACCOUNT"];
    let row = |call: &Open| {
        let next = match call.parked_at {
            Some(at) => format!("parked {}", time(at)),
            None => call.next_attempt_at.map(time).unwrap_or_default(),
        };
        [
            call.location.clone(),
            time(call.created_at),
            call.attempts.to_string(),
            next,
            call.request_id.to_string(),
            call.reference.clone(),
            call.key.clone(),
            name(&call.account_id).to_owned(),
        ]
    };
    table(header, &calls.iter().map(row).collect::<Vec<_>>())
}
