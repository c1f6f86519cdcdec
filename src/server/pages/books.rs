//! The gateway's books, read through the API's own host. For the playground, and only with the demo.
//!
//! Guarantees: a page can read only the two books, and only the lines of one reference. A page can't write.

use std::time::Duration;

use actix_web::web::{Data, Path, Query};
use actix_web::{HttpResponse, http::header::CACHE_CONTROL};
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;
use serde_json::json;

use crate::http::ApiError;
use crate::http::problems::NOT_FOUND;

/// How long the gateway may take to answer. The page soon asks again, so a short wait is enough.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Where the gateway's books are.
#[derive(Clone, Debug)]
pub struct Books {
    client: Client,
    gateway: Url,
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
    pub fn of(gateway: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let gateway = Url::parse(&format!("{}/", gateway.trim_end_matches('/')))?;
        let client =
            Client::builder().timeout(ANSWER_WITHIN).redirect(reqwest::redirect::Policy::none()).no_proxy().build()?;
        Ok(Self { client, gateway })
    }

    async fn lines(&self, book: &str, reference: &str) -> Result<Vec<u8>, String> {
        let mut url = self.gateway.join(book).map_err(|error| error.to_string())?;
        url.query_pairs_mut().append_pair("reference", reference);
        let response = self.client.get(url).send().await.map_err(|error| error.without_url().to_string())?;
        match response.status() {
            StatusCode::OK => Ok(response.bytes().await.map_err(|error| error.without_url().to_string())?.into()),
            status => Err(format!("the gateway answers {status}")),
        }
    }
}

/// `GET /demo/gateway/captures?reference=` and `/demo/gateway/refunds?reference=`: the gateway's answer, unchanged.
///
/// # Errors
/// 404 for another book. 502 if the gateway can't be read.
pub async fn read(
    book: Path<String>,
    filter: Query<Filter>,
    demo: Data<Option<Books>>,
) -> Result<HttpResponse, ApiError> {
    let (Some(books), "captures" | "refunds") = (demo.get_ref(), book.as_str()) else {
        return Err(ApiError::new(&NOT_FOUND, "there is no such book"));
    };
    Ok(match books.lines(&book, &filter.reference).await {
        Ok(lines) => {
            HttpResponse::Ok().content_type("application/json").insert_header((CACHE_CONTROL, "no-store")).body(lines)
        }
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
