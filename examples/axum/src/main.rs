//! A box office on axum. `DATABASE_URL=.. cargo run`, then send the same request twice: docs/copying.md, "Another framework".

mod db;
mod idempotent;

use std::fmt::{Display, Formatter};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use idempotency::{Error, Failure, Failures, Fault, FieldError, Policy, Reply, Scope, fault, hours, seconds};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use db::Db;
use idempotent::{Answered, WithKey};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!();

const SELL: Policy = Policy {
    route: "POST /tickets",
    scope: Scope::Account,
    failures: Failures::SuccessOnly,
    success_ttl: hours(24),
    wait: seconds(5),
};

diesel::table! {
    tickets (account_id, seat) {
        account_id -> Uuid,
        seat -> Text,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTicket {
    seat: String,
}

impl idempotency::Body for NewTicket {
    fn parse(json: &Value) -> Result<Self, Vec<FieldError>> {
        let wrong = |detail: String| vec![FieldError { pointer: String::new(), detail }];
        if !json.is_object() {
            return Err(wrong("must be an object".into()));
        }
        Self::deserialize(json).map_err(|error| wrong(error.to_string()))
    }
}

async fn sell(State(db): State<Db>, WithKey(request): WithKey<NewTicket>) -> Result<Answered, ApiError> {
    // Your authentication says who is calling.
    let account = Uuid::from_u128(1);
    let answer = SELL.run(&db, account, request, move |conn, ticket| {
        let sold = diesel::insert_into(tickets::table)
            .values((tickets::account_id.eq(account), tickets::seat.eq(&ticket.seat)))
            .on_conflict_do_nothing()
            .execute(conn)?;
        if sold == 0 {
            return Err(ApiError::SoldOut);
        }
        let body = json!({ "seat": ticket.seat });
        Reply::created(format!("/tickets/{}", ticket.seat), &body)
            .map_err(|error| diesel::result::Error::SerializationError(error.into()).into())
    });
    answer.await.map(Answered)
}

#[derive(Clone, Debug)]
enum ApiError {
    SoldOut,
    Idempotency(Error),
    Database(Arc<diesel::result::Error>),
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        Self::Idempotency(error)
    }
}

impl From<diesel::result::Error> for ApiError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Database(Arc::new(error))
    }
}

impl Display for ApiError {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::SoldOut => formatter.write_str("sold out"),
            Self::Idempotency(error) => error.fmt(formatter),
            Self::Database(error) => error.fmt(formatter),
        }
    }
}

impl Failure for ApiError {
    fn is_final(&self) -> bool {
        matches!(self, Self::SoldOut)
    }

    fn database_error(&self) -> Option<&diesel::result::Error> {
        match self {
            Self::Database(error) => Some(error),
            _ => None,
        }
    }

    fn reply(&self, _instance: Uuid) -> Reply {
        Reply { status: 409, content_type: Some("text/plain".into()), location: None, body: self.to_string().into() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let response = match &self {
            Self::SoldOut => self.reply(Uuid::nil()).into_http(),
            Self::Idempotency(error) => error.to_http(),
            // The crate's answers for these two: 500, and 503 with Retry-After.
            Self::Database(error) if fault(error) == Fault::Other => Error::Panicked.to_http(),
            Self::Database(_) => Error::Overloaded.to_http(),
        };
        response.map(Body::from)
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let url = std::env::var("DATABASE_URL").expect("DATABASE_URL");
    let mut conn = PgConnection::establish(&url).expect("a connection");
    conn.run_pending_migrations(idempotency::MIGRATIONS).expect("the crate's table");
    conn.run_pending_migrations(MIGRATIONS).expect("our table");
    let service = Router::new().route("/tickets", post(sell)).with_state(Db::open(&url));
    axum::serve(tokio::net::TcpListener::bind("127.0.0.1:18093").await?, service).await
}
