//! The client's half, in Rust with its standard library and `serde_json`: store the key, send the request, and do what `retry`
//! says.
//!
//! ```sh
//! BASE=http://127.0.0.1:8080 cargo run --example client
//! ```

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use serde_json::{Value, json};
use uuid::Uuid;

/// After this time, a person or a later job sends the same request again with the same key.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);

struct Answer {
    status: u16,
    body: Value,
    wait: Option<Duration>,
}

/// Carries out one decision once. `decision` is your name for it, for example "pay order 7". A new decision needs a new name.
fn post(decision: &str, path: &str, body: &Value) -> io::Result<Answer> {
    // The folder survives a crash of this process, like your database.
    let keys = PathBuf::from(env::var("KEYS").unwrap_or_else(|_| "keys".to_owned()));
    fs::create_dir_all(&keys)?;
    let note = keys.join(decision.replace(' ', "-"));
    if !note.exists() {
        // Store the key before the first sending, so that a restarted process finds the key.
        fs::write(&note, Uuid::new_v4().to_string())?;
    }
    let (key, started, mut pause) = (fs::read_to_string(&note)?, Instant::now(), Duration::from_millis(200));
    loop {
        let answer = send(path, body, &key);
        match &answer {
            // A success, or a problem whose `retry` is fix, new-key or never: the caller decides what to do.
            Ok(answer) if answer.status != 202 && answer.body["retry"] != "again" => {
                return Ok(Answer { status: answer.status, body: answer.body.clone(), wait: None });
            }
            // No answer, a 202, or a problem with `retry: again`: send the same request with the same key.
            _ if started.elapsed() < GIVE_UP_AFTER => {}
            _ => return Err(io::Error::other(format!("{decision}: outcome unknown; send it again with the same key"))),
        }
        #[expect(clippy::disallowed_methods, reason = "a client that waits has nothing else to do")]
        thread::sleep(answer.ok().and_then(|answer| answer.wait).unwrap_or(pause));
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

/// Sends one request on its own connection. After an error, the client can't know whether the request took effect.
fn send(path: &str, body: &Value, key: &str) -> io::Result<Answer> {
    let base = env::var("BASE").unwrap_or_else(|_| "http://127.0.0.1:8080".to_owned());
    let host = base.trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&host)?;
    stream.set_read_timeout(Some(Duration::from_secs(15)))?;
    let body = body.to_string();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nAuthorization: Bearer sk_demo_acme\r\n\
         Content-Type: application/json\r\nIdempotency-Key: {key}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let broken = || io::Error::other("not an answer");
    let mut lines = BufReader::new(stream);
    let (mut line, mut wait, mut length) = (String::new(), None, 0);
    lines.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(broken)?;
    loop {
        line.clear();
        if lines.read_line(&mut line)? == 0 {
            return Err(broken());
        }
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "retry-after" => wait = value.parse().ok().map(Duration::from_secs),
            "content-length" => length = value.parse().map_err(|_| broken())?,
            _ => {}
        }
    }
    let mut text = vec![0; length];
    lines.read_exact(&mut text)?;
    // A text that is not JSON comes from a proxy, not from the API.
    Ok(Answer { status, body: serde_json::from_slice(&text).unwrap_or(json!({"retry": "again"})), wait })
}

fn main() -> io::Result<()> {
    let run = env::args().nth(1).unwrap_or_else(|| Uuid::new_v4().to_string());
    let order = |name: &str, sku: &str, quantity: i64| {
        let items = json!([{"sku": sku, "quantity": quantity}]);
        post(&format!("{run} order {name}"), "/v1/orders", &json!({"customer": format!("rs-{run}"), "items": items}))
    };
    let pay = |name: &str, order: &Value, card: &str| {
        post(&format!("{run} pay {name}"), "/v1/charges", &json!({"order_id": order["id"], "payment_method": card}))
    };
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let made = order("a", "pro-monthly", 1)?;
    println!("order {} {}", made.status, text(&made.body["status"]));
    let charge = pay("a", &made.body, "pm_card_lost_reply")?;
    println!("lost reply {} {}", charge.status, text(&charge.body["status"]));
    let second = order("b", "pro-monthly", 1)?;
    let declined = pay("b", &second.body, "pm_card_visa_chargeDeclined")?;
    println!("declined {} {} {}", declined.status, text(&declined.body["type"]), text(&declined.body["retry"]));
    // A new decision needs a new key.
    let another = pay("b with another card", &second.body, "pm_card_visa")?;
    println!("another card {} {}", another.status, text(&another.body["status"]));
    let refused = order("c", "sticker", 10_000)?;
    println!("out of stock {} {} {}", refused.status, text(&refused.body["type"]), text(&refused.body["retry"]));
    Ok(())
}
