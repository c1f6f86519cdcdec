// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the toy services that copy a crate share: a pool of connections, and a response in memory.

use actix_web::body::MessageBody;
use actix_web::http::header::HeaderMap;
use actix_web::test::TestRequest;
use actix_web::{HttpResponse, Responder};
use diesel::connection::SimpleConnection;
use diesel::pg::PgConnection;
use diesel::r2d2::{ConnectionManager, CustomizeConnection, Pool};
use uuid::Uuid;

use idempotency::{Answer, CONNECTION_LIMITS, Database, Error, SingleFlight, watched};

/// The service's pool. A service that copies the crate writes one like it.
#[derive(Clone)]
pub struct Db {
    pool: Pool<ConnectionManager<PgConnection>>,
    single_flight: SingleFlight,
}

impl Db {
    /// Opens a pool with at most this many connections. The pool makes a connection when work needs one.
    pub fn open(url: &str, connections: u32) -> Self {
        let pool = Pool::builder()
            .max_size(connections)
            .min_idle(Some(0))
            .connection_customizer(Box::new(Limits))
            .build(ConnectionManager::new(url))
            .unwrap();
        Self { pool, single_flight: SingleFlight::default() }
    }
}

impl Database for Db {
    async fn run<T, E>(
        &self,
        _account_id: Uuid,
        work: impl FnOnce(&mut PgConnection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let pool = self.pool.clone();
        let work = tokio::task::spawn_blocking(move || {
            let mut conn = pool.get().map_err(|error| Error::Unreachable(error.to_string()))?;
            watched(&mut conn, work).0
        });
        work.await.unwrap_or_else(|_| Err(Error::Panicked.into()))
    }

    fn single_flight(&self) -> &SingleFlight {
        &self.single_flight
    }
}

#[derive(Debug)]
struct Limits;

impl CustomizeConnection<PgConnection, diesel::r2d2::Error> for Limits {
    fn on_acquire(&self, conn: &mut PgConnection) -> Result<(), diesel::r2d2::Error> {
        conn.batch_execute(CONNECTION_LIMITS).map_err(diesel::r2d2::Error::QueryError)
    }
}

/// A response in memory.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl From<Answer> for Response {
    fn from(answer: Answer) -> Self {
        answer.respond_to(&TestRequest::default().to_http_request()).into()
    }
}

impl From<HttpResponse> for Response {
    fn from(response: HttpResponse) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, body: response.into_body().try_into_bytes().unwrap().to_vec() }
    }
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn is_replay(&self) -> bool {
        self.header("Idempotency-Replayed") == Some("true")
    }

    /// The parts of a response that a retry must repeat.
    pub fn reply(&self) -> (u16, Option<&str>, Option<&str>, &[u8]) {
        (self.status, self.header("Content-Type"), self.header("Location"), &self.body)
    }
}
