//! What is true of a run at one moment: the committed rows, in one snapshot of the database, and the gateway's own
//! books.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use diesel::prelude::*;
use diesel::sql_types::{Array, Json, Text, Uuid as SqlUuid};
use serde_json::{Value, json};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::books::{Books, Line};
use crate::database::Database;
use crate::timeline::Timeline;
use crate::watching::microseconds;

/// What a run bought, and where the truth about it is.
pub struct Purchases {
    pub books: Books,
    pub database: Database,
    pub timeline: Timeline,
    pub account_id: Uuid,
    pub keys: Arc<[String]>,
    pub orders: Arc<[Uuid]>,
    /// The references of the run's calls, each with its order: the forwarder adds those that it sees.
    pub references: Mutex<HashMap<String, Option<Uuid>>>,
    /// Something has happened, and the next look is due.
    pub changed: Notify,
}

/// The verdict at the end of a run.
pub struct Verdict {
    pub charged: usize,
    pub unexplained: usize,
    pub lost: usize,
}

impl Purchases {
    /// The forwarder saw a call under this reference.
    pub fn saw(&self, reference: &str) {
        self.references().entry(reference.to_owned()).or_default();
    }

    /// Whether a call of the run has this reference.
    pub fn has(&self, reference: &str) -> bool {
        self.references().contains_key(reference)
    }

    fn references(&self) -> MutexGuard<'_, HashMap<String, Option<Uuid>>> {
        self.references.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The run's lines of the books.
    pub async fn lines(&self) -> Result<Vec<Line>, String> {
        let mut lines = self.books.since(self.timeline.began / 1_000_000).await?;
        let references = self.references();
        lines.retain(|line| references.contains_key(&line.reference));
        Ok(lines)
    }

    /// Looks again after each change, and reports what is true then.
    pub async fn tell_truth(&self) {
        loop {
            self.changed.notified().await;
            if let Err(cause) = self.look().await {
                // The next change causes another look. A failed look shows nothing, so the page keeps the older one
                // with its time.
                log::warn!("the stage can't see what is true: {cause}");
            }
        }
    }

    /// One look, reported as `truth`, with the time at which it began.
    ///
    /// # Errors
    /// The database or the gateway can't be read.
    pub async fn look(&self) -> Result<Verdict, String> {
        let from = microseconds().saturating_sub(self.timeline.began);
        let (rows, lines) = tokio::join!(self.rows(), self.lines());
        let (mut truth, lines) = (rows?, lines?);
        let captures: Vec<_> = lines.iter().rev().filter(|line| line.is_capture).collect();
        let charges = truth["charges"].as_array().cloned().unwrap_or_default();
        let succeeded: Vec<_> = charges.iter().filter(|charge| charge["status"] == "succeeded").collect();
        let explained: HashSet<_> = succeeded.iter().filter_map(|charge| charge["gateway_id"].as_str()).collect();
        let unexplained = captures.iter().filter(|line| !explained.contains(line.id.as_str())).count();
        let paid: HashSet<_> = succeeded.iter().filter_map(|charge| charge["order_id"].as_str()).collect();
        // A naive call does not say what it is for. In a run of the naive endpoint with one order, it can only be for
        // that one.
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
        self.timeline.tell("truth", truth);
        Ok(Verdict { charged: captures.len(), unexplained, lost })
    }

    async fn rows(&self) -> Result<Value, String> {
        #[derive(QueryableByName)]
        struct Truth {
            #[diesel(sql_type = Json)]
            truth: Value,
        }
        let (account_id, keys, orders) = (self.account_id, Arc::clone(&self.keys), Arc::clone(&self.orders));
        let looked = self.database.read(move |conn| {
            let looked = diesel::sql_query(include_str!("truth.sql"))
                .bind::<SqlUuid, _>(account_id)
                .bind::<Array<Text>, _>(&*keys)
                .bind::<Array<SqlUuid>, _>(&*orders);
            Ok(looked.get_result::<Truth>(conn)?.truth)
        });
        looked.await
    }
}
