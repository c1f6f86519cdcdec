//! Two processes with one decision, and a client that is killed.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::time::{sleep, timeout};

use crate::api::Api;
use crate::client::Program;
use crate::proxy::Proxy;
use crate::run::Decision;
use crate::table::{End, Forward, Outcome, Place, Sending, Wanted};

/// How long after a decision is handed over the client is killed, in microseconds. The first kills come while it stores
/// the key, the last during the first sending. `moments` has the exact moments of a sending.
const KILLS: [u64; 8] = [0, 200, 500, 1_000, 2_000, 4_000, 8_000, 16_000];

/// Gives each decision to two processes at once. Each must end in one effect, which both report.
pub async fn race(proxy: &Arc<Proxy>, api: &Api, program: &Program, tries: usize) -> Result<()> {
    proxy.plan(&[]);
    let (mut one, mut other) = (program.start()?, program.start()?);
    // Half of them order, half of them refund a part of one charge.
    let order = Decision::prepare(api, Wanted::Order, "", None).await?;
    let refund = Decision::prepare(api, Wanted::Refund, "pm_card_visa", None).await?;
    let (mut ids, mut keys) = (HashSet::new(), HashSet::new());
    for index in 0..tries {
        let wanted = if index % 2 == 0 { &order } else { &refund };
        let body = if index % 2 == 0 { order.body.clone() } else { serde_json::json!({"amount": 1}) };
        let name = format!("{} {index}", wanted.name);
        one.begin(&name, &wanted.path, &body).await?;
        other.begin(&name, &wanted.path, &body).await?;
        let (left, right) = (one.report().await?, other.report().await?);
        ensure!(left.outcome == Outcome::Done && right.outcome == Outcome::Done, "try {index}: {left:?}, {right:?}");
        ensure!(left.key == right.key, "try {index}: two keys, {} and {}", left.key, right.key);
        ensure!(left.body["id"] == right.body["id"], "try {index}: {} and {}", left.body, right.body);
        ids.insert(left.body["id"].to_string());
        keys.insert(left.key);
    }
    ensure!(
        keys.len() == tries && ids.len() == tries,
        "{tries} tries, but {} keys and {} effects",
        keys.len(),
        ids.len()
    );
    let effects = order.effects(api).await?.len() + refund.effects(api).await?.len();
    ensure!(effects == tries, "{tries} tries made {effects} effects");
    Ok(())
}

/// Moments of the first sending at which the client is killed.
fn moments() -> [Sending; 5] {
    let hang = |cut| Sending { cut: Some(cut), end: End::Hang, ..Sending::default() };
    [
        Sending { forward: Forward::Never, ..Sending::default() },
        Sending { forward: Forward::Held, ..Sending::default() },
        hang(Place::Start),
        hang(Place::Body),
        hang(Place::LastByte),
    ]
}

/// Kills the client at many points, and runs each decision again in another process.
pub async fn kills(proxy: &Arc<Proxy>, api: &Api, program: &Program) -> Result<()> {
    let mut after = program.start()?;
    let delays = KILLS.map(|delay| (Sending::default(), Some(Duration::from_micros(delay))));
    let points = delays.into_iter().chain(moments().map(|sending| (sending, None)));
    for (sending, delay) in points {
        let mut client = program.start()?;
        // An earlier decision, so that the program is up when the clock starts.
        let warm = Decision::prepare(api, Wanted::Order, "", None).await?;
        proxy.plan(&[]);
        client.post(&warm.name, &warm.path, &warm.body).await?;
        let decision = Decision::prepare(api, Wanted::Order, "", None).await?;
        proxy.plan(std::slice::from_ref(&sending));
        let mut hanging = proxy.hanging();
        hanging.mark_unchanged();
        client.begin(&decision.name, &decision.path, &decision.body).await?;
        match delay {
            Some(delay) => sleep(delay).await,
            None => timeout(Duration::from_secs(10), hanging.changed()).await.context("the client never sent")??,
        }
        client.kill().await?;
        let point = delay.map(|delay| format!("{delay:?}")).unwrap_or_else(|| format!("{sending:?}"));
        let report = after.post(&decision.name, &decision.path, &decision.body).await?;
        ensure!(report.outcome == Outcome::Done, "killed at {point}, the second run ended with {report:?}");
        proxy.release().await;
        let effects = decision.effects(api).await?;
        ensure!(effects == [report.body["id"].clone()], "killed at {point}: {} effects", effects.len());
    }
    refused_after_a_kill(proxy, api, program).await
}

/// The first run is killed while its request hangs in a proxy. The second run is refused. Then the request takes
/// effect: the second run must not have reported a refusal.
async fn refused_after_a_kill(proxy: &Arc<Proxy>, api: &Api, program: &Program) -> Result<()> {
    let decision = Decision::prepare(api, Wanted::Order, "", Some(0)).await?;
    proxy.plan(&[Sending { forward: Forward::Held, ..Sending::default() }]);
    let mut hanging = proxy.hanging();
    hanging.mark_unchanged();
    let mut client = program.start()?;
    client.begin(&decision.name, &decision.path, &decision.body).await?;
    timeout(Duration::from_secs(20), hanging.changed()).await.context("the client never sent")??;
    client.kill().await?;
    let mut after = program.start()?;
    let refused = after.post(&decision.name, &decision.path, &decision.body).await?;
    api.stock(&decision.sku, Some(5)).await?;
    proxy.release().await;
    ensure!(
        refused.outcome == Outcome::Unknown,
        "a request of the killed run is on its way, but the second run says {refused:?}"
    );
    let done = after.post(&decision.name, &decision.path, &decision.body).await?;
    let effects = decision.effects(api).await?;
    ensure!(done.outcome == Outcome::Done && effects == [done.body["id"].clone()], "{done:?}, {effects:?}");
    Ok(())
}
