// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a test uses the toy service: it starts processes, issues and pays fines, and reads the tables.

use actix_web::http::header::ContentType;
use actix_web::test::TestRequest;
use actix_web::{FromRequest, ResponseError};
use diesel::prelude::*;
use diesel::sql_types::Text;
use futures_util::FutureExt;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::fines::{ACCOUNT, Fines, NewPayment, PAY, begin_payment, location};
use crate::hook::Hook;
use crate::lifted::{Db, Response};
use crate::provider::{Does, Provider};
use crate::support::{connect, count, execute, fresh_database, number};
use crate::traces;
use external_calls::{Resolutions, Resolver};
use idempotency::Keyed;

/// One process of the service, without a resolver in the background. The test itself runs the resolver.
pub struct Office<const SLOW: bool = false> {
    pub url: String,
    pub provider: Provider,
    pub resolver: Resolver<Fines<SLOW>, Db>,
    pub hook: Hook,
}

impl Office {
    /// Opens the service on a fresh database.
    pub fn open() -> Self {
        Self::open_on(fresh_database(), Provider::open())
    }

    /// Opens the service on a given database, or on a proxy to a database.
    pub fn open_on(url: String, provider: Provider) -> Self {
        Self::with_limits(url, provider)
    }

    /// Another process on the same database, with the same provider.
    pub fn another_process(&self) -> Self {
        Self::open_on(self.url.clone(), self.provider.clone())
    }
}

impl Office<true> {
    /// Opens the service with the crate's own time limits.
    pub fn open_slow() -> Self {
        Self::with_limits(fresh_database(), Provider::open())
    }
}

impl<const SLOW: bool> Office<SLOW> {
    fn with_limits(url: String, provider: Provider) -> Self {
        let hook = Hook::default();
        let fines = Fines::at(&provider.url, hook.clone());
        Self { resolver: Resolver::new(fines, Db::open(&url, 8)), url, provider, hook }
    }

    /// Issues a fine for a plate.
    pub fn fine(&self, plate: &str) -> i64 {
        self.fine_of(ACCOUNT, plate)
    }

    pub fn fine_of(&self, account: Uuid, plate: &str) -> i64 {
        execute(&self.url, &format!("INSERT INTO fines (account_id, plate) VALUES ('{account}', '{plate}')"));
        number(&self.url, &format!("max(id) AS n FROM fines WHERE account_id = '{account}'"))
    }

    /// Pays a fine, like a handler.
    pub fn pay(&self, key: &str, fine: i64) -> impl Future<Output = Response> + Send + use<SLOW> {
        self.pay_as(ACCOUNT, key, fine)
    }

    pub fn pay_as(&self, account: Uuid, key: &str, fine: i64) -> impl Future<Output = Response> + Send + use<SLOW> {
        let (resolver, request) = (self.resolver.clone(), keyed(key, fine));
        async move {
            let answer = resolver.run(PAY, account, request, begin_payment);
            answer.await.map_or_else(|error| error.error_response().into(), Response::from)
        }
    }

    /// Issues a fine and pays it. The provider answers the call as `does` says, and the outcome stays unknown.
    pub async fn unknown_payment(&self, key: &str, does: Does) -> i64 {
        let fine = self.fine(key);
        self.provider.script(key, [does]);
        assert_eq!(self.pay(key, fine).await.status, 202);
        fine
    }

    pub async fn run_once(&self) -> Resolutions {
        self.resolver.run_once(false).await.unwrap()
    }

    /// Makes all open external calls due, as if their leases and pauses were over.
    pub fn let_leases_end(&self) {
        self.execute("UPDATE external_calls SET next_attempt_at = now() WHERE resolved_at IS NULL");
    }

    /// Makes all external calls older. Their leases stay.
    pub fn age(&self, interval: &str) {
        self.execute(&format!(
            "UPDATE external_calls SET created_at = created_at - interval '{interval}', \
             unanswered_at = unanswered_at - interval '{interval}'"
        ));
    }

    pub fn execute(&self, sql: &str) {
        if sql.starts_with("UPDATE external_calls") && sql.contains("attempts = ") {
            traces::forget(&self.provider.url);
        }
        execute(&self.url, sql);
    }

    pub fn count(&self, rows: &str) -> i64 {
        count(&self.url, rows)
    }

    pub fn status(&self, fine: i64) -> String {
        fine_status(&self.url, fine)
    }

    /// Asserts that the provider has one payment, the service has one outcome, and every retry replays the outcome.
    pub async fn assert_paid_once(&self, key: &str, fine: i64) {
        assert_eq!(self.provider.books().len(), 1, "payments at the provider");
        assert_eq!((self.count("receipts"), self.status(fine).as_str()), (1, "paid"));
        assert_eq!(self.count("external_calls WHERE resolved_at IS NOT NULL"), 1);
        let retries = [self.pay(key, fine).await, self.pay(key, fine).await];
        for retry in &retries {
            assert_eq!((retry.status, retry.is_replay()), (201, true));
            assert!(retry.header("Idempotency-Expires").is_some());
            assert_eq!(retry.header("Location"), Some(location(fine).as_str()));
        }
        assert_eq!(retries[0].body, retries[1].body);
    }
}

fn fine_status(url: &str, fine: i64) -> String {
    #[derive(QueryableByName)]
    struct Status {
        #[diesel(sql_type = Text)]
        status: String,
    }
    let select = format!("SELECT status FROM fines WHERE id = {fine}");
    let status: Status = diesel::sql_query(select).get_result(&mut connect(url)).unwrap();
    status.status
}

/// Runs the extractor on a request. The request's body is in memory, so the extractor never waits.
fn keyed(key: &str, fine: i64) -> Keyed<NewPayment> {
    let request = TestRequest::post().uri("/payments").insert_header(("Idempotency-Key", format!("\"{key}\"")));
    let request = request.insert_header(ContentType::json()).set_payload(json!({"fine": fine}).to_string());
    let (request, mut payload) = request.to_http_parts();
    Keyed::from_request(&request, &mut payload).now_or_never().unwrap().unwrap()
}

/// The body of a response as JSON.
pub fn json_of(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap()
}
