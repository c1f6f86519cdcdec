//! The clients' reads: single objects, lists and the feed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use payments_history::{Books, Row};
use serde_json::Value;
use tokio::time::sleep;

use crate::Fatal;
use crate::client::Client;
use crate::history::{object, row};
use crate::load::API_KEYS;

/// The rows on a page: the API's maximum.
const PAGE: usize = 100;

/// How often a page is requested until it comes, a second apart: as long as a process may take to come up.
const TRIES: u32 = 60;

/// Lists of refunds that are read at the same time.
const LISTS_AT_ONCE: usize = 16;

/// Reads one object, by the path that an answer named.
pub async fn read_one(client: &Client, api_key: &str, path: &str) {
    let called = Instant::now();
    let Some((_, id)) = path.rsplit_once('/') else { return };
    match client.get(api_key, path).await {
        Some((200, json)) => client.history.read(called, api_key, id, object(&json)),
        Some((404, _)) => client.history.read(called, api_key, id, None),
        // No answer, or an outage, which says nothing.
        _ => {}
    }
}

/// Reads all charges of an order. They fit on a page.
pub async fn read_charges_of(client: &Client, api_key: &str, order: &str) {
    let called = Instant::now();
    if let Some((200, json)) = client.get(api_key, &format!("/v1/charges?order_id={order}&limit={PAGE}")).await {
        client.history.book(called, api_key, (Books::Charges, Some(order)), false, rows(&json));
    }
}

fn rows(page: &Value) -> Vec<Row> {
    page["data"].as_array().into_iter().flatten().filter_map(|json| Some(row(object(json)?))).collect()
}

/// Follows an account's feed until `stop`, and then to its end.
pub async fn follow(client: &Client, api_key: &str, stop: &AtomicBool) -> Result<(), Fatal> {
    let (began, mut cursor, mut met) = (Instant::now(), None, Vec::new());
    loop {
        let is_last = stop.load(Ordering::Relaxed);
        let has_more = match feed_page(client, api_key, &mut cursor, &mut met).await {
            Some(has_more) => has_more,
            None if is_last => return Err("the feed could not be read to its end".into()),
            None => false,
        };
        if is_last && !has_more {
            client.history.book(began, api_key, (Books::Followed, None), true, met);
            return Ok(());
        }
        if !has_more {
            sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Reads the next page of the feed, and returns whether there is more. None if it could not be read.
async fn feed_page(client: &Client, api_key: &str, cursor: &mut Option<String>, met: &mut Vec<Row>) -> Option<bool> {
    let after = cursor.as_ref().map_or(String::new(), |cursor| format!("&after={cursor}"));
    let (200, json) = client.get(api_key, &format!("/v1/events?limit={PAGE}{after}")).await? else { return None };
    for event in json["data"].as_array().into_iter().flatten() {
        let text = |name: &str| event[name].as_str().map(str::to_owned);
        // Products and entitlements are not objects of the history.
        let event_of =
            object(&event["data"]).map(|object| Row { cursor: text("cursor"), event: text("type"), ..row(object) });
        met.extend(event_of);
    }
    *cursor = json["cursor"].as_str().map(str::to_owned).or(cursor.take());
    Some(json["has_more"] == true)
}

/// Reads every list and the feed of every account, once nobody writes any longer.
pub async fn read_all(client: &Client) -> Result<(), Fatal> {
    for api_key in API_KEYS {
        read_list(client, api_key, Books::Orders, "/v1/orders").await?;
        let began = Instant::now();
        let charges = read_list(client, api_key, Books::Charges, "/v1/charges").await?;
        let paid = charges.into_iter().filter(|charge| charge.object.status == "succeeded");
        let refunds = paid.map(async |charge| {
            // A charge has a few refunds: they fit on a page.
            page(client, api_key, &format!("/v1/charges/{}/refunds?limit={PAGE}", charge.object.id)).await
        });
        let pages: Vec<_> = stream::iter(refunds).buffer_unordered(LISTS_AT_ONCE).collect().await;
        let mut refunds = Vec::new();
        for page in pages {
            refunds.extend(rows(&page?));
        }
        client.history.book(began, api_key, (Books::Refunds, None), true, refunds);
        let (began, mut cursor, mut met, mut tries) = (Instant::now(), None, Vec::new(), 0);
        loop {
            match feed_page(client, api_key, &mut cursor, &mut met).await {
                Some(true) => {}
                Some(false) => break,
                None if tries < TRIES => {
                    tries += 1;
                    sleep(Duration::from_secs(1)).await;
                }
                None => return Err("the feed could not be read".into()),
            }
        }
        client.history.book(began, api_key, (Books::Feed, None), true, met);
    }
    Ok(())
}

async fn page(client: &Client, api_key: &str, path: &str) -> Result<Value, Fatal> {
    for _ in 0..TRIES {
        if let Some((200, json)) = client.get(api_key, path).await {
            return Ok(json);
        }
        sleep(Duration::from_secs(1)).await;
    }
    Err(format!("{path} could not be read").into())
}

async fn read_list(client: &Client, api_key: &str, book: Books, path: &str) -> Result<Vec<Row>, Fatal> {
    let (began, mut all, mut after) = (Instant::now(), Vec::new(), String::new());
    loop {
        let page = page(client, api_key, &format!("{path}?limit={PAGE}{after}")).await?;
        all.extend(rows(&page));
        let last = page["data"].as_array().and_then(|rows| rows.last()?["id"].as_str());
        match last {
            Some(id) if page["has_more"] == true => after = format!("&after={id}"),
            _ => break,
        }
    }
    client.history.book(began, api_key, (book, None), true, all.clone());
    Ok(all)
}
