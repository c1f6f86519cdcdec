//! The database is up but silent: it accepts and acknowledges everything, and never answers, like a paused pooler, a
//! hanging disk or a stopped server.

use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use futures_util::future::join_all;
use tokio::time::timeout;

use crate::app::{ACME, Answer, App, Client, GLOBEX, one_item, send};
use crate::gateways::away;
use crate::support::{Proxy, cluster, connect, count, eventually_blocked, fresh_database};

/// No request waits longer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(12);

/// A server whose connections go through a proxy.
struct Silenced {
    app: App,
    proxy: Proxy,
    /// The database without the proxy.
    direct: String,
    /// The orders that were created before the silence.
    before: i64,
}

impl Silenced {
    fn start(pool: u32) -> Self {
        cluster();
        let (proxy, direct) = (Proxy::start(), fresh_database());
        let app = App::start_alone(proxy.url(&direct), pool, away());
        Self { app, proxy, direct, before: 0 }
    }

    /// A server whose pool has opened all connections that two accounts get, each of which waits for a row.
    async fn warm(pool: u32) -> Self {
        let mut this = Self::start(pool);
        let mut holder = connect(&this.direct);
        holder.batch_execute("BEGIN; SELECT FROM products WHERE sku = 'sticker' FOR UPDATE").unwrap();
        let client = (*this.app).clone();
        let orders = tokio::spawn(client.at_once(2 * pool as usize, |app, number| async move {
            let key = format!("warm-{number}");
            app.post_as([ACME, GLOBEX][number % 2], "/v1/orders", &key, one_item("sticker", 1)).await.status
        }));
        // Of three or more, the last is for a third account.
        eventually_blocked(&this.direct, if pool > 2 { pool - 1 } else { pool }.into()).await;
        holder.batch_execute("COMMIT").unwrap();
        assert!(orders.await.unwrap().iter().all(|status| *status == 201));
        this.before = this.orders();
        this
    }

    fn orders(&self) -> i64 {
        count(&self.direct, "orders")
    }
}

async fn order(app: &Client, account: &str, key: &str) -> Answer {
    let answer = app.post_as(account, "/v1/orders", key, one_item("pro-monthly", 1));
    timeout(ANSWERED_WITHIN, answer).await.unwrap_or_else(|_| panic!("{key} has no answer after {ANSWERED_WITHIN:?}"))
}

/// After the silence, both accounts are served at once, each key takes effect once, and the server is ready.
async fn assert_recovered(silenced: &Silenced, keys: &[String]) {
    let app = &silenced.app;
    let asked = Instant::now();
    for account in [ACME, GLOBEX] {
        order(app, account, "fresh").await.expect(201);
        for key in keys {
            order(app, account, key).await.expect(201);
        }
    }
    assert!(
        asked.elapsed() < Duration::from_secs(3),
        "the first requests after the silence took {:?}",
        asked.elapsed()
    );
    app.eventually_ready(200).await;
    assert_eq!(silenced.orders(), silenced.before + 2 * (i64::try_from(keys.len()).unwrap() + 1));
}

#[tokio::test]
async fn a_second_of_silence_only_delays_answers() {
    let silenced = Silenced::warm(4).await;
    let keys: Vec<_> = (0..6).map(|number| format!("key-{number}")).collect();
    silenced.proxy.pause();
    let orders = join_all(keys.iter().flat_map(|key| [ACME, GLOBEX].map(|account| order(&silenced.app, account, key))));
    let later = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        silenced.proxy.resume();
    };

    let (answers, ()) = tokio::join!(orders, later);

    assert!(answers.iter().all(|answer| answer.status == 201), "{answers:?}");
    assert_recovered(&silenced, &keys).await;
}

/// Sends orders of both accounts into the silence, more than there are connections, and looks at readiness.
async fn orders_into_silence(silenced: &Silenced) -> Vec<String> {
    let keys: Vec<_> = (0..6).map(|number| format!("key-{number}")).collect();
    let orders = join_all(keys.iter().flat_map(|key| [ACME, GLOBEX].map(|account| order(&silenced.app, account, key))));
    let ready = async {
        let asked = Instant::now();
        let answer = send(silenced.app.anonymous("GET", "/health/ready")).await;
        answer.expect_problem(503, "database-unavailable");
        assert!(asked.elapsed() < Duration::from_secs(4), "readiness took {:?}", asked.elapsed());
    };
    let (answers, ()) = tokio::join!(orders, ready);
    for answer in answers {
        let answer = answer.expect(503);
        assert!(["database-unavailable", "overloaded"].contains(&answer.problem().as_str()), "{answer:?}");
    }
    keys
}

#[tokio::test]
async fn after_a_silence_of_eight_seconds_and_more_the_server_serves_again() {
    let silenced = Silenced::warm(4).await;
    silenced.proxy.pause();
    let keys = orders_into_silence(&silenced).await;

    silenced.proxy.resume();

    assert_recovered(&silenced, &keys).await;
}

#[tokio::test]
async fn connections_that_stay_silent_for_good_are_given_up_and_replaced() {
    let silenced = Silenced::warm(4).await;
    // Several times, so that no silence uses up what the next one needs.
    let mut all = vec![];
    for round in 0..2 {
        silenced.proxy.pause();
        let keys = orders_into_silence(&silenced).await;
        silenced.proxy.resume_for_new_connections();
        all = keys;
        for account in [ACME, GLOBEX] {
            order(&silenced.app, account, &format!("round-{round}")).await.expect(201);
        }
    }
    all.extend(["round-0".to_owned(), "round-1".to_owned()]);
    assert_recovered(&silenced, &all).await;
}

#[tokio::test]
async fn an_order_whose_commit_is_never_answered_is_replayed_to_its_retry() {
    let silenced = Silenced::warm(2).await;
    silenced.proxy.pause_after(b"COMMIT\0");

    order(&silenced.app, ACME, "key").await.expect_problem(503, "database-unavailable");

    assert_eq!(silenced.orders(), silenced.before + 1, "PostgreSQL has committed");
    silenced.proxy.resume_for_new_connections();
    assert!(order(&silenced.app, ACME, "key").await.expect(201).is_replay());
    assert_eq!(silenced.orders(), silenced.before + 1);
}

/// Silence before the handshake, which libpq's own limit ends, and in Diesel's statement after it, which no limit of
/// libpq's ends.
#[tokio::test]
async fn a_server_that_accepts_connections_and_says_nothing_holds_nobody() {
    for at in [None, Some(&b"SET CLIENT_ENCODING"[..])] {
        let silenced = Silenced::start(2);
        match at {
            None => silenced.proxy.pause(),
            Some(statement) => silenced.proxy.pause_after(statement),
        }
        let keys = orders_into_silence(&silenced).await;
        silenced.proxy.resume_for_new_connections();
        assert_recovered(&silenced, &keys).await;
    }
}

#[tokio::test]
async fn forty_askers_without_a_key_share_one_look_and_nobody_is_refused() {
    let silenced = Silenced::warm(2).await;
    silenced.app.eventually_ready(200).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    silenced.proxy.round_trips();

    let client: Client = (*silenced.app).clone();
    let answers = client.at_once(40, |app, _| async move { send(app.anonymous("GET", "/health/ready")).await.status });

    assert_eq!(answers.await, [200; 40]);
    let trips = silenced.proxy.round_trips();
    assert!(trips.len() <= 4, "more than one look: {trips}");
}

/// Diesel's `has_pending_migration` would create it.
#[tokio::test]
async fn readiness_creates_no_table() {
    let app = App::start_alone(fresh_database(), 2, away());
    crate::support::execute(&app.database, "DROP TABLE __diesel_schema_migrations");

    app.eventually_ready(503).await.expect_problem(503, "database-unavailable");

    assert_eq!(app.count("pg_tables WHERE tablename = '__diesel_schema_migrations'"), 0);
}
