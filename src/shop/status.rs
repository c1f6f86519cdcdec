//! The statuses of orders, charges and refunds: enums in Rust, text in the database. Each table's CHECK lists the same words.

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::Text;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use stripe_gateway::Outcome;

macro_rules! status {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, AsExpression, FromSqlRow)]
        #[diesel(sql_type = Text)]
        #[serde(rename_all = "lowercase")]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// Every status.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The word in the database and on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl ToSql<Text, Pg> for $name {
            fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
                ToSql::<Text, Pg>::to_sql(self.as_str(), &mut out.reborrow())
            }
        }

        impl FromSql<Text, Pg> for $name {
            fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
                match value.as_bytes() {
                    $(word if word == $word.as_bytes() => Ok(Self::$variant),)*
                    word => Err(format!("{:?} is no {}", String::from_utf8_lossy(word), stringify!($name)).into()),
                }
            }
        }
    };
}

status! {
    /// The status of an order.
    OrderStatus {
        /// Not paid yet.
        Pending = "pending",
        /// Paid by a charge.
        Paid = "paid",
        /// Canceled before it was paid.
        Canceled = "canceled",
        /// Paid and then refunded in full.
        Refunded = "refunded",
    }
}

status! {
    /// The status of a charge or a refund.
    PaymentStatus {
        /// The gateway's outcome is not known yet.
        Processing = "processing",
        /// The money moved.
        Succeeded = "succeeded",
        /// No money moved.
        Failed = "failed",
    }
}

impl PaymentStatus {
    /// The final status.
    pub(super) fn after(outcome: &Outcome) -> Self {
        if outcome.end.failure_code().is_some() { Self::Failed } else { Self::Succeeded }
    }
}
