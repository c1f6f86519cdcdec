//! The naive endpoint: it has a key and a record, and still charges twice. Only the replicas of the stage have it.
//!
//! What is wrong, in the order of the code: the call goes out before anything is written, under a new name each time.
//! The charge commits alone, and the record commits later. A crash in between leaves a charge without a record, and the
//! retry starts again. A concurrent duplicate finds no record either.

use std::sync::Arc;

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use diesel::connection::{Connection, SimpleConnection};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use serde_json::json;
use uuid::Uuid;

use crate::db::Db;
use crate::http::auth::Account;
use crate::http::endpoint::{self, Endpoint};
use crate::http::problems::{CARD_DECLINED, NOT_FOUND};
use crate::http::{ApiError, Json};
use crate::process::failpoint::failpoint;
use crate::schema::orders;
use crate::shop::charges::NewCharge;
use idempotency::{Database as _, Key};
use stripe_gateway::{Call, End, Gateway, Outcome, Payment};

/// The path of the naive endpoint. It is below `/v1`, so it gets the same checks as the real one.
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

/// Creates the tables that are missing.
pub fn prepare(conn: &mut PgConnection) -> QueryResult<()> {
    conn.transaction(|conn| conn.batch_execute(include_str!("naive.sql")))
}

/// The endpoint, with the gateway that it calls.
pub fn endpoint(gateway: Arc<dyn Gateway>) -> Endpoint {
    endpoint::undescribed("POST", PATH, move |request, account, body, db| {
        charge(Arc::clone(&gateway), request, account, body, db)
    })
}

/// The location and the body. Only a success, a 201, is recorded.
type Stored = (String, Vec<u8>);

async fn charge(
    gateway: Arc<dyn Gateway>,
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

    // A new name each time, so the gateway can't know that this is the same purchase.
    let name = format!("naive-{}", Uuid::new_v4().simple());
    let payment =
        Payment { account_id: account.id, amount, currency: currency.clone(), payment_method: new.payment_method };
    failpoint("before-call");
    let captured = gateway.send(&name, Call::Payment(&payment)).await;
    failpoint("after-call");
    let Outcome { gateway_id: Some(gateway_id), end: End::Succeeded } = captured.map_err(ApiError::internal)? else {
        return Err(ApiError::new(&CARD_DECLINED, "the payment method was declined"));
    };

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
    db.run(account.id, move |conn| {
        conn.transaction(|conn| {
            diesel::insert_into(charges::table).values(charged).execute(conn)?;
            failpoint("before-commit-1");
            Ok::<_, ApiError>(())
        })
    })
    .await?;
    failpoint("after-commit-1");

    let body = json!({"id": id, "order_id": order_id, "status": "succeeded", "amount": amount, "currency": currency, "gateway_id": gateway_id});
    let stored: Stored = (format!("{PATH}/{id}"), body.to_string().into_bytes());
    let (location, body) = stored.clone();
    db.run(account.id, move |conn| {
        conn.transaction(|conn| {
            let record =
                (records::key.eq(key), records::status.eq(201), records::location.eq(location), records::body.eq(body));
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
    let stored = records::table.find(key).select((records::location, records::body)).first(conn).optional()?;
    let order = orders::table.find((account_id, order_id)).select((orders::amount, orders::currency)).first(conn);
    let (amount, currency) = order.optional()?.ok_or_else(|| ApiError::new(&NOT_FOUND, "there is no such order"))?;
    Ok((stored, amount, currency))
}

fn answer((location, body): Stored, replayed: bool) -> HttpResponse {
    let mut response = HttpResponse::Created();
    response.content_type("application/json").insert_header(("Location", location));
    if replayed {
        response.insert_header(("Idempotency-Replayed", "true"));
    }
    response.body(body)
}
