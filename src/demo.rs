//! The demo: two accounts with known keys and a small catalogue. Not for production: everybody knows these keys.

use diesel::pg::PgConnection;
use diesel::prelude::*;
use iso_currency::Currency;
use uuid::Uuid;

use crate::auth::add_account;
use crate::error::ApiError;
use crate::products::{Grants, ProductTerms, insert};

/// Name, id and API key.
const ACCOUNTS: [(&str, Uuid, &str); 2] = [
    ("acme", Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0001), "sk_demo_acme"),
    ("globex", Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0002), "sk_demo_globex"),
];

/// Adds the demo accounts and whatever of their catalogue is missing. What was changed since stays as it is.
///
/// # Errors
/// The database's.
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

fn catalogue() -> [(&'static str, ProductTerms); 3] {
    let pro = Grants { feature: "pro".into(), units: None, days: Some(30) };
    let credits = Grants { feature: "api_credits".into(), units: Some(1000), days: None };
    [
        ("pro-monthly", ProductTerms::new("Pro, a month", 4900, Currency::EUR, None, Some(pro))),
        ("credits-1000", ProductTerms::new("1000 API credits", 2000, Currency::EUR, None, Some(credits))),
        ("sticker", ProductTerms::new("Sticker", 500, Currency::EUR, Some(10), None)),
    ]
}
