//! `payments settle` and `payments parked`: charges and refunds that the gateway has not answered.

use std::io::ErrorKind;
use std::sync::Arc;

use actix_web::rt;
use idempotent_payments::config::Settings;
use idempotent_payments::db::{Db, migrate};
use idempotent_payments::gateway::HttpGateway;
use idempotent_payments::payments::{Payments, Settler};
use idempotent_payments::{sandbox, settlement};

use super::database::connect;
use super::say;
use super::serve::sandbox_config;
use crate::Fatal;

/// Settles the due charges and refunds once, and resumes the parked ones. If a sandbox already runs, for example beside a server,
/// the command uses that sandbox. Otherwise the command starts a sandbox.
pub fn settle(settings: &Settings, url: &str) -> Result<(), Fatal> {
    migrate(url)?;
    rt::System::new().block_on(async move {
        let gateway_url = if let Some(url) = &settings.gateway_url {
            url.clone()
        } else {
            match sandbox::start(sandbox_config(settings, url)) {
                Ok(sandbox) => drop(rt::spawn(sandbox.server)),
                Err(sandbox::Error::Bind { source, .. }) if source.kind() == ErrorKind::AddrInUse => {}
                Err(error) => return Err(error.into()),
            }
            format!("http://{}", settings.sandbox_bind)
        };
        let db = Db::start(url, settings.db_pool_size)?;
        let settler = Settler::new(Payments(Arc::new(HttpGateway::new(&gateway_url)?)), db.clone());
        let pass = settler.pass(true).await?;
        say(format_args!("{} charges and refunds taken, {} settled", pass.taken, pass.settled))?;
        rt::task::spawn_blocking(move || db.close()).await?;
        Ok(())
    })
}

/// Lists the parked charges and refunds of all accounts, oldest first, and says what to do.
pub fn parked(url: &str) -> Result<(), Fatal> {
    migrate(url)?;
    let parked = settlement::parked(&mut connect(url)?)?;
    for row in &parked {
        let settlement::Parked { account_id, location, reference, key, request_id, attempts, created_at } = row;
        let begun = created_at.format("%F %T");
        say(format_args!(
            "{location}  account {account_id}  key {key:?}  request {request_id}  begun {begun} UTC  attempts {attempts}\n    \
             reference {reference}"
        ))?;
    }
    if parked.is_empty() {
        return say("nothing is parked");
    }
    say(format_args!("{} parked; when the gateway is well again, `payments settle` resumes them", parked.len()))
}
