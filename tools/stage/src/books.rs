//! The gateway's books, read over its own API: the only source for what a run says about money.

use std::time::Duration;

use reqwest::header::HeaderValue;
use reqwest::{Client, Response, StatusCode, Url};
use serde_json::Value;

/// How long a look may take. The books of the sandbox answer in milliseconds, and a run asks again after its next step.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Stripe's largest page.
const PAGE: usize = 100;

/// The most pages. A run makes at most a few dozen captures, so more pages are other people's payments of the same
/// minute.
const PAGES: usize = 10;

/// The largest answer, in bytes: a page of objects of 64 KiB.
const ANSWER_LIMIT: usize = PAGE * 64 * 1024;

/// How many seconds the gateway's clock may be behind ours.
const CLOCKS_DIFFER: u64 = 60;

/// The gateway, and where its books are. Clones share their connections.
#[derive(Clone, Debug)]
pub struct Books {
    pub(crate) client: Client,
    /// Ends with a slash.
    pub(crate) gateway: Url,
    /// The value of `Authorization`.
    pub(crate) key: HeaderValue,
    from_gateway: fn(i64, &str) -> Option<i64>,
}

/// A line of the books.
#[derive(Clone, Debug)]
pub struct Line {
    pub id: String,
    pub reference: String,
    /// Whether the money moved. Else the card was declined.
    pub is_capture: bool,
    pub amount: Option<i64>,
    pub currency: String,
}

impl Books {
    /// The books of the gateway at this URL. The key is the value of `Authorization`. `from_gateway` converts the
    /// gateway's amount of a currency into minor units of ISO 4217.
    ///
    /// # Errors
    /// The URL is malformed, or the HTTP client can't be set up.
    pub fn new(
        url: &str,
        key: HeaderValue,
        from_gateway: fn(i64, &str) -> Option<i64>,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build()?;
        let gateway = Url::parse(&format!("{}/", url.trim_end_matches('/')))?;
        Ok(Self { client, gateway, key, from_gateway })
    }

    /// Every payment since a time in seconds, whoever made it.
    ///
    /// # Errors
    /// The books can't be read completely. Part of them is never returned.
    pub(crate) async fn since(&self, seconds: u64) -> Result<Vec<Line>, String> {
        let from = seconds.saturating_sub(CLOCKS_DIFFER).to_string();
        let looked = tokio::time::timeout(ANSWER_WITHIN, self.read(&from)).await;
        looked.unwrap_or_else(|_| Err("the gateway's books take too long to read".to_owned()))
    }

    async fn read(&self, from: &str) -> Result<Vec<Line>, String> {
        let url = self.gateway.join("v1/payment_intents").map_err(|error| error.to_string())?;
        let filters = [("limit", PAGE.to_string()), ("created[gte]", from.to_owned())];
        let (mut lines, mut after) = (Vec::new(), Vec::new());
        for _ in 0..PAGES {
            let request = self.client.get(url.clone()).query(&filters).query(&after);
            let page = page(request.header("Authorization", self.key.clone())).await?;
            let objects = page["data"].as_array().ok_or("the gateway's answer is no list")?;
            lines.extend(objects.iter().filter_map(|object| self.line(object)));
            let (true, Some(last)) = (page["has_more"] == true, objects.last()) else { return Ok(lines) };
            after = vec![("starting_after", last["id"].as_str().unwrap_or_default().to_owned())];
        }
        Err("the gateway's books have too many lines".to_owned())
    }

    fn line(&self, object: &Value) -> Option<Line> {
        let currency = object["currency"].as_str()?.to_ascii_uppercase();
        Some(Line {
            id: object["id"].as_str()?.to_owned(),
            reference: object["metadata"]["reference"].as_str()?.to_owned(),
            is_capture: object["status"] == "succeeded",
            amount: object["amount"].as_i64().and_then(|amount| (self.from_gateway)(amount, &currency)),
            currency,
        })
    }
}

async fn page(request: reqwest::RequestBuilder) -> Result<Value, String> {
    let response = request.send().await.map_err(|error| error.without_url().to_string())?;
    if response.status() != StatusCode::OK {
        return Err(format!("the gateway answers {}", response.status()));
    }
    serde_json::from_slice(&whole(response).await?).map_err(|error| error.to_string())
}

/// The body of an answer of the gateway.
///
/// # Errors
/// It breaks off, or it is too long.
pub async fn whole(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| error.without_url().to_string())? {
        if body.len() + chunk.len() > ANSWER_LIMIT {
            return Err("the gateway's answer is too long".to_owned());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
