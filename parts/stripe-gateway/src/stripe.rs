// SPDX-License-Identifier: MIT OR Apache-2.0
//! The client: Stripe's HTTP API over reqwest and rustls. Every call is sent once, with its reference as
//! `Idempotency-Key`.
//!
//! Guarantees: nothing below this module repeats a call: redirects, retries and proxies are off. No call and no look
//! outlives the `call` of [`LIMITS`]. The log names references and Stripe's request ids, never payment methods and
//! never the key.

use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, RequestBuilder, Response, Url, redirect, retry};
use serde::Serialize;

use super::answer::{no_answer, not_understood, of_sending};
use super::{Book, Call, Gateway, Key, LIMITS, Outcome, currency};
use external_calls::{CallError, Sent};

/// The version of Stripe's API that this client speaks: the one that the tested `stripe` package of npm pins.
/// `.ci/gateway` compares them.
const STRIPE_VERSION: &str = "2026-10-28.endive";

/// How long an idle connection is kept. Servers and load balancers commonly keep theirs for 60 s or more. Ours is
/// shorter, so that no call goes out on a connection that the server closes at that moment: the outcome of the call
/// would be unknown.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How many idle connections are kept: about as many as one replica has calls in flight. The client opens more when
/// needed.
const IDLE_CONNECTIONS: usize = 16;

/// The most objects that Stripe puts on a page.
const PAGE_SIZE: &str = "100";

/// Stripe, or a server that speaks Stripe's API. Clones share their connections.
#[derive(Clone)]
pub struct Stripe {
    client: Client,
    payment_intents: Url,
    refunds: Url,
}

/// Why a gateway's URL can't be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidGatewayUrl {
    /// The text is not a URL, or no path can be added to the URL.
    #[error("not a URL: {0}")]
    Malformed(String),
    /// A scheme other than `https` and `http`.
    #[error("its scheme must be https, or http to a gateway on a private network")]
    Scheme,
    /// A live key would go over the network in clear text.
    #[error("a live key needs https")]
    LiveKeyInClear,
    /// The HTTP client could not be set up.
    #[error("the HTTP client cannot be set up: {0}")]
    Client(#[from] reqwest::Error),
}

/// Sets the crypto provider of rustls for the whole process: ring. reqwest can't build a client without one.
pub fn install_tls() {
    // This fails if the process has a provider already, and then that one serves.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

impl Stripe {
    /// Prepares calls to the gateway below `base_url`, for example `https://api.stripe.com`. Opens no connection yet.
    ///
    /// # Errors
    /// [`InvalidGatewayUrl`] if the URL can't be used.
    pub fn new(base_url: &str, key: &Key) -> Result<Self, InvalidGatewayUrl> {
        let below = |path: &str| {
            Url::parse(&format!("{}/{path}", base_url.trim_end_matches('/')))
                .map_err(|error| InvalidGatewayUrl::Malformed(error.to_string()))
        };
        let (payment_intents, refunds) = (below("v1/payment_intents")?, below("v1/refunds")?);
        match payment_intents.scheme() {
            "http" if key.is_live() => return Err(InvalidGatewayUrl::LiveKeyInClear),
            "https" | "http" => {}
            _ => return Err(InvalidGatewayUrl::Scheme),
        }
        if payment_intents.query().is_some() || payment_intents.fragment().is_some() {
            return Err(InvalidGatewayUrl::Malformed("it must end with its path".to_owned()));
        }
        install_tls();
        let client = Client::builder()
            .default_headers(HeaderMap::from_iter([
                (HeaderName::from_static("stripe-version"), HeaderValue::from_static(STRIPE_VERSION)),
                (AUTHORIZATION, key.bearer()),
            ]))
            .connect_timeout(LIMITS.connect)
            .timeout(LIMITS.call)
            // Only the crate `external-calls` decides whether a call is sent again.
            .retry(retry::never())
            // A redirect would send the payment to a server that nobody configured.
            .redirect(redirect::Policy::none())
            // A proxy in the environment would do the same.
            .no_proxy()
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .build()?;
        Ok(Self { client, payment_intents, refunds })
    }

    /// Sends a request once. With the feature `otel`, the request gets a span.
    pub(super) async fn once(&self, request: RequestBuilder, reference: &str) -> Result<Response, CallError> {
        #[cfg(feature = "otel")]
        let answered = super::span::send(request).await;
        #[cfg(not(feature = "otel"))]
        let answered = request.send().await;
        let response = answered.map_err(no_answer)?;
        let id = response.headers().get("Request-Id").and_then(|id| id.to_str().ok()).unwrap_or("none");
        log::info!(
            "gateway {} {} reference={reference} gateway_request={}",
            response.status().as_u16(),
            response.url().path(),
            id.escape_debug()
        );
        Ok(response)
    }

    /// A GET of the page of a list that follows the object `after`.
    pub(super) fn get_page(&self, book: Book, filters: &impl Serialize, after: Option<&str>) -> RequestBuilder {
        let list = self.client.get(self.url(book).clone()).query(&[("limit", PAGE_SIZE)]).query(filters);
        list.query(&after.map(|after| [("starting_after", after)]))
    }

    /// A GET of one object by its id.
    pub(super) fn get_object(&self, book: Book, id: &str) -> RequestBuilder {
        let mut url = self.url(book).clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.push(id);
        }
        self.client.get(url)
    }

    fn url(&self, book: Book) -> &Url {
        match book {
            Book::Payments => &self.payment_intents,
            Book::Refunds => &self.refunds,
        }
    }

    async fn send_once(&self, reference: &str, call: Call<'_>) -> Result<Outcome, CallError> {
        // The service has refused products and refunds with such an amount long before.
        let amount = currency::to_gateway(call.amount(), call.currency())
            .ok_or_else(|| not_understood("the gateway can't express the amount"))?;
        let form = form(reference, call, amount);
        let request = self.client.post(self.url(call.book()).clone()).header("Idempotency-Key", reference).form(&form);
        of_sending(self.once(request, reference).await?, reference, call).await
    }
}

impl Gateway for Stripe {
    fn send<'a>(&'a self, reference: &'a str, call: Call<'a>) -> BoxFuture<'a, Result<Outcome, CallError>> {
        Box::pin(self.send_once(reference, call))
    }

    fn look_up<'a>(&'a self, sent: &'a Sent, call: Call<'a>) -> BoxFuture<'a, Result<Option<Outcome>, CallError>> {
        Box::pin(async move {
            // All pages of a list share the time limit of one call.
            let looked = tokio::time::timeout(LIMITS.call, self.look(sent, call)).await;
            looked.unwrap_or_else(|_| Err(CallError::NoAnswer { reason: "the books take too long to read".to_owned() }))
        })
    }
}

/// The parameters of a call. Nothing in them changes between two sendings.
fn form(reference: &str, call: Call<'_>, amount: i64) -> Vec<(&'static str, String)> {
    let amount = ("amount", amount.to_string());
    let (mut form, account_id) = match call {
        Call::Payment(payment) => {
            let form = vec![
                amount,
                ("currency", payment.currency.to_ascii_lowercase()),
                ("payment_method", payment.payment_method.clone()),
                ("confirm", "true".to_owned()),
                // No cardholder is there to authenticate (3-D Secure), so a card that requires it is declined.
                ("error_on_requires_action", "true".to_owned()),
                ("payment_method_types[]", "card".to_owned()),
            ];
            (form, payment.account_id)
        }
        Call::Refund(refund) => (vec![amount, ("payment_intent", refund.payment_intent.clone())], refund.account_id),
    };
    form.push(("metadata[reference]", reference.to_owned()));
    form.push(("metadata[account]", account_id.to_string()));
    form
}
