//! What is true of a run at a moment: the committed rows, in one snapshot of the database, and the gateway's own books.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use diesel::prelude::*;
use diesel::sql_types::{Array, Json, Text, Uuid as SqlUuid};
use serde_json::{Value, json};
use tokio::sync::Notify;
use uuid::Uuid;

use super::books::{Books, Line};
use super::timeline::Timeline;
use super::watching::microseconds;
use crate::db::Db;
use crate::http::ApiError;

/// What a run bought, and what its looks need. Clones share the references.
#[derive(Clone)]
pub struct Purchases {
    pub account_id: Uuid,
    pub keys: Vec<String>,
    pub orders: Vec<Uuid>,
    /// The names of the run's calls at the gateway, each with its order: the forwarder adds those that it sees.
    references: Arc<Mutex<HashMap<String, Option<Uuid>>>>,
    /// Something has happened, and the next look is due.
    pub changed: Arc<Notify>,
}

/// What the end of a run says.
pub struct Verdict {
    pub charged: usize,
    pub unexplained: usize,
    pub lost: usize,
}

impl Purchases {
    pub fn new(account_id: Uuid, keys: Vec<String>, orders: Vec<Uuid>, references: &[String]) -> Self {
        let of_orders = references.iter().cloned().zip(orders.iter().copied().map(Some)).collect();
        Self { account_id, keys, orders, references: Arc::new(Mutex::new(of_orders)), changed: Arc::default() }
    }

    /// The forwarder saw a call under this reference.
    pub fn saw(&self, reference: &str) {
        self.references().entry(reference.to_owned()).or_default();
    }

    fn references(&self) -> MutexGuard<'_, HashMap<String, Option<Uuid>>> {
        self.references.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The run's lines of the books.
    pub async fn lines(&self, books: &Books, began: u64) -> Result<Vec<Line>, String> {
        let mut lines = books.since(began / 1_000_000).await?;
        let references = self.references();
        lines.retain(|line| references.contains_key(&line.reference));
        Ok(lines)
    }

    /// Looks again after each change, and tells what is true then.
    pub async fn tell_truth(&self, db: &Db, books: &Books, timeline: &Timeline) {
        loop {
            self.changed.notified().await;
            if let Err(cause) = self.look(db, books, timeline).await {
                // The next change looks again. A look that failed is no truth, so the page keeps the older one with its time.
                log::warn!("the stage can't see what is true: {cause}");
            }
        }
    }

    /// One look, told as `truth`, with the time from which on it looked.
    ///
    /// # Errors
    /// The database or the gateway can't be read.
    pub async fn look(&self, db: &Db, books: &Books, timeline: &Timeline) -> Result<Verdict, String> {
        let from = microseconds().saturating_sub(timeline.began);
        let (rows, lines) = tokio::join!(self.rows(db), self.lines(books, timeline.began));
        let (mut truth, lines) = (rows.map_err(|error| error.to_string())?, lines?);
        let captures: Vec<_> = lines.iter().rev().filter(|line| line.is_capture).collect();
        let charges = truth["charges"].as_array().cloned().unwrap_or_default();
        let succeeded: Vec<_> = charges.iter().filter(|charge| charge["status"] == "succeeded").collect();
        let explained: HashSet<_> = succeeded.iter().filter_map(|charge| charge["gateway_id"].as_str()).collect();
        let unexplained = captures.iter().filter(|line| !explained.contains(line.id.as_str())).count();
        let paid: HashSet<_> = succeeded.iter().filter_map(|charge| charge["order_id"].as_str()).collect();
        // A naive call does not say what it is for. A run of the naive endpoint with one order can only be for that one.
        let only = if let [order] = self.orders[..] { Some(order) } else { None };
        let of_line = |line: &&Line| self.references().get(&line.reference).copied().flatten().or(only);
        let taken: HashSet<Uuid> = captures.iter().filter_map(of_line).collect();
        let lost = taken.iter().filter(|order| !paid.contains(order.to_string().as_str())).count();
        truth["books"] = captures
            .iter()
            .map(|line| json!({"id": line.id, "amount": line.amount, "currency": line.currency}))
            .collect();
        truth["unexplained"] = unexplained.into();
        truth["from"] = from.into();
        timeline.tell("truth", truth);
        Ok(Verdict { charged: captures.len(), unexplained, lost })
    }

    async fn rows(&self, db: &Db) -> Result<Value, ApiError> {
        #[derive(QueryableByName)]
        struct Truth {
            #[diesel(sql_type = Json)]
            truth: Value,
        }
        let this = self.clone();
        db.read(self.account_id, move |conn| {
            let looked = diesel::sql_query(include_str!("truth.sql"))
                .bind::<SqlUuid, _>(this.account_id)
                .bind::<Array<Text>, _>(&this.keys)
                .bind::<Array<SqlUuid>, _>(&this.orders);
            Ok(looked.get_result::<Truth>(conn)?.truth)
        })
        .await
    }
}
