//! One run: it makes the purchase, starts the replicas, clicks, and tells what happened until every click has its final answer.

use std::time::Duration;

use diesel::connection::Connection;
use diesel::pg::PgConnection;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::Stage;
use super::client::{Visitor, hex};
use super::forwarder::Wire;
use super::naive;
use super::replica::key_of;
use super::replicas::{Ports, Troupe};
use super::settings::{KeyPer, Record, Settings};
use super::timeline::Timeline;
use super::truth::{Purchases, Verdict};
use super::watching::Part;
use crate::http::ApiError;
use crate::shop::charges::CREATE_CHARGE;
use crate::shop::demo::{ACME, ACME_KEY};
use crate::shop::orders::{self, Order};
use idempotency::{Address, Body as _, Database, Key};

/// How long a run may take. After a crash, the lease of the dead replica ends after 15 s, and a retry waits for up to 6 s more.
const LASTS: Duration = Duration::from_secs(40);

/// How long the replicas may take to start. A release build takes a tenth of a second.
const STARTS_WITHIN: Duration = Duration::from_secs(15);

/// What is bought.
const SKU: &str = "pro-monthly";

/// How long the run still listens after the last answer, for what the replicas do after it.
const SETTLES: Duration = Duration::from_millis(100);

/// How often the last look into the database and the books is tried. Without it there is no verdict.
const LAST_LOOKS: u32 = 5;

impl Stage {
    /// Plays a run to its end. Dropping the future ends its replicas.
    ///
    /// # Errors
    /// The run could not begin.
    pub(super) async fn play(self, settings: Settings, timeline: Timeline) -> Result<(), Box<dyn std::error::Error>> {
        let run = Uuid::new_v4();
        let (keys, orders) = self.purchase(run, &settings).await?;
        let references = references(&keys)?;
        let _playing = self.playing(&references);
        let ids: Vec<Uuid> = orders.iter().map(|order| order.id).collect();
        let purchases = Purchases::new(ACME, keys.clone(), ids.clone(), &references);
        let bought: Vec<_> = keys.iter().zip(&ids).map(|(key, id)| json!({"key": key, "order_id": id})).collect();
        let price = json!({"amount": orders[0].amount, "currency": orders[0].currency});
        timeline.tell("run", json!({"settings": settings, "account": "acme", "purchases": bought, "price": price}));

        let part = |replica: char| Part {
            replica,
            port: 0,
            run,
            began: timeline.began,
            kill: settings.kill.clone().filter(|kill| kill.replica == replica).map(|kill| kill.at),
            references: references.clone(),
        };
        let key = key_of(&part('a'));
        let wire = Wire::new(self.books.clone(), purchases.clone(), timeline.clone(), key, settings.drop).open()?;
        let (ports, mut up) = watch::channel(Ports::new());
        let troupe = Troupe {
            database_url: self.database_url.clone(),
            gateway_url: format!("http://{}", wire.address),
            timeline: timeline.clone(),
            purchases: purchases.clone(),
            ports,
        };
        // All of it ends with this set.
        let mut background = JoinSet::new();
        for replica in settings.names() {
            background.spawn_local(troupe.clone().keep(part(*replica)));
        }
        timeout(STARTS_WITHIN, up.wait_for(|up| up.len() == settings.names().len())).await??;
        purchases.look(&self.db, &self.books, &timeline).await?;
        {
            let (this, purchases, timeline) = (self.clone(), purchases.clone(), timeline.clone());
            background.spawn_local(async move { purchases.tell_truth(&this.db, &this.books, &timeline).await });
        }

        let visitor = Visitor {
            client: Visitor::client()?,
            timeline: timeline.clone(),
            run,
            api_key: ACME_KEY,
            path: if settings.record == Record::Apart { naive::PATH } else { "/v1/charges" },
            replicas: settings.names(),
            ports: up,
            cross: settings.drop,
        };
        let complete = timeout(LASTS, visitor.clicks(&settings, &keys, &ids)).await.is_ok();
        sleep(SETTLES).await;
        drop(background);
        let verdict = self.verdict(&purchases, &timeline).await?;
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

    /// The orders, and the keys under which they are paid. The visitor wants one thing. With a key for each click there is also an
    /// order for each click, as in a shop that makes one whenever somebody presses "Pay".
    async fn purchase(&self, run: Uuid, settings: &Settings) -> Result<(Vec<String>, Vec<Order>), ApiError> {
        let name = format!("pay-{}", hex(&run.as_bytes()[..4]));
        let keys = match settings.key {
            KeyPer::Purchase => vec![name],
            KeyPer::Click => (1..=settings.clicks).map(|click| format!("{name}-{click}")).collect(),
        };
        let count = keys.len();
        let place = move |conn: &mut PgConnection| {
            let body = json!({"customer": "you", "items": [{"sku": SKU, "quantity": 1}]});
            let new = orders::NewOrder::parse(&body).map_err(|faults| ApiError::invalid(&faults))?;
            conn.transaction(|conn| {
                (0..count).map(|_| orders::place(conn, ACME, &new)).collect::<Result<Vec<_>, ApiError>>()
            })
        };
        let orders = Database::run(&self.db, ACME, place).await?;
        Ok((keys, orders))
    }

    /// The last look. A look that failed must not leave an older one as the verdict.
    async fn verdict(&self, purchases: &Purchases, timeline: &Timeline) -> Result<Verdict, String> {
        let mut end = Err(String::new());
        for _ in 0..LAST_LOOKS {
            end = purchases.look(&self.db, &self.books, timeline).await;
            if end.is_ok() {
                break;
            }
            sleep(Duration::from_secs(1)).await;
        }
        end
    }
}

impl Visitor {
    /// All clicks, each at its time, to their final answers.
    async fn clicks(&self, settings: &Settings, keys: &[String], orders: &[Uuid]) {
        let spacing = Duration::from_millis(settings.spacing_ms.into());
        let clicks = (1..=settings.clicks).map(|number| async move {
            sleep(spacing * u32::from(number - 1)).await;
            let place = if keys.len() == 1 { 0 } else { usize::from(number - 1) };
            let body = json!({"order_id": orders[place], "payment_method": settings.gateway.payment_method()});
            self.click(number, &keys[place], &body).await;
        });
        futures_util::future::join_all(clicks).await;
    }
}

/// The names of the calls that the real endpoint would make under these keys.
fn references(keys: &[String]) -> Result<Vec<String>, idempotency::Error> {
    let reference =
        |key: &String| Ok(Address::new(ACME, &CREATE_CHARGE, &[], &Key::parse(key.as_bytes())?)?.reference());
    keys.iter().map(reference).collect()
}

/// What the page gets if a run could not go on.
pub(super) fn failed(timeline: &Timeline, error: &dyn std::error::Error) {
    log::warn!("a run of the stage could not go on: {error}");
    // Nobody knows what was charged, so it counts for nothing.
    let end: Value = json!({
        "charged": null, "purchases": 0, "paid_once": 0, "paid_twice": 0, "unexplained": null, "lost": null, "complete": false,
        "error": "the run could not go on; the server's log has the cause",
    });
    timeline.tell("end", end);
}
