// SPDX-License-Identifier: MIT OR Apache-2.0
//! A toy service that uses the crate: a pool, an error type, a body, a table.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use actix_web::http::StatusCode;
use actix_web::http::header::ContentType;
use actix_web::test::TestRequest;
use actix_web::{FromRequest, ResponseError};
use diesel::connection::{Connection, SimpleConnection};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use futures_util::FutureExt;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

pub use crate::lifted::{Db, Response};
use crate::support::{count, execute, fresh_database};
use idempotency::{Body, Error, Failure, Failures, FieldError, Keyed, Policy, Reply, Scope, hours, seconds};

/// Each effect creates a toy. The two shelves are rows that bodies lock, so that a test can make a body wait.
pub const TABLES: &str = "CREATE TABLE toys (id bigserial PRIMARY KEY, name text NOT NULL); \
     CREATE TABLE shelves (id int PRIMARY KEY, toys int NOT NULL DEFAULT 0); \
     INSERT INTO shelves (id) VALUES (1), (2)";

pub const ACCOUNT: Uuid = Uuid::from_u128(1);

/// A success is stored, a failure is not.
pub const MAKE: Policy = Policy {
    route: "POST /toys",
    scope: Scope::Account,
    failures: Failures::SuccessOnly,
    success_ttl: hours(1),
    wait: seconds(5),
};

/// A failure is stored too.
pub const MAKE_OR_REMEMBER: Policy = Policy { failures: Failures::CacheFailures { failure_ttl: seconds(60) }, ..MAKE };

/// The service's error type.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ToyError {
    #[error("that toy can't be made")]
    Impossible,
    #[error("the workshop is closed")]
    Closed,
    #[error(transparent)]
    Idempotency(#[from] Error),
    #[error("database: {0}")]
    Database(Arc<diesel::result::Error>),
}

impl From<diesel::result::Error> for ToyError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Database(Arc::new(error))
    }
}

impl From<serde_json::Error> for ToyError {
    fn from(error: serde_json::Error) -> Self {
        Self::Database(Arc::new(diesel::result::Error::SerializationError(error.into())))
    }
}

impl Failure for ToyError {
    fn is_final(&self) -> bool {
        matches!(self, Self::Impossible)
    }

    fn database_error(&self) -> Option<&diesel::result::Error> {
        match self {
            Self::Database(error) => Some(error),
            _ => None,
        }
    }

    fn reply(&self, instance: Uuid) -> Reply {
        Reply::json(409, &json!({"problem": self.to_string(), "instance": instance})).unwrap()
    }
}

impl ResponseError for ToyError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Impossible => StatusCode::CONFLICT,
            Self::Closed => StatusCode::SERVICE_UNAVAILABLE,
            Self::Idempotency(error) => error.status_code(),
            Self::Database(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// The request body.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewToy {
    pub name: String,
}

impl Body for NewToy {
    fn parse(json: &Value) -> Result<Self, Vec<FieldError>> {
        Self::deserialize(json).map_err(|e| vec![FieldError { pointer: String::new(), detail: e.to_string() }])
    }
}

/// The effect: a row. Its id comes from a sequence, so two runs never give the same reply.
pub fn make(conn: &mut PgConnection, toy: &NewToy) -> Result<Reply, ToyError> {
    let id = insert(conn, toy)?;
    Ok(Reply::created(format!("/toys/{id}"), &json!({"id": id, "name": toy.name}))?)
}

pub fn insert(conn: &mut PgConnection, toy: &NewToy) -> QueryResult<i64> {
    #[derive(QueryableByName)]
    struct Made {
        #[diesel(sql_type = BigInt)]
        id: i64,
    }
    let insert = diesel::sql_query("INSERT INTO toys (name) VALUES ($1) RETURNING id").bind::<Text, _>(&toy.name);
    insert.get_result::<Made>(conn).map(|made| made.id)
}

/// Puts a toy on a shelf. This locks the shelf's row until the transaction ends.
pub fn stock(conn: &mut PgConnection, shelf: i32) -> QueryResult<usize> {
    diesel::sql_query(format!("UPDATE shelves SET toys = toys + 1 WHERE id = {shelf}")).execute(conn)
}

/// One process of the service.
#[derive(Clone)]
pub struct Workshop {
    pub db: Db,
    pub url: String,
}

impl Workshop {
    /// Opens the service on a fresh database, with four connections.
    pub fn open() -> Self {
        Self::open_on(fresh_database(), 4)
    }

    /// Opens the service on a given database, or on a proxy to a database.
    pub fn open_on(url: String, connections: u32) -> Self {
        Self { db: Db::open(&url, connections), url }
    }

    /// Another process on the same database.
    pub fn another_process(&self) -> Self {
        Self::open_on(self.url.clone(), 4)
    }

    /// Sends a request for a toy, and runs `body` for it.
    pub fn send<F>(
        &self,
        policy: Policy,
        key: &str,
        name: &str,
        body: F,
    ) -> impl Future<Output = Result<Response, ToyError>> + Send + use<F>
    where
        F: Fn(&mut PgConnection, &NewToy) -> Result<Reply, ToyError> + Send + Sync + 'static,
    {
        self.send_on(&[], ACCOUNT, policy, key, name, body)
    }

    /// Like [`Workshop::send`], for a resource with these ids, and for any account.
    pub fn send_on<F>(
        &self,
        ids: &[&str],
        account: Uuid,
        policy: Policy,
        key: &str,
        name: &str,
        body: F,
    ) -> impl Future<Output = Result<Response, ToyError>> + Send + use<F>
    where
        F: Fn(&mut PgConnection, &NewToy) -> Result<Reply, ToyError> + Send + Sync + 'static,
    {
        let request = keyed("/toys", key, &json!({"name": name}).to_string()).unwrap();
        let (db, request) = (self.db.clone(), ids.iter().fold(request, Keyed::on));
        async move { policy.run(&db, account, request, body).await.map(Response::from) }
    }

    /// Makes a toy under [`MAKE`].
    pub async fn make(&self, key: &str) -> Response {
        self.send(MAKE, key, "ball", make).await.unwrap()
    }

    pub fn toys(&self) -> i64 {
        count(&self.url, "toys")
    }

    pub fn records(&self) -> i64 {
        count(&self.url, "idempotency_keys")
    }

    /// Lets a key's record expire now.
    pub fn expire(&self, key: &str) {
        execute(&self.url, &format!("UPDATE idempotency_keys SET expires_at = now() WHERE key = '{key}'"));
    }

    /// Locks a shelf until the connection is dropped. Bodies that [`stock`] this shelf wait.
    pub fn hold_shelf(&self, number: i32) -> PgConnection {
        let mut conn = PgConnection::establish(&self.url).unwrap();
        conn.batch_execute("BEGIN").unwrap();
        stock(&mut conn, number).unwrap();
        conn
    }
}

/// Runs the extractor on a request. The request's body is in memory, so the extractor never waits.
pub fn keyed(path: &str, key: &str, json: &str) -> Result<Keyed<NewToy>, Error> {
    let request = TestRequest::post().uri(path).insert_header(("Idempotency-Key", format!("\"{key}\"")));
    let request = request.insert_header(ContentType::json()).set_payload(json.to_owned());
    let (request, mut payload) = request.to_http_parts();
    Keyed::from_request(&request, &mut payload).now_or_never().unwrap()
}

/// Counts the runs of a body.
#[derive(Clone, Default)]
pub struct Runs(Arc<AtomicU32>);

impl Runs {
    /// Counts a run. Returns whether the run is the first.
    pub fn is_first(&self) -> bool {
        self.0.fetch_add(1, Ordering::SeqCst) == 0
    }

    pub fn so_far(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}
