//! The commands that change or delete data: migrations, the sweep, the erasure of a customer, and the reset of the local sandbox.

use std::time::{Duration, Instant};

use crate::db;
use crate::demo;
use crate::shop::erasure::{self, Erased, Mode};
use diesel::connection::SimpleConnection;

use super::Fatal;
use super::accounts::named;
use super::database::{Database, connect};
use super::{confirm, say};

pub fn migrate(url: &str) -> Result<(), Fatal> {
    let done = db::migrate(url)?;
    say(format_args!("{} migrations applied", done.len()))?;
    done.iter().try_for_each(|name| say(format_args!("  {name}")))
}

pub fn sweep(url: &str) -> Result<(), Fatal> {
    let mut conn = connect(url)?;
    let mut deleted = 0;
    loop {
        let swept = idempotency::sweep(&mut conn)?;
        deleted += swept.deleted;
        if !swept.more {
            return say(format_args!("{deleted} expired records deleted"));
        }
    }
}

/// The time between two lines of progress.
const TOLD_EVERY: Duration = Duration::from_secs(5);

/// A statement of an erasure reads or changes a thousand rows, perhaps on a database that is busy with other work.
const ERASURE_LIMITS: &str = "SET statement_timeout = '60s'; SET lock_timeout = '30s'";

pub fn erase_customer(url: &str, account: &str, customer: &str, yes: bool, dry_run: bool) -> Result<(), Fatal> {
    let conn = &mut connect(url)?;
    let account = named(conn, account)?;
    if !dry_run {
        confirm(
            &format!("The customer \"{customer}\" of account {} will get another name everywhere.", account.name),
            yes,
        )?;
    }
    conn.batch_execute(ERASURE_LIMITS)?;
    let mode = if dry_run { Mode::Count } else { Mode::rename() };
    let mut told = Instant::now();
    let progress = |erased: &Erased| {
        if told.elapsed() >= TOLD_EVERY {
            log::info!("so far: {}", rows(erased));
            told = Instant::now();
        }
    };
    let erased = erasure::erase_customer(conn, account.id, customer, &mode, progress).map_err(|error| match mode {
        Mode::Count => format!("nothing was changed: {error}"),
        Mode::Rename(_) => format!("the erasure is not complete, run it again: {error}"),
    })?;
    if erased.is_nothing() {
        let spelt = "names are compared letter by letter";
        return Err(format!("account {} has no customer \"{customer}\": {spelt}", account.name).into());
    }
    match mode {
        Mode::Count => say(format_args!("{} name \"{customer}\"; nothing was changed", rows(&erased))),
        Mode::Rename(name) => say(format_args!("{} name {name} now", rows(&erased))),
    }
}

fn rows(erased: &Erased) -> String {
    let Erased { orders, entitlements, events, replies } = erased;
    format!("{orders} orders, {entitlements} entitlements, {events} events and {replies} stored replies")
}

/// Empties the local cluster's database. The tables stay, so that a running server keeps working. If a later release
/// has migrated them, they are dropped and created again.
pub fn reset(database: &Database, yes: bool) -> Result<(), Fatal> {
    let Some(cluster) = &database.cluster else {
        return Err(
            "only the local cluster is emptied, and DATABASE_URL names another server: unset DATABASE_URL, or drop \
                    that database and make it again"
                .into(),
        );
    };
    db::migrate(&database.url)?;
    let everything = "Everything in the local sandbox will be deleted: accounts and keys that you made, orders, charges, \
                      idempotency keys, and the sandbox gateway's books.";
    confirm(&format!("{everything}\nThe data is in {}.", cluster.dir().display()), yes)?;
    let conn = &mut connect(&database.url)?;
    if !db::unknown_migrations(conn)?.is_empty() {
        conn.batch_execute("DROP SCHEMA public CASCADE; DROP SCHEMA IF EXISTS sandbox CASCADE; CREATE SCHEMA public")?;
        db::migrate(&database.url)?;
    }
    demo::reset(conn).map_err(|error| format!("can't empty the database: {error}"))?;
    say("The sandbox is empty, with the demo accounts and their catalogue as at the first start.")
}
