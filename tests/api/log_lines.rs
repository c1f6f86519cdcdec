//! The log for a person on call: each line names the request, the key and the resource. An outage is one line, not one line for
//! each request.

use idempotency::Database as _;
use idempotent_payments::db::{Db, NOBODY};
use idempotent_payments::http::ApiError;
use idempotent_payments::process::logging::{of_request, request};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::app::{App, Client, one_item, send};
use crate::binary::{Replica, printed};
use crate::causes::end_of;
use crate::paying::Sandbox;
use crate::support::{cluster, execute, fresh_database};

const ID: &str = "01990000-0000-7000-8000-00000000abcd";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// Creates an order with the client's own request id and trace id.
async fn named_order(api: &Client, key: &str, request_id: &str) -> crate::app::Answer {
    let request = api.request("POST", "/v1/orders").header("Idempotency-Key", key).json(&one_item("sticker", 1));
    let request = request.header("X-Request-Id", request_id);
    send(request.header("traceparent", format!("00-{TRACE}-b7ad6b7169203331-01"))).await
}

#[tokio::test]
async fn work_on_a_thread_of_the_pool_knows_its_request() {
    let (db, id) = (Db::start(&fresh_database(), 1).unwrap(), Uuid::from_u128(7));

    let works = async {
        let ran = db.run(NOBODY, |_| Ok::<_, ApiError>(request())).await;
        let read = db.read(NOBODY, |_| Ok::<_, ApiError>(request())).await;
        (ran.unwrap(), read.unwrap())
    };

    assert_eq!(of_request(id, works).await, (Some(id), Some(id)));
}

#[tokio::test]
async fn a_line_names_the_request_the_key_and_the_resource() {
    let (database, sandbox) = (fresh_database(), Sandbox::start());
    let replica = Replica::start_logging(&database, &sandbox.url, &[]);
    let order = named_order(&replica, "\"my key\"", ID).await.expect(201);
    let resource = order.header("Location").unwrap();

    let line = replica.logged("POST /v1/orders").await;
    for part in [
        format!("request={ID}"),
        "route=\"POST /v1/orders\"".to_owned(),
        "status=201".to_owned(),
        "key=\"my key\"".to_owned(),
        "outcome=fresh".to_owned(),
        format!("resource={resource}"),
        format!("trace={TRACE}"),
    ] {
        assert!(line.contains(&part), "{part} is not in: {line}");
    }
    // 2026-11-25T03:12:19.123Z
    let (time, _) = line.split_once(' ').unwrap();
    assert_eq!((time.len(), time.as_bytes()[19]), (24, b'.'), "{line}");

    // The line of a read names its resource, and the line of a declined card names the charge.
    replica.get(resource).await.expect(200);
    assert!(replica.logged("GET /v1/orders/{id}").await.contains(&format!("resource={resource}")));
    let charge = json!({"order_id": order.json()["id"], "payment_method": "pm_card_visa_chargeDeclined"});
    let declined = replica.post("/v1/charges", "c", charge).await.expect(402).json();
    let instance = declined["instance"].as_str().unwrap();
    assert!(replica.logged("POST /v1/charges").await.contains(&format!("resource={instance}")));
}

#[tokio::test]
async fn a_line_names_the_api_key_by_its_id_even_if_the_key_is_refused() {
    let (database, sandbox) = (fresh_database(), Sandbox::start());
    let replica = Replica::start_logging(&database, &sandbox.url, &[]);
    let made = printed(&database, &["key", "create", "acme"]);
    let word = |label: &str| made.lines().find_map(|line| line.strip_prefix(label)).unwrap();
    let (id, key) = (word("key id "), word("API key "));
    send(replica.request_as(key, "GET", "/v1/orders")).await.expect(200);
    printed(&database, &["key", "revoke", id]);
    // A replica that has not seen the key refuses it at once.
    let other = Replica::start_logging(&database, &sandbox.url, &[]);
    send(other.request_as(key, "GET", "/v1/products")).await.expect(401);

    let line = replica.logged("GET /v1/orders").await;
    assert!(line.contains(&format!("api_key={id}")), "{line}");
    let line = other.logged("GET /v1/products").await;
    assert!(line.contains(&format!("status=401 api_key={id}")), "{line}");
    assert!(replica.log().iter().chain(&other.log()).all(|line| !line.contains(key)), "a log has the key itself");
}

#[tokio::test]
async fn a_line_for_machines_is_one_json_object() {
    let (database, sandbox) = (fresh_database(), Sandbox::start());
    let replica = Replica::start_logging(&database, &sandbox.url, &[("LOG_FORMAT", "json")]);
    let order = named_order(&replica, "k", "web-17").await.expect(201);

    replica.logged("POST /v1/orders").await;
    let lines: Vec<Value> = replica.log().iter().map(|line| serde_json::from_str(line).unwrap()).collect();

    let line = lines.iter().find(|line| line["route"] == "POST /v1/orders").unwrap();
    assert_eq!((&line["status"], &line["level"], &line["key"]), (&json!(201), &json!("INFO"), &json!("k")));
    assert_eq!(line["resource"].as_str(), order.header("Location"));
    assert_eq!(line["client_request_id"], "web-17");
    assert!(line["ms"].is_f64() || line["ms"].is_u64(), "{line}");
    assert!(line["time"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test]
async fn a_clients_uuid_is_the_requests_id_and_another_name_is_not() {
    let app = App::start_with_pool(2).await;
    let asked = |name: &str| app.request("GET", "/v1/orders/none").header("X-Request-Id", name);

    let taken = send(asked(ID)).await.expect(404);
    assert_eq!(taken.header("X-Request-Id"), Some(ID));
    assert_eq!(taken.json()["instance"], format!("urn:uuid:{ID}"));

    let long = "x".repeat(129);
    for other in ["web-17", "00000000-0000-0000-0000-000000000000", "a b\"c", "", &long] {
        let answer = send(asked(other)).await.expect(404);
        assert_ne!(answer.header("X-Request-Id"), Some(other));
    }
    let twice = send(asked(ID).header("X-Request-Id", ID)).await.expect(404);
    assert_ne!(twice.header("X-Request-Id"), Some(ID));
}

#[tokio::test]
async fn an_outage_of_the_database_is_logged_once_when_it_begins_and_once_when_it_ends() {
    let (database, sandbox) = (fresh_database(), Sandbox::start());
    let replica = Replica::start_logging(&database, &sandbox.url, &[]);
    replica.order("before", "sticker", 1).await.expect(201);
    let (_, name) = database.rsplit_once('/').unwrap();
    let admin = cluster().url("postgres");
    execute(&admin, &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"));
    execute(&admin, &format!("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'"));

    replica.at_once(12, |api, _| async move { api.get("/v1/orders").await.expect(503) }).await;
    execute(&admin, &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true"));
    end_of(&replica, "unreachable").await;

    let log = replica.log();
    let count = |text: &str| log.iter().filter(|line| line.contains(text)).count();
    assert_eq!((count("ERROR the database can't be reached"), count("WARN  over after ")), (1, 1), "{log:#?}");
    assert_eq!(count("ERROR"), 1, "{log:#?}");
    // Each request still has its line. The resolver may log once that it can't look, and the pool may log why it reconnects.
    assert_eq!(count("status=503"), 12);
    assert!(count("WARN") <= 3, "{log:#?}");
}

#[tokio::test]
async fn garbage_on_a_connection_is_not_logged_as_an_error() {
    let (database, sandbox) = (fresh_database(), Sandbox::start());
    let replica = Replica::start_logging(&database, &sandbox.url, &[]);
    let host = replica.base.strip_prefix("http://").unwrap();
    for garbage in
        ["\x16\x03\x01 hello\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"]
    {
        let mut client = TcpStream::connect(host).await.unwrap();
        client.write_all(garbage.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&answer));
    }
    replica.get("/v1/orders").await.expect(200);
    replica.logged("GET /v1/orders").await;

    let log = replica.log();
    assert!(!log.iter().any(|line| line.contains("ERROR")), "{log:#?}");
    // actix's own lines help nobody, so the log does not have them.
    assert!(!log.iter().any(|line| line.contains("workers")), "{log:#?}");
}
