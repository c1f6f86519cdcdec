//! One run: it makes the purchase, starts the replicas, clicks, and reports what happens until every click has its
//! final answer.

use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use idempotency::{Address, Key};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::books::whole;
use crate::client::Visitor;
use crate::database::Database;
use crate::forwarder;
use crate::replicas::{Ports, Troupe};
use crate::settings::{KeyPer, Record, Settings};
use crate::timeline::Timeline;
use crate::truth::{Purchases, Verdict};
use crate::watching::Part;
use crate::{Config, Stage};

/// How long a run may take. After a crash, the lease of the dead replica ends after 15 s, and a retry waits for up to 6 s more.
const LASTS: Duration = Duration::from_secs(40);

/// How long the replicas may take to start. A release build takes a tenth of a second.
const STARTS_WITHIN: Duration = Duration::from_secs(15);

/// How long the demo's server may take for an order. It answers every request within 12 s.
const ORDERED_WITHIN: Duration = Duration::from_secs(13);

/// What is bought.
const SKU: &str = "pro-monthly";

/// How long the run still listens after the last answer, for what the replicas do after it.
const SETTLES: Duration = Duration::from_millis(100);

/// How often the last look into the database and the books is attempted. Without it there is no verdict.
const LAST_LOOKS: u32 = 5;

impl Stage {
    /// Plays a run to its end. Dropping the future ends its replicas.
    ///
    /// # Errors
    /// The run could not begin.
    pub(super) async fn play(
        &self,
        settings: Settings,
        database: Database,
        timeline: &Timeline,
    ) -> Result<(), Box<dyn Error>> {
        let (config, run) = (&self.config, Uuid::new_v4());
        // The visitor wants one thing. With a key for each click there is also an order for each click, as in a shop
        // that creates one whenever somebody presses "Pay".
        let name = format!("pay-{}", &run.simple().to_string()[..8]);
        let keys: Vec<_> = match settings.key {
            KeyPer::Purchase => vec![name],
            KeyPer::Click => (1..=settings.clicks).map(|click| format!("{name}-{click}")).collect(),
        };
        let (mut orders, mut bought, mut price, mut references) = (Vec::new(), Vec::new(), Value::Null, Vec::new());
        for key in &keys {
            let order = self.order(key).await?;
            orders.push(Uuid::parse_str(order["id"].as_str().unwrap_or_default())?);
            bought.push(json!({"key": key, "order_id": order["id"]}));
            price = json!({"amount": order["amount"], "currency": order["currency"]});
            // The reference of the call that the real endpoint would make under this key.
            let key = Key::parse(key.as_bytes())?;
            references.push(Address::new(config.account_id, &config.charge, &[], &key)?.reference());
        }
        timeline.tell("run", json!({"settings": settings, "purchases": bought, "price": price}));
        let purchases = Arc::new(Purchases {
            books: config.books.clone(),
            database,
            timeline: timeline.clone(),
            account_id: config.account_id,
            keys: keys.into(),
            references: Mutex::new(references.iter().cloned().zip(orders.iter().copied().map(Some)).collect()),
            orders: orders.into(),
            changed: Notify::new(),
        });
        self.now_plays(&purchases);

        let part = |replica: char| Part {
            replica,
            port: 0,
            run,
            began: timeline.began,
            kill: settings.kill.clone().filter(|kill| kill.replica == replica).map(|kill| kill.at),
            references: references.clone(),
        };
        let wire = forwarder::open(Arc::clone(&purchases), part('a').gateway_key(), settings.drop)?;
        let (ports, mut up) = watch::channel(Ports::new());
        let troupe = Troupe {
            database_url: config.database_url.clone(),
            gateway_url: format!("http://{}", wire.address),
            purchases: Arc::clone(&purchases),
            ports,
            first_is_ahead: watch::Sender::new(settings.kill.is_none()),
        };
        // All of it ends with this set.
        let mut background = JoinSet::new();
        for replica in settings.names() {
            background.spawn_local(troupe.clone().keep(part(*replica)));
        }
        timeout(STARTS_WITHIN, up.wait_for(|up| up.len() == settings.names().len())).await??;
        purchases.look().await?;
        let truth = Arc::clone(&purchases);
        background.spawn_local(async move { truth.tell_truth().await });

        let visitor = Visitor {
            client: Visitor::client()?,
            purchases: Arc::clone(&purchases),
            run,
            api_key: config.api_key,
            path: match settings.record {
                Record::Same => config.charge.route.trim_start_matches("POST "),
                Record::Apart => config.naive_path,
            },
            replicas: settings.turns(),
            ports: up,
            first_is_ahead: troupe.first_is_ahead,
            cross: settings.drop,
        };
        let complete = timeout(LASTS, visitor.clicks(&settings)).await.is_ok();
        sleep(SETTLES).await;
        drop(background);
        let verdict = verdict(&purchases).await?;
        let (once, twice) = (u8::from(verdict.charged == 1), u8::from(verdict.charged > 1));
        timeline.tell(
            "end",
            json!({
                "charged": verdict.charged, "purchases": 1, "paid_once": once, "paid_twice": twice,
                "unexplained": verdict.unexplained, "lost": verdict.lost, "complete": complete,
            }),
        );
        Ok(())
    }

    /// Creates the order that is paid under this key, at the demo's server, like any client.
    async fn order(&self, key: &str) -> Result<Value, Box<dyn Error>> {
        let Config { books, server_url, api_key, .. } = &*self.config;
        let request = books.client.post(format!("{server_url}/v1/orders")).timeout(ORDERED_WITHIN);
        let request = request.bearer_auth(api_key).header("Idempotency-Key", format!("order-{key}"));
        let body = json!({"customer": "you", "items": [{"sku": SKU, "quantity": 1}]});
        let response = request.json(&body).send().await?.error_for_status()?;
        Ok(serde_json::from_slice(&whole(response).await?)?)
    }
}

impl Visitor {
    /// Sends all clicks, each at its time, until they have their final answers.
    async fn clicks(&self, settings: &Settings) {
        let spacing = Duration::from_millis(settings.spacing_ms.into());
        let (keys, orders) = (&self.purchases.keys, &self.purchases.orders);
        let clicks = (1..=settings.clicks).map(|number| async move {
            sleep(spacing * u32::from(number - 1)).await;
            if number > 1 {
                // If a later click overtook the first one, the other replica would do the work, and the kill might never come. The
                // visitor holds the sender, so the wait can't fail.
                let _ = self.first_is_ahead.subscribe().wait_for(|is_ahead| *is_ahead).await;
            }
            let place = if keys.len() == 1 { 0 } else { usize::from(number - 1) };
            let body = json!({"order_id": orders[place], "payment_method": settings.gateway.payment_method()});
            self.click(number, &keys[place], &body).await;
        });
        futures_util::future::join_all(clicks).await;
    }
}

/// The last look. A look that failed must not leave an older one as the verdict.
async fn verdict(purchases: &Purchases) -> Result<Verdict, String> {
    for _ in 1..LAST_LOOKS {
        if let Ok(verdict) = purchases.look().await {
            return Ok(verdict);
        }
        sleep(Duration::from_secs(1)).await;
    }
    purchases.look().await
}

/// What the page gets if a run could not go on.
pub(super) fn failed(timeline: &Timeline, error: &dyn Error) {
    log::warn!("a run of the stage could not go on: {error}");
    // Nobody knows what was charged, so it counts for nothing.
    let end: Value = json!({
        "charged": null, "purchases": 0, "paid_once": 0, "paid_twice": 0, "unexplained": null, "lost": null, "complete": false,
        "error": "the run could not go on; the server's log has the cause",
    });
    timeline.tell("end", end);
}
