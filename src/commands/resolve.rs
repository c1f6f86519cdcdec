//! `payments resolve` and `payments parked`: charges and refunds that the gateway has not answered.

use std::io::ErrorKind;
use std::sync::Arc;

use crate::commands::args::Settings;
use crate::db::{Db, migrate};
use crate::shop::payments::{Payments, Resolver};
use actix_web::rt;

use super::Fatal;
use super::database::connect;
use super::gateway::{InUse, remember_mode};
use super::say;
use super::serve::sandbox_config;

/// Resolves the due charges and refunds once, and resumes the parked ones. If a sandbox already runs, for example beside a server,
/// the command uses that sandbox. Otherwise the command starts a sandbox.
pub fn resolve(settings: &Settings, url: &str) -> Result<(), Fatal> {
    migrate(url)?;
    rt::System::new().block_on(async move {
        let gateway = if let Some(gateway) = InUse::of(settings) {
            gateway
        } else {
            match sandbox_gateway::start(sandbox_config(settings, url, None)) {
                Ok(sandbox) => drop(rt::spawn(sandbox.server)),
                Err(sandbox_gateway::Error::Bind { source, .. }) if source.kind() == ErrorKind::AddrInUse => {}
                Err(error) => return Err(error.into()),
            }
            InUse::sandbox(format!("http://{}", settings.sandbox_bind))
        };
        remember_mode(&mut connect(url)?, gateway.mode())?;
        let db = Db::start(url, settings.db_pool_size)?;
        let resolver = Resolver::new(Payments(Arc::new(gateway.client()?)), db.clone());
        let done = resolver.run_once(true).await?;
        say(format_args!("{} charges and refunds taken, {} resolved", done.taken, done.resolved))?;
        if done.not_taken > 0 {
            say(format_args!("the database refused {} more; run this command again", done.not_taken))?;
        }
        rt::task::spawn_blocking(move || db.close()).await?;
        Ok(())
    })
}

/// So many parked rows are listed: more than a person reads, and after a long outage there may be very many.
const LISTED: i64 = 1000;

/// Lists the parked charges and refunds of all accounts, oldest first, and says what to do.
pub fn parked(url: &str) -> Result<(), Fatal> {
    migrate(url)?;
    let conn = &mut connect(url)?;
    let parked = external_calls::parked(conn, LISTED)?;
    for row in &parked {
        let external_calls::Parked { account_id, location, reference, key, request_id, attempts, created_at } = row;
        let begun = created_at.format("%F %T");
        say(format_args!(
            "{location}  account {account_id}  key {key:?}  request {request_id}  begun {begun} UTC  attempts {attempts}\n    \
             reference {reference}"
        ))?;
    }
    if parked.is_empty() {
        return say("nothing is parked");
    }
    let all = external_calls::parked_count(conn)?;
    if all > LISTED {
        say(format_args!("these are the oldest {LISTED}"))?;
    }
    say(format_args!("{all} parked; when the gateway is well again, `payments resolve` resumes them"))
}
