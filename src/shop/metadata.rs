//! Metadata: the client's own data about an order, a charge or a refund. It is stored, returned and never interpreted, and it
//! never goes to the gateway.

use std::collections::BTreeMap;

use crate::db::Jsonb;
use crate::http::rules::{Map, map, text};

/// As many and as long as at Stripe, except for the number of keys: the reply stays well below the limit of the record.
pub(crate) const METADATA: Map = map(20, text(40), text(500));

/// The map.
pub type Metadata = BTreeMap<String, String>;

impl From<Jsonb<Self>> for Metadata {
    fn from(column: Jsonb<Self>) -> Self {
        column.0
    }
}
