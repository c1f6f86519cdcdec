//! The steps of a request: find the key, compare, work, store. A defect makes one step wrong.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use actix_web::web::Data;
use serde_json::Value;
use uuid::Uuid;

use super::{Defect, Record, Reply, Slot, State, Thing, problem};

/// How long the work takes.
const WORK: Duration = Duration::from_millis(12);

/// How long the work takes for a defect that shows only if duplicates meet, or if a client leaves during the work. Even
/// a busy machine opens fifty connections in less time.
const LONG_WORK: Duration = Duration::from_millis(400);

/// How long the work takes after a 202: long enough for a retry to get the 202 too.
const AFTER_202: Duration = Duration::from_millis(150);

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
            | Defect::WorkCanceledHalfway
            | Defect::WorkLost => LONG_WORK,
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
            Defect::WorkLost => return self.record_first(&slot, &json, fingerprint).await,
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
        if self.state.manner.is_provisional && !self.must_fail(&json) {
            let reply =
                Reply { status: 202, location: None, body: r#"{"state":"working"}"#.to_owned(), expires: false };
            *slot = Some(Record { fingerprint: fingerprint.clone(), reply: reply.clone() });
            drop(slot);
            actix_web::rt::spawn(self.finish(json, fingerprint));
            return (reply, false);
        }
        let reply = self.work(&json).await;
        if self.keeps(&reply) {
            *slot = Some(Record { fingerprint, reply: reply.clone() });
        }
        let marked = self.state.defect == Defect::FailureMarkedButFree && reply.status == 409;
        (reply, marked)
    }

    /// Does the work of a request that was answered 202.
    async fn finish(self, json: Value, fingerprint: String) {
        tokio::time::sleep(AFTER_202).await;
        let reply = self.work(&json).await;
        let key = self.key.clone().ok().flatten().unwrap();
        *self.slot(key).lock().await = Some(Record { fingerprint, reply });
    }

    /// Stores the record, and then makes the thing.
    async fn record_first(&self, slot: &Slot, json: &Value, fingerprint: String) -> (Reply, bool) {
        let mut slot = slot.lock().await;
        if let Some(record) = slot.clone() {
            return self.replay(&record, &fingerprint);
        }
        if let Some(failure) = self.failure(json) {
            return (failure, false);
        }
        let (thing, reply) = self.thing(json);
        *slot = Some(Record { fingerprint, reply: reply.clone() });
        tokio::time::sleep(self.pace()).await;
        self.keep_thing(thing);
        (reply, false)
    }

    fn keeps(&self, reply: &Reply) -> bool {
        match reply.status {
            409 => self.state.manner.stores_failures || self.state.defect == Defect::FailureStored,
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

    /// Has one effect, but each duplicate during the first request's work gets its own reply.
    async fn run_and_keep_the_first(&self, slot: &Slot, json: &Value, fingerprint: String) -> (Reply, bool) {
        if let Some(record) = slot.lock().await.clone() {
            return self.replay(&record, &fingerprint);
        }
        tokio::time::sleep(self.pace()).await;
        let (thing, reply) = self.thing(json);
        let mut slot = slot.lock().await;
        if slot.is_none() {
            self.keep_thing(thing);
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
            Defect::ReplyDiffers => reply.body = reply.body.replace("\"new\"", "\"old\""),
            Defect::ReplyRebuilt => {
                let id = reply.location.as_deref().and_then(|location| location.strip_prefix("/things/"));
                let id = id.and_then(|id| id.parse().ok());
                let now = id.and_then(|id| self.state.with_thing(&self.account, id, |thing| thing.json().to_string()));
                reply.body = now.unwrap_or(reply.body);
            }
            Defect::FailureReplayedAs422 if reply.status == 409 => reply.status = 422,
            Defect::FailureMadeAgainButKept if reply.status == 409 => {
                reply = problem(&self.state, 409, "new-key", &Uuid::new_v4().to_string());
            }
            _ => {}
        }
        (reply, true)
    }

    /// A new thing, and its reply.
    fn thing(&self, json: &Value) -> (Thing, Reply) {
        let (id, customer) = (Uuid::new_v4(), json["customer"].as_str().unwrap().to_owned());
        let thing = Thing { id, account: self.account.clone(), customer, state: "new", made: Instant::now() };
        let status = if self.state.manner.accepts_only { 202 } else { 201 };
        let body = thing.json().to_string();
        (thing, Reply { status, location: Some(format!("/things/{id}")), body, expires: true })
    }

    fn keep_thing(&self, thing: Thing) {
        let made = Instant::now();
        self.state.books.things.lock().unwrap_or_else(PoisonError::into_inner).push(Thing { made, ..thing });
    }

    /// An effect without a reply.
    fn effect(&self, json: &Value) {
        self.keep_thing(self.thing(json).0);
    }

    async fn work(&self, json: &Value) -> Reply {
        let (thing, reply) = self.thing(json);
        if self.state.defect == Defect::WorkCanceledHalfway && !self.must_fail(json) {
            self.keep_thing(thing);
            tokio::time::sleep(self.pace()).await;
            return reply;
        }
        tokio::time::sleep(self.pace()).await;
        if let Some(failure) = self.failure(json) {
            return failure;
        }
        self.keep_thing(thing);
        reply
    }

    fn must_fail(&self, json: &Value) -> bool {
        self.fails || Self::is_too_many(json)
    }

    fn is_too_many(json: &Value) -> bool {
        json["quantity"].as_i64().is_some_and(|quantity| quantity > 100)
    }

    /// The refusal of this request, if it must fail.
    fn failure(&self, json: &Value) -> Option<Reply> {
        let defect = self.state.defect;
        if self.fails {
            if defect == Defect::ServerErrorLeavesEffect {
                self.effect(json);
            }
            return Some(problem(&self.state, 500, "again", "on request"));
        }
        let is_used = |ticket| !self.state.takes(ticket);
        let why = if Self::is_too_many(json) {
            "too many"
        } else if json["ticket"].as_str().is_some_and(is_used) {
            "the ticket is used"
        } else {
            return None;
        };
        if defect == Defect::FailureLeavesEffect {
            self.effect(json);
        }
        let stores = self.state.manner.stores_failures;
        let mut reply = problem(&self.state, 409, if stores { "new-key" } else { "fix" }, why);
        reply.expires = stores;
        Some(reply)
    }
}
