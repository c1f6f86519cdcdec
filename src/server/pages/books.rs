//! The gateway's books, read through the API's own host. For the playground, and only with the demo.
//!
//! Guarantees: a page can read only the two books, and only the lines of one reference. A page can't write.

use std::time::Duration;

use actix_web::web::{Data, Path, Query};
use actix_web::{HttpResponse, http::header::CACHE_CONTROL};
use chrono::DateTime;
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::gateway::currency::from_gateway;
use crate::gateway::{Key, install_tls};
use crate::http::ApiError;
use crate::http::problems::NOT_FOUND;

/// How long the gateway may take to answer. The page soon asks again, so a short wait is enough.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// How many of the newest objects are read: Stripe's largest page. A page of the playground shows what it made a moment ago.
const NEWEST: &str = "100";

/// The largest answer, in bytes: a hundred objects of 64 KiB.
const ANSWER_LIMIT: usize = 100 * 64 * 1024;

/// Where the gateway's books are.
#[derive(Clone, Debug)]
pub struct Books {
    client: Client,
    gateway: Url,
    key: Key,
}

/// `?reference=` of a charge or refund.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    reference: String,
}

impl Books {
    /// The books of the gateway at this URL. Makes no connection yet.
    ///
    /// # Errors
    /// If the URL is malformed, or the HTTP client can't be set up.
    pub fn of(gateway: &str, key: &Key) -> Result<Self, Box<dyn std::error::Error>> {
        install_tls();
        let gateway = Url::parse(&format!("{}/v1/", gateway.trim_end_matches('/')))?;
        let client =
            Client::builder().timeout(ANSWER_WITHIN).redirect(reqwest::redirect::Policy::none()).no_proxy().build()?;
        Ok(Self { client, gateway, key: key.clone() })
    }

    async fn lines(&self, list: &str, reference: &str) -> Result<Value, String> {
        let url = self.gateway.join(list).map_err(|error| error.to_string())?;
        let request = self.client.get(url).query(&[("limit", NEWEST)]).header("Authorization", self.key.bearer());
        let mut response = request.send().await.map_err(|error| error.without_url().to_string())?;
        if response.status() != StatusCode::OK {
            return Err(format!("the gateway answers {}", response.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| error.without_url().to_string())? {
            if body.len() + chunk.len() > ANSWER_LIMIT {
                return Err("the gateway's answer is too long".to_owned());
            }
            body.extend_from_slice(&chunk);
        }
        let page: Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        let objects = page["data"].as_array().ok_or("the gateway's answer is no list")?;
        Ok(objects.iter().rev().filter(|object| object["metadata"]["reference"] == reference).map(line).collect())
    }
}

/// An object in the words of the playground.
fn line(object: &Value) -> Value {
    let error = &object["last_payment_error"];
    let outcome = error["decline_code"].as_str().or(error["code"].as_str()).or(object["status"].as_str());
    let currency = object["currency"].as_str().unwrap_or_default().to_ascii_uppercase();
    let amount = object["amount"].as_i64().and_then(|amount| from_gateway(amount, &currency));
    let created_at = object["created"].as_i64().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    json!({
        "id": object["id"], "reference": object["metadata"]["reference"], "amount": amount, "currency": currency,
        "outcome": outcome, "created_at": created_at,
    })
}

/// `GET /demo/gateway/captures?reference=` and `/demo/gateway/refunds?reference=`: the gateway's objects with this reference.
///
/// # Errors
/// 404 for another book. 502 if the gateway can't be read.
pub async fn read(
    book: Path<String>,
    filter: Query<Filter>,
    demo: Data<Option<Books>>,
) -> Result<HttpResponse, ApiError> {
    let list = match book.as_str() {
        "captures" => Some("payment_intents"),
        "refunds" => Some("refunds"),
        _ => None,
    };
    let (Some(books), Some(list)) = (demo.get_ref(), list) else {
        return Err(ApiError::new(&NOT_FOUND, "there is no such book"));
    };
    Ok(match books.lines(list, &filter.reference).await {
        Ok(lines) => HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(lines),
        Err(cause) => {
            log::warn!("the gateway's books can't be read: {cause}");
            let problem = json!({
                "type": "about:blank", "title": "Bad Gateway", "status": 502,
                "detail": "the gateway's books can't be read right now",
            });
            HttpResponse::BadGateway().content_type("application/problem+json").body(problem.to_string())
        }
    })
}
