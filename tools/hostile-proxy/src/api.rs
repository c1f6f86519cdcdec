//! Asks the API itself, past the proxy: creates what a case needs, and counts what happened.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::http::{self, Request};

/// The API, and a key of one account.
#[derive(Clone, Debug)]
pub struct Api {
    pub address: SocketAddr,
    pub key: String,
}

/// How many objects one page of a list may have.
const PAGE: usize = 100;

impl Api {
    /// A product at 49.00 EUR, with this stock.
    pub async fn stock(&self, sku: &str, stock: Option<u32>) -> Result<()> {
        let product = json!({"name": "A case", "unit_amount": 4900, "currency": "EUR", "stock": stock});
        self.call("PUT", &format!("/v1/products/{sku}"), &product).await?;
        Ok(())
    }

    /// Creates an order or a charge, and returns it.
    pub async fn make(&self, path: &str, body: &Value) -> Result<Value> {
        self.call("POST", path, body).await
    }

    /// All objects of a list, page after page.
    pub async fn list(&self, path_and_query: &str) -> Result<Vec<Value>> {
        let (mut all, mut after) = (Vec::<Value>::new(), String::new());
        loop {
            let sign = if path_and_query.contains('?') { '&' } else { '?' };
            let page = self.call("GET", &format!("{path_and_query}{sign}limit={PAGE}{after}"), &Value::Null).await?;
            all.extend(page["data"].as_array().context("a page has no data")?.iter().cloned());
            if page["has_more"] != true {
                return Ok(all);
            }
            let last = all
                .last()
                .and_then(|object| object["id"].as_str())
                .context("an empty page says that there are more")?;
            after = format!("&after={last}");
        }
    }

    async fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let headers = vec![
            ("Authorization".to_owned(), format!("Bearer {}", self.key)),
            ("Content-Type".to_owned(), "application/json".to_owned()),
            ("Idempotency-Key".to_owned(), Uuid::new_v4().to_string()),
        ];
        let request = Request { method: method.to_owned(), path: path.to_owned(), headers, body };
        let answer = http::send(self.address, &request).await?;
        let text = String::from_utf8_lossy(&answer.body);
        ensure!((200..300).contains(&answer.status), "{method} {path}: {} {text}", answer.status);
        serde_json::from_str(&text).with_context(|| format!("{method} {path}: {text}"))
    }
}
