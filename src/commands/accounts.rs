//! `payments account` and `payments key`.

use crate::commands::args::{AccountAction, KeyAction};
use crate::db::migrate;
use crate::http::auth::{self, AccountRow, BELIEVED_FOR, KeyRow};
use diesel::connection::{Connection as _, SimpleConnection as _};
use diesel::pg::PgConnection;
use uuid::Uuid;

use super::Fatal;
use super::database::connect;
use super::say;
use super::table::{table, time};

pub fn account(url: &str, action: &AccountAction) -> Result<(), Fatal> {
    // A list changes nothing.
    if !matches!(action, AccountAction::List) {
        migrate(url)?;
    }
    let conn = &mut connect(url)?;
    match action {
        AccountAction::Create { name } => {
            let (id, key) = create(conn, name)?;
            say(format_args!("account {id}\nAPI key {key}\nThe key is shown only now: keep it."))
        }
        AccountAction::List => {
            for AccountRow { id, name, live_keys, created_at } in auth::accounts(conn)? {
                let created = created_at.format("%F %T");
                say(format_args!("{id}  made {created} UTC  keys: {live_keys}  {name}"))?;
            }
            Ok(())
        }
    }
}

/// Locked, so that two of these commands at once don't create two accounts of one name.
fn create(conn: &mut PgConnection, name: &str) -> Result<(Uuid, String), Fatal> {
    conn.transaction(|conn| {
        conn.batch_execute("LOCK TABLE accounts IN SHARE ROW EXCLUSIVE MODE")?;
        if let Some(same) = auth::accounts(conn)?.into_iter().find(|account| account.name == name) {
            return Err(format!("there is an account {name} already ({}): choose another name", same.id).into());
        }
        Ok(auth::create_account(conn, name)?)
    })
}

pub fn key(url: &str, action: &KeyAction) -> Result<(), Fatal> {
    if !matches!(action, KeyAction::List { .. }) {
        migrate(url)?;
    }
    let conn = &mut connect(url)?;
    match action {
        KeyAction::Create { account, name } => {
            let account = named(conn, account)?;
            let (id, key) = auth::create_key(conn, account.id, name.as_deref())?;
            say(format_args!("key id {id}\nAPI key {key}\nThe key is shown only now: keep it."))
        }
        KeyAction::List { account } => {
            let account = named(conn, account)?;
            let row = |KeyRow { id, name, created_at, last_used_at, revoked_at }| {
                let used = last_used_at.map_or_else(|| "never".to_owned(), time);
                let state = revoked_at.map_or_else(|| "live".to_owned(), |at| format!("revoked {}", time(at)));
                [id.to_string(), time(created_at), used, state, name.unwrap_or_default()]
            };
            let rows: Vec<_> = auth::keys(conn, account.id)?.into_iter().map(row).collect();
            say(table(["KEY", "MADE", "LAST USED", "STATE", "NAME"], &rows))
        }
        KeyAction::Revoke { key } => {
            let Some((id, account_id)) = auth::revoke(conn, key)? else {
                return Err("there is no live key with this id: `payments key list ACCOUNT` shows the ids".into());
            };
            let within = BELIEVED_FOR.as_secs();
            say(format_args!("key {id} is revoked: it stops working within {within} s, in every replica"))?;
            if auth::keys(conn, account_id)?.iter().all(|key| key.revoked_at.is_some()) {
                say(format_args!(
                    "account {account_id} has no live key now: `payments key create {account_id}` creates one"
                ))?;
            }
            Ok(())
        }
    }
}

/// The account with this id or this name.
pub fn named(conn: &mut PgConnection, account: &str) -> Result<AccountRow, Fatal> {
    let id = Uuid::try_parse(account).ok();
    let mut found = auth::accounts(conn)?;
    found.retain(|row| Some(row.id) == id || row.name == account);
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(_), false) => Err(format!("several accounts have the name {account}: give an id instead").into()),
        (None, _) => Err(format!("there is no account {account}: `payments account list` shows all").into()),
    }
}
