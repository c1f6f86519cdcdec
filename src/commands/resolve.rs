//! `payments resolve`: resolves charges and refunds that the gateway has not answered.

use std::sync::Arc;

use crate::commands::args::Settings;
use crate::db::{Db, migrate};
use crate::shop::payments::{Payments, Resolver};
use actix_web::rt;

use super::Fatal;
use super::database::connect;
use super::gateway::{InUse, remember_mode};
use super::say;

/// Resolves the due charges and refunds once, and resumes the parked ones.
pub fn resolve(settings: &Settings, url: &str) -> Result<(), Fatal> {
    migrate(url)?;
    rt::System::new().block_on(async move {
        let gateway = InUse::or_sandbox(settings, url)?;
        remember_mode(&mut connect(url)?, gateway.mode())?;
        let db = Db::start(url, settings.db_pool_size)?;
        let resolver = Resolver::new(Payments(Arc::new(gateway.client()?)), db.clone());
        let done = resolver.run_once(true).await?;
        say(format_args!("{} charges and refunds taken, {} resolved", done.taken, done.resolved))?;
        if done.not_taken > 0 {
            say(format_args!("the database refused {} more; run this command again", done.not_taken))?;
        }
        rt::task::spawn_blocking(move || db.pool().close()).await?;
        Ok(())
    })
}
