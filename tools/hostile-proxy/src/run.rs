//! Runs one case: a decision through the broken proxy, its outcome, and a second decision by the same client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::api::Api;
use crate::client::{Client, Report};
use crate::proxy::Proxy;
use crate::table::{Case, Outcome, Wanted};

/// A client with backoff needs at most as many sendings as the longest case has steps, and a few while the API says "in flight".
const MOST_SENDINGS: usize = 14;

/// One decision, ready to be sent.
#[derive(Debug)]
pub struct Decision {
    /// The client's name for it, and the name of its customer.
    pub name: String,
    pub sku: String,
    pub path: String,
    pub body: Value,
    wanted: Wanted,
}

impl Decision {
    /// Creates what the decision needs: a product, and for a charge or a refund an order and a charge.
    pub async fn prepare(api: &Api, wanted: Wanted, card: &str, stock: Option<u32>) -> Result<Self> {
        let name = Uuid::new_v4().simple().to_string();
        let sku = format!("case-{name}");
        api.stock(&sku, stock).await?;
        let order = json!({"customer": name, "items": [{"sku": sku, "quantity": 1}]});
        let (path, body) = match wanted {
            Wanted::Order => ("/v1/orders".to_owned(), order),
            Wanted::Charge => {
                let order = api.make("/v1/orders", &order).await?;
                ("/v1/charges".to_owned(), json!({"order_id": order["id"], "payment_method": card}))
            }
            Wanted::Refund => {
                let order = api.make("/v1/orders", &order).await?;
                let pay = json!({"order_id": order["id"], "payment_method": card});
                let charge = api.make("/v1/charges", &pay).await?;
                // Not the whole charge: a second refund must stay possible, so that it would show.
                let id = charge["id"].as_str().context("the charge has no id")?;
                (format!("/v1/charges/{id}/refunds"), json!({"amount": 100}))
            }
        };
        Ok(Self { name, sku, path, body, wanted })
    }

    /// The ids of the orders, succeeded charges or succeeded refunds that the API has for this decision.
    pub async fn effects(&self, api: &Api) -> Result<Vec<Value>> {
        let list = match self.wanted {
            Wanted::Order => format!("/v1/orders?customer={}", self.name),
            Wanted::Charge => format!("/v1/charges?customer={}&status=succeeded", self.name),
            Wanted::Refund => self.path.clone(),
        };
        let objects = api.list(&list).await?.into_iter();
        let counts = |object: &Value| self.wanted != Wanted::Refund || object["status"] == "succeeded";
        Ok(objects.filter(counts).map(|object| object["id"].clone()).collect())
    }
}

/// Runs one case. An error says what went wrong.
pub async fn case(proxy: &Arc<Proxy>, api: &Api, client: &mut Client, case: &Case) -> Result<()> {
    let decision = Decision::prepare(api, case.request, &case.card, case.stock).await?;
    proxy.plan(&case.sendings);
    let (started, mut last) = (Instant::now(), None::<Report>);
    for expected in &case.outcomes {
        let report = client.post(&decision.name, &decision.path, &decision.body).await?;
        let took = started.elapsed();
        if last.is_none() {
            // The first outcome is fixed. Now the delayed events happen.
            if let Some(stock) = case.restock {
                api.stock(&decision.sku, Some(stock)).await?;
            }
            proxy.release().await;
        }
        ensure!(report.outcome == *expected, "the client said {:?}, not {expected:?}: {report:?}", report.outcome);
        ensure!(
            took >= Duration::from_millis(case.at_least_ms),
            "ended after {took:?}, before the time that Retry-After names"
        );
        let known = last.as_ref().is_none_or(|last| last.key == report.key);
        ensure!(known, "the second run had another key than the first: {last:?}, {report:?}");
        last = Some(report);
    }
    let report = last.context("a case without an outcome")?;
    if let Some(status) = case.status {
        ensure!(report.status == Some(status), "the client got the status {:?}, not {status}", report.status);
    }
    let seen = proxy.decision(&report.key).with_context(|| format!("the key {} was never sent", report.key))?;
    if let Some(wrong) = seen.wrong() {
        anyhow::bail!(wrong);
    }
    ensure!(seen.sendings() <= MOST_SENDINGS, "sent {} times: that is no backoff", seen.sendings());
    let effects = decision.effects(api).await?;
    ensure!(effects.len() == case.effects, "{} effects, not {}: {effects:?}", effects.len(), case.effects);
    if report.outcome == Outcome::Done {
        ensure!(effects.contains(&report.body["id"]), "the client shows {}, but the API has {effects:?}", report.body);
    }
    next(proxy, api, client).await.context("the next decision over the same client")
}

/// A plain decision after a broken one: it must get its own answer, not one that was left on a connection.
async fn next(proxy: &Arc<Proxy>, api: &Api, client: &mut Client) -> Result<()> {
    let decision = Decision::prepare(api, Wanted::Order, "", None).await?;
    proxy.plan(&[]);
    let report = client.post(&decision.name, &decision.path, &decision.body).await?;
    let effects = decision.effects(api).await?;
    ensure!(report.outcome == Outcome::Done, "it ended with {report:?}");
    ensure!(effects == [report.body["id"].clone()], "the client shows {}, but the API has {effects:?}", report.body);
    Ok(())
}
