//! The lines of an order: what was bought, as the catalogue had it then, stored with the order as one document.

use std::io::Write as _;

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::Jsonb;
use serde::{Deserialize, Serialize};

use crate::products::Grants;

/// One line. Later changes of the catalogue don't change it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    pub sku: String,
    pub name: String,
    pub quantity: i32,
    /// In minor units of the order's currency.
    pub unit_amount: i64,
    /// Whether it moved `reserved`, and so whether cancelling gives back: the product's stock may change between.
    pub reserves: bool,
    /// What payment of one unit grants the customer.
    pub grants: Option<Grants>,
}

/// All of them, in the order in which they were sent.
#[derive(Clone, Debug, FromSqlRow, AsExpression)]
#[diesel(sql_type = Jsonb)]
pub(crate) struct Lines(pub Vec<Line>);

/// PostgreSQL writes this before the text of each jsonb on the wire.
const JSONB_VERSION: u8 = 1;

impl ToSql<Jsonb, Pg> for Lines {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        out.write_all(&[JSONB_VERSION])?;
        serde_json::to_writer(out, &self.0)?;
        Ok(IsNull::No)
    }
}

impl FromSql<Jsonb, Pg> for Lines {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        match value.as_bytes() {
            [JSONB_VERSION, json @ ..] => Ok(Self(serde_json::from_slice(json)?)),
            _ => Err("this version of jsonb is not known".into()),
        }
    }
}
