//! The things that the toy makes: the effects of its requests.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::Instant;

use actix_web::web::{Bytes, Data, Path, Query};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{State, account_of};

/// One thing.
pub struct Thing {
    pub id: Uuid,
    pub account: String,
    pub customer: String,
    pub state: &'static str,
    pub made: Instant,
}

impl Thing {
    pub fn json(&self) -> Value {
        json!({"id": self.id, "customer": self.customer, "state": self.state})
    }
}

impl State {
    /// Takes a ticket, if it is still good.
    pub fn takes(&self, ticket: &str) -> bool {
        ticket.parse().is_ok_and(|ticket| self.books.tickets.lock().unwrap().remove(&ticket))
    }

    /// Does something with a thing of this account.
    pub fn with_thing<T>(&self, account: &str, id: Uuid, act: impl FnOnce(&mut Thing) -> T) -> Option<T> {
        let mut things = self.books.things.lock().unwrap_or_else(PoisonError::into_inner);
        things.iter_mut().find(|thing| thing.id == id && thing.account == account).map(act)
    }
}

pub async fn list(state: Data<State>, request: HttpRequest, query: Query<HashMap<String, String>>) -> HttpResponse {
    let things = state.books.things.lock().unwrap_or_else(PoisonError::into_inner);
    let shown = |thing: &&Thing| {
        thing.account == account_of(&request)
            && query.get("customer").is_none_or(|wanted| *wanted == thing.customer)
            && thing.made.elapsed() >= state.manner.lag
    };
    let data: Vec<_> =
        things.iter().take(state.manner.shows.unwrap_or(usize::MAX)).filter(shown).map(Thing::json).collect();
    HttpResponse::Ok().json(json!({"data": data, "has_more": false}))
}

pub async fn read(state: Data<State>, request: HttpRequest, id: Path<Uuid>) -> HttpResponse {
    match state.with_thing(&account_of(&request), *id, |thing| thing.json()) {
        Some(json) => HttpResponse::Ok().json(json),
        None => HttpResponse::NotFound().finish(),
    }
}

/// Sells a ticket, or another one for a ticket that is still good: `--setup` asks for it.
pub async fn sell_ticket(state: Data<State>, body: Bytes) -> HttpResponse {
    let json: Value = serde_json::from_slice(&body).unwrap_or_default();
    if json["instead"].as_str().is_some_and(|ticket| !state.takes(ticket)) {
        return HttpResponse::Conflict().finish();
    }
    let id = Uuid::new_v4();
    state.books.tickets.lock().unwrap().insert(id);
    HttpResponse::Created().json(json!({"id": id}))
}

/// Changes a thing: `--change` asks for it.
pub async fn see(state: Data<State>, request: HttpRequest, id: Path<Uuid>) -> HttpResponse {
    match state.with_thing(&account_of(&request), *id, |thing| thing.state = "seen") {
        Some(()) => HttpResponse::Ok().finish(),
        None => HttpResponse::NotFound().finish(),
    }
}
