//! Two accounts and a small catalogue. Not for production: everybody knows the API keys of these accounts.

use diesel::connection::SimpleConnection;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::Text;
use iso_currency::Currency;
use uuid::Uuid;

use crate::http::ApiError;
use crate::http::auth::add_account;
use crate::shop::products::{Grants, ProductTerms, insert};

/// The account that the stage uses.
pub(super) const ACME: Uuid = Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0001);
/// Its API key.
pub(super) const ACME_KEY: &str = "sk_demo_acme";

/// Name, id and API key.
const ACCOUNTS: [(&str, Uuid, &str); 2] = [
    ("acme", ACME, ACME_KEY),
    ("globex", Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0002), "sk_demo_globex"),
];

/// Adds the demo accounts and products that are missing. An existing product is left alone.
pub fn seed(conn: &mut PgConnection) -> Result<(), ApiError> {
    for (name, id, key) in ACCOUNTS {
        conn.transaction(|conn| {
            add_account(conn, id, name, key)?;
            for (sku, terms) in catalogue() {
                insert(conn, id, sku, &terms)?;
            }
            Ok::<_, ApiError>(())
        })?;
    }
    Ok(())
}

/// The names and API keys of the demo accounts.
#[must_use]
pub fn keys() -> [(&'static str, &'static str); 2] {
    ACCOUNTS.map(|(name, _, key)| (name, key))
}

/// Deletes every row of every table, the sandbox gateway's too, and seeds the demo again. The schema stays.
pub fn reset(conn: &mut PgConnection) -> Result<(), ApiError> {
    conn.transaction(|conn| {
        // From PostgreSQL's list of tables, because no list in the code has the sandbox's.
        let tables: Vec<String> = diesel::dsl::sql::<Text>(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
             WHERE schemaname IN ('public', 'sandbox', 'demo') AND tablename <> '__diesel_schema_migrations'",
        )
        .load(conn)?;
        conn.batch_execute(&format!("TRUNCATE {}", tables.join(", ")))?;
        seed(conn)
    })
}

fn catalogue() -> [(&'static str, ProductTerms); 3] {
    let pro = Grants { feature: "pro".into(), units: None, days: Some(30) };
    let credits = Grants { feature: "api_credits".into(), units: Some(1000), days: None };
    [
        ("pro-monthly", ProductTerms::new("Pro, a month", 4900, Currency::EUR, None, Some(pro))),
        ("credits-1000", ProductTerms::new("1000 API credits", 2000, Currency::EUR, None, Some(credits))),
        ("sticker", ProductTerms::new("Sticker", 500, Currency::EUR, Some(10), None)),
    ]
}
