//! The naive endpoint: it has a key and a record, and still charges twice. Only the replicas of the stage have it.
//!
//! What is wrong, in the order of the code: the call goes out before anything is written, under a name that is new each time. The
//! charge commits alone, and the record commits later. A crash in between leaves a charge without a record, and the retry begins
//! again. A duplicate that comes at the same moment finds no record either.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use diesel::connection::{Connection, SimpleConnection};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use reqwest::Client;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::db::Db;
use crate::gateway::LIMITS;
use crate::http::auth::Account;
use crate::http::endpoint::{self, Endpoint};
use crate::http::problems::{CARD_DECLINED, NOT_FOUND};
use crate::http::{ApiError, Json};
use crate::process::failpoint::failpoint;
use crate::schema::orders;
use crate::shop::charges::NewCharge;
use idempotency::{Database, Key};

/// The path of the naive endpoint. It stands below `/v1`, so it has the same checks as the real one.
pub const PATH: &str = "/v1/naive-charges";

diesel::table! {
    demo.charges (id) {
        id -> Uuid,
        key -> Text,
        order_id -> Uuid,
        status -> Text,
        amount -> Int8,
        currency -> Text,
        gateway_id -> Text,
    }
}

diesel::table! {
    demo.records (key) {
        key -> Text,
        status -> Int2,
        location -> Text,
        body -> Bytea,
    }
}

/// Makes the tables that are missing.
pub fn prepare(conn: &mut PgConnection) -> QueryResult<()> {
    conn.transaction(|conn| conn.batch_execute(include_str!("naive.sql")))
}

/// How a naive service calls the gateway.
#[derive(Clone)]
pub struct NaiveGateway {
    pub client: Client,
    pub url: String,
    pub key: String,
}

impl NaiveGateway {
    pub fn endpoint(self) -> Endpoint {
        endpoint::post(PATH, move |request, account, body, db| charge(self.clone(), request, account, body, db))
    }
}

type Stored = (i16, String, Vec<u8>);

async fn charge(
    gateway: NaiveGateway,
    request: HttpRequest,
    account: Account,
    body: Json<NewCharge>,
    db: Data<Db>,
) -> Result<HttpResponse, ApiError> {
    failpoint("before-claim");
    let (key, new) = (Key::of(&request)?.as_str().to_owned(), body.0);
    let (looked_for, order_id) = (key.clone(), new.order_id);
    let (stored, amount, currency) =
        db.run(account.id, move |conn| conn.transaction(|conn| look(conn, account.id, &looked_for, order_id))).await?;
    failpoint("after-claim");
    if let Some(stored) = stored {
        return Ok(answer(stored, true));
    }

    failpoint("before-call");
    let captured = gateway.capture(&new, amount, &currency).await;
    failpoint("after-call");
    let gateway_id = captured?;

    let id = Uuid::now_v7();
    let charged = (
        charges::id.eq(id),
        charges::key.eq(key.clone()),
        charges::order_id.eq(order_id),
        charges::status.eq("succeeded"),
        charges::amount.eq(amount),
        charges::currency.eq(currency.clone()),
        charges::gateway_id.eq(gateway_id.clone()),
    );
    Database::run(&**db, account.id, move |conn| {
        conn.transaction(|conn| {
            diesel::insert_into(charges::table).values(charged).execute(conn)?;
            failpoint("before-commit-1");
            Ok::<_, ApiError>(())
        })
    })
    .await?;
    failpoint("after-commit-1");

    let body = json!({"id": id, "order_id": order_id, "status": "succeeded", "amount": amount, "currency": currency, "gateway_id": gateway_id});
    let stored: Stored = (201, format!("{PATH}/{id}"), body.to_string().into_bytes());
    let (status, location, body) = stored.clone();
    Database::run(&**db, account.id, move |conn| {
        conn.transaction(|conn| {
            let record = (
                records::key.eq(key),
                records::status.eq(status),
                records::location.eq(location),
                records::body.eq(body),
            );
            diesel::insert_into(records::table).values(record).on_conflict_do_nothing().execute(conn)?;
            failpoint("before-commit-2");
            Ok::<_, ApiError>(())
        })
    })
    .await?;
    failpoint("after-commit-2");
    failpoint("before-answer");
    Ok(answer(stored, false))
}

/// The record of the key, and what the order costs.
fn look(
    conn: &mut PgConnection,
    account_id: Uuid,
    key: &str,
    order_id: Uuid,
) -> Result<(Option<Stored>, i64, String), ApiError> {
    let stored =
        records::table.find(key).select((records::status, records::location, records::body)).first(conn).optional()?;
    let order = orders::table.find((account_id, order_id)).select((orders::amount, orders::currency)).first(conn);
    let (amount, currency) = order.optional()?.ok_or_else(|| ApiError::new(&NOT_FOUND, "there is no such order"))?;
    Ok((stored, amount, currency))
}

fn answer((status, location, body): Stored, replayed: bool) -> HttpResponse {
    let mut response = HttpResponse::Created();
    response.content_type("application/json").insert_header(("Location", location));
    if replayed {
        response.insert_header(("Idempotency-Replayed", "true"));
    }
    debug_assert_eq!(status, 201, "only a success is recorded");
    response.body(body)
}

impl NaiveGateway {
    /// Takes the money, and returns the PaymentIntent's id.
    async fn capture(&self, new: &NewCharge, amount: i64, currency: &str) -> Result<String, ApiError> {
        // A name that is new each time: the gateway can't know that this is the same purchase.
        let name = format!("naive-{}", Uuid::new_v4().simple());
        let form = [
            ("amount", amount.to_string()),
            ("currency", currency.to_ascii_lowercase()),
            ("payment_method", new.payment_method.clone()),
            ("confirm", "true".to_owned()),
            ("error_on_requires_action", "true".to_owned()),
            ("payment_method_types[]", "card".to_owned()),
            ("metadata[reference]", name.clone()),
        ];
        let url = format!("{}/v1/payment_intents", self.url);
        let request = self.client.post(url).bearer_auth(&self.key).header("Idempotency-Key", name).form(&form);
        let response =
            request.timeout(LIMITS.call).send().await.map_err(|error| ApiError::internal(error.without_url()))?;
        let status = response.status().as_u16();
        let body: Value = response.json().await.map_err(|error| ApiError::internal(error.without_url()))?;
        match (status, body["id"].as_str()) {
            (200, Some(id)) => Ok(id.to_owned()),
            (402, _) => Err(ApiError::new(&CARD_DECLINED, "the payment method was declined")),
            _ => Err(ApiError::internal(format!("the gateway answers {status}"))),
        }
    }
}
