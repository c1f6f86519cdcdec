//! If a client leaves, the work of its request goes on, and a retry replays the reply.

use std::io::{Read, Write};
use std::net::TcpStream;

use diesel::connection::SimpleConnection;
use diesel::pg::PgConnection;

use crate::app::{ACME, App, one_item};
use crate::support::{connect, eventually, eventually_blocked};

/// Locks the product `sticker`. An order of a sticker waits until the connection is dropped.
fn hold_stickers(app: &App) -> PgConnection {
    let mut conn = connect(&app.database);
    conn.batch_execute("BEGIN; SELECT FROM products WHERE sku = 'sticker' FOR UPDATE").unwrap();
    conn
}

fn connection(app: &App) -> TcpStream {
    TcpStream::connect(app.base.strip_prefix("http://").unwrap()).unwrap()
}

fn send_order(mut stream: &TcpStream) {
    let body = one_item("sticker", 1).to_string();
    let length = body.len();
    write!(
        stream,
        "POST /v1/orders HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {ACME}\r\nIdempotency-Key: key\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
}

async fn the_order_is_made_once_and_a_retry_replays_it(app: &App) {
    eventually("the order is created", || app.count("orders") == 1).await;
    let retry = app.order("key", "sticker", 1).await.expect(201);
    assert!(retry.is_replay());
    assert_eq!((app.count("orders"), app.count("idempotency_keys")), (1, 1));
    assert_eq!(app.get("/v1/products/sticker").await.json()["reserved"], 1);
}

#[tokio::test]
async fn an_order_is_created_although_its_client_hangs_up() {
    let app = App::start_with_pool(4).await;
    let stickers = hold_stickers(&app);
    let client = connection(&app);
    send_order(&client);
    eventually_blocked(&app.database, 1).await;

    drop(client); // FIN
    drop(stickers);

    the_order_is_made_once_and_a_retry_replays_it(&app).await;
}

#[tokio::test]
async fn an_order_is_created_although_its_client_resets_the_connection() {
    let app = App::start_with_pool(4).await;
    let stickers = hold_stickers(&app);
    let mut client = connection(&app);
    client.write_all(b"GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    client.peek(&mut [0]).unwrap();
    send_order(&client);
    eventually_blocked(&app.database, 1).await;

    drop(client); // RST, because the client did not read the first answer.
    drop(stickers);

    the_order_is_made_once_and_a_retry_replays_it(&app).await;
}

#[tokio::test]
async fn a_retry_waits_for_the_order_that_its_gone_client_began() {
    let app = App::start_with_pool(4).await;
    let other = App::start_on(app.database.clone(), 4).await;
    let stickers = hold_stickers(&app);
    let client = connection(&app);
    send_order(&client);
    eventually_blocked(&app.database, 1).await;
    drop(client);

    let (here, there, ()) = tokio::join!(app.order("key", "sticker", 1), other.order("key", "sticker", 1), async {
        tokio::task::yield_now().await;
        drop(stickers);
    });

    assert_eq!(here.expect(201).reply(), there.expect(201).reply());
    assert_eq!((app.count("orders"), app.count("idempotency_keys")), (1, 1));
}

#[tokio::test]
async fn half_a_request_does_nothing() {
    let app = App::start_with_pool(2).await;
    let before = app.rows();
    let mut client = connection(&app);
    let head = "POST /v1/orders HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer sk_demo_acme\r\n\
                Idempotency-Key: key\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"customer\"";
    client.write_all(head.as_bytes()).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();

    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();

    assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    assert_eq!(app.rows(), before);
    app.order("key", "sticker", 1).await.expect(201);
}
