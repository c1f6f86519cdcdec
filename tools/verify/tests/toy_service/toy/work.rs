//! The steps of a request: find the key, compare, work, store. A defect makes one step wrong.

use std::sync::PoisonError;
use std::time::Duration;

use actix_web::web::Data;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Defect, Record, Reply, Slot, State, problem};

/// How long the work takes.
const WORK: Duration = Duration::from_millis(12);

/// How long the work takes for a defect that shows only if duplicates meet, or if a client leaves during the work. A busy machine
/// makes fifty connections in less time.
const LONG_WORK: Duration = Duration::from_millis(400);

/// One request.
pub struct Work {
    pub state: Data<State>,
    pub account: String,
    pub place: String,
    pub key: Result<Option<String>, &'static str>,
    pub fails: bool,
    pub body: String,
}

impl Work {
    fn pace(&self) -> Duration {
        match self.state.defect {
            Defect::NoLock
            | Defect::DuplicatesAnswerThemselves
            | Defect::KeyStuckWithoutClient
            | Defect::LosersFail
            | Defect::ConflictWithoutRetryAfter
            | Defect::LockPerProcess
            | Defect::WorkCanceledHalfway => LONG_WORK,
            _ => WORK,
        }
    }

    fn fingerprint(&self, json: &Value) -> String {
        let compact: String = self.body.split_whitespace().collect();
        let spaces = self.body.len() - compact.len();
        match self.state.defect {
            Defect::BodyNotCompared => self.place.clone(),
            Defect::PathNotCompared => format!("{} {json}", self.place.split_once(' ').unwrap().0),
            Defect::MethodNotCompared => format!("{} {json}", self.place.split_once(' ').unwrap().1),
            Defect::MemberOrderCompared => format!("{} {compact}", self.place),
            Defect::WhiteSpaceCompared => format!("{} {json} {spaces}", self.place),
            _ => format!("{} {json}", self.place),
        }
    }

    fn slot(&self, key: String) -> Slot {
        let account = if self.state.defect == Defect::KeySharedBetweenAccounts { "all" } else { &self.account };
        let books = if self.state.defect == Defect::LockPerProcess { &self.state.own } else { &self.state.books };
        let mut slots = books.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.entry((account.to_owned(), key)).or_default().clone()
    }

    pub async fn run(self) -> (Reply, bool) {
        let key = match &self.key {
            Ok(Some(key)) if self.state.defect != Defect::KeyIgnored => key.clone(),
            Ok(_) => return (self.work(&serde_json::from_str(&self.body).unwrap()).await, false),
            Err(why) => return (problem(&self.state, 400, "fix", why), false),
        };
        let json: Value = serde_json::from_str(&self.body).unwrap();
        let fingerprint = self.fingerprint(&json);
        let slot = self.slot(key);
        match self.state.defect {
            Defect::NoLock => return self.run_without_lock(&slot, &json, fingerprint).await,
            Defect::DuplicatesAnswerThemselves => return self.run_and_keep_the_first(&slot, &json, fingerprint).await,
            Defect::KeyStuckWithoutClient => return self.run_with_a_flag(&slot, &json, fingerprint).await,
            Defect::LosersFail if slot.try_lock().is_err() => {
                return (problem(&self.state, 500, "again", "lost"), false);
            }
            Defect::ConflictWithoutRetryAfter if slot.try_lock().is_err() => {
                return (problem(&self.state, 409, "again", "in flight"), false);
            }
            _ => {}
        }
        let mut slot = slot.lock().await;
        if let Some(record) = slot.clone() {
            let answer = self.replay(&record, &fingerprint);
            if answer.0.status == 422 && self.state.defect == Defect::ReuseForgetsTheFirst {
                *slot = None;
            }
            return answer;
        }
        let reply = self.work(&json).await;
        if self.keeps(&reply) {
            *slot = Some(Record { fingerprint, reply: reply.clone() });
        }
        let marked = self.state.defect == Defect::FailureMarkedButFree && reply.status == 409;
        (reply, marked)
    }

    fn keeps(&self, reply: &Reply) -> bool {
        match reply.status {
            409 => self.state.stores_failures || self.state.defect == Defect::FailureStored,
            500.. => self.state.defect == Defect::ServerErrorStored,
            _ => true,
        }
    }

    async fn run_without_lock(&self, slot: &Slot, json: &Value, fingerprint: String) -> (Reply, bool) {
        if let Some(record) = slot.lock().await.clone() {
            return self.replay(&record, &fingerprint);
        }
        let reply = self.work(json).await;
        *slot.lock().await = Some(Record { fingerprint, reply: reply.clone() });
        (reply, false)
    }

    /// Makes one effect, but each duplicate during the first request's work gets its own reply.
    async fn run_and_keep_the_first(&self, slot: &Slot, json: &Value, fingerprint: String) -> (Reply, bool) {
        if let Some(record) = slot.lock().await.clone() {
            return self.replay(&record, &fingerprint);
        }
        tokio::time::sleep(self.pace()).await;
        let reply = Self::reply(json);
        let mut slot = slot.lock().await;
        if slot.is_none() {
            self.effect(json);
            *slot = Some(Record { fingerprint, reply: reply.clone() });
        }
        (reply, false)
    }

    /// A flag says that the request is in flight. If the work is canceled, the flag stays.
    async fn run_with_a_flag(&self, slot: &Slot, json: &Value, fingerprint: String) -> (Reply, bool) {
        const IN_FLIGHT: &str = "in flight";
        let record = slot.lock().await.clone();
        match record {
            Some(record) if record.fingerprint == IN_FLIGHT => (problem(&self.state, 409, "again", IN_FLIGHT), false),
            Some(record) => self.replay(&record, &fingerprint),
            None => {
                let reply = problem(&self.state, 409, "again", IN_FLIGHT);
                *slot.lock().await = Some(Record { fingerprint: IN_FLIGHT.to_owned(), reply });
                let reply = self.work(json).await;
                *slot.lock().await = Some(Record { fingerprint, reply: reply.clone() });
                (reply, false)
            }
        }
    }

    fn replay(&self, record: &Record, fingerprint: &str) -> (Reply, bool) {
        if record.fingerprint != fingerprint {
            return (problem(&self.state, 422, "new-key", "the key is used"), false);
        }
        let mut reply = record.reply.clone();
        match self.state.defect {
            Defect::ReplayIs200 => reply.status = 200,
            Defect::LocationLost => reply.location = None,
            Defect::ReplyRebuilt => reply.body = reply.body.replace("\"new\"", "\"seen\""),
            Defect::FailureReplayedAs422 if reply.status == 409 => reply.status = 422,
            Defect::FailureMadeAgainButKept if reply.status == 409 => {
                reply = problem(&self.state, 409, "new-key", &Uuid::new_v4().to_string());
            }
            _ => {}
        }
        (reply, true)
    }

    fn reply(json: &Value) -> Reply {
        let id = Uuid::new_v4();
        let body = json!({"id": id, "customer": json["customer"], "state": "new"}).to_string();
        Reply { status: 201, location: Some(format!("/things/{id}")), body, expires: true }
    }

    fn effect(&self, json: &Value) {
        let customer = json["customer"].as_str().unwrap().to_owned();
        self.state.books.effects.lock().unwrap_or_else(PoisonError::into_inner).push((self.account.clone(), customer));
    }

    async fn work(&self, json: &Value) -> Reply {
        let defect = self.state.defect;
        if defect == Defect::WorkCanceledHalfway {
            self.effect(json);
        }
        tokio::time::sleep(self.pace()).await;
        if self.fails {
            if defect == Defect::ServerErrorLeavesEffect {
                self.effect(json);
            }
            return problem(&self.state, 500, "again", "on request");
        }
        if json["quantity"].as_i64().is_some_and(|quantity| quantity > 100) {
            if defect == Defect::FailureLeavesEffect {
                self.effect(json);
            }
            let mut reply =
                problem(&self.state, 409, if self.state.stores_failures { "new-key" } else { "fix" }, "too many");
            reply.expires = self.state.stores_failures;
            return reply;
        }
        if defect != Defect::WorkCanceledHalfway {
            self.effect(json);
        }
        Self::reply(json)
    }
}
