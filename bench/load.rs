//! A load program. It prints throughput and latencies as one line of JSON.
//!
//! The program loads in one of two ways. In the closed loop (no `--rate`), each connection sends its next request after
//! the last answer, so the server sets the pace: this measures throughput. In the open loop (`--rate`), requests are
//! due at fixed times, even if earlier ones are not answered yet, and a latency counts from the time at which the
//! request was due. If a request waits behind a slow one, its latency includes the wait (no coordinated omission).
//!
//! The program sends to 127.0.0.1 only, for `--seconds` at most.
//!
//! ```sh
//! cargo run --release --example load -- orders --port 8080 --connections 32 --seconds 5
//! cargo run --release --example load -- orders --port 8080 --connections 128 --seconds 5 --rate 1000
//! ```

mod client;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::error::Error;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use serde_json::json;
use tokio::sync::{Mutex, mpsc};
use tokio::task::LocalSet;

use self::client::{Client, ORDER, charge, fresh, get, post};

#[derive(Parser)]
struct Options {
    /// The requests to send
    work: Work,
    #[arg(long, default_value_t = 8080)]
    port: u16,
    #[arg(long, default_value_t = 32)]
    connections: usize,
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Requests per second, due at fixed times. Without a rate, each connection sends its next request after the last
    /// answer
    #[arg(long)]
    rate: Option<f64>,
    /// Orders to create before the load begins, one for each charge. When none is left, the load ends
    #[arg(long, default_value_t = 0)]
    orders: usize,
    /// The prefix of the replays' keys. A second run with the same prefix creates nothing
    #[arg(long, default_value_t = fresh())]
    keys: String,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Work {
    /// Orders of two items, each with a fresh key
    Orders,
    /// The same orders without a key (the server needs the feature `bench`)
    Keyless,
    /// Replays: each connection creates one order, and sends its request again and again
    Replays,
    /// Charges, each for an order that was created before the load
    Charges,
    /// Reads of one order
    Reads,
    /// One slow charge, sent once by each connection with the same key
    Storm,
}

/// The data that all connections of a run share.
struct Run {
    work: Work,
    deadline: Instant,
    /// The times at which the open loop's requests are due.
    due: Option<Mutex<mpsc::UnboundedReceiver<Instant>>>,
    /// The order that all connections read or charge.
    order: String,
    key: String,
    /// Orders without a charge.
    orders: RefCell<Vec<String>>,
}

/// The statuses and latencies of the answers.
#[derive(Default)]
struct Seen {
    statuses: BTreeMap<u16, u64>,
    micros: Vec<u32>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    LocalSet::new().run_until(measure(options)).await
}

async fn measure(options: Options) -> Result<(), Box<dyn Error>> {
    let mut clients = Vec::new();
    for number in 0..options.connections {
        let mut client = Client::connect(options.port).await?;
        // Each connection replays its own key. Concurrent duplicates of one key would share one look at the record.
        let key = format!("{}-{number}", options.keys);
        if options.work == Work::Replays {
            client.order(&key).await?;
        }
        clients.push((client, key));
    }
    let order = match options.work {
        Work::Reads | Work::Storm => clients[0].0.order(&fresh()).await?,
        _ => String::new(),
    };
    let orders = RefCell::new(make_orders(&options).await?);
    let started = Instant::now();
    let due = options.rate.map(|rate| Mutex::new(clock(rate, options.seconds)));
    let deadline = started + Duration::from_secs_f64(options.seconds);
    let run = Rc::new(Run { work: options.work, deadline, due, order, key: fresh(), orders });
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|(client, key)| tokio::task::spawn_local(connection(Rc::clone(&run), client, key)))
        .collect();
    let mut seen = Seen::default();
    for task in tasks {
        let part = task.await??;
        seen.micros.extend(part.micros);
        for (status, count) in part.statuses {
            *seen.statuses.entry(status).or_default() += count;
        }
    }
    println!("{}", summary(seen, started.elapsed())?);
    Ok(())
}

fn summary(mut seen: Seen, took: Duration) -> Result<serde_json::Value, Box<dyn Error>> {
    seen.micros.sort_unstable();
    let permille = |p: usize| seen.micros.get(seen.micros.len() * p / 1000).map(|micros| f64::from(*micros) / 1000.0);
    let statuses: BTreeMap<_, _> = seen.statuses.iter().map(|(status, count)| (status.to_string(), *count)).collect();
    Ok(json!({
        "per_second": f64::from(u32::try_from(seen.micros.len())?) / took.as_secs_f64(),
        "p50_ms": permille(500),
        "p99_ms": permille(990),
        "p999_ms": permille(999),
        "statuses": statuses,
    }))
}

/// Creates the orders that the charges will pay, on as many connections as the load has.
async fn make_orders(options: &Options) -> Result<Vec<String>, Box<dyn Error>> {
    let tasks: Vec<_> = (0..options.connections)
        .map(|number| {
            let share = (options.orders + number) / options.connections;
            let port = options.port;
            tokio::task::spawn_local(async move {
                let mut client = Client::connect(port).await?;
                let mut orders = Vec::with_capacity(share);
                for _ in 0..share {
                    orders.push(client.order(&fresh()).await?);
                }
                Ok::<_, std::io::Error>(orders)
            })
        })
        .collect();
    let mut orders = Vec::with_capacity(options.orders);
    for task in tasks {
        orders.extend(task.await??);
    }
    Ok(orders)
}

/// Sends the time at which each request is due. It is a thread because tokio's timer is only exact to a millisecond.
#[expect(clippy::disallowed_methods, reason = "the thread has nothing else to do")]
fn clock(rate: f64, seconds: f64) -> mpsc::UnboundedReceiver<Instant> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let (started, between) = (Instant::now(), Duration::from_secs_f64(1.0 / rate));
    let end = started + Duration::from_secs_f64(seconds);
    std::thread::spawn(move || {
        let mut due = started;
        while due < end {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if sender.send(due).is_err() {
                break;
            }
            due += between;
        }
    });
    receiver
}

async fn connection(run: Rc<Run>, mut client: Client, key: String) -> std::io::Result<Seen> {
    let mut seen = Seen::default();
    while let Some(due) = run.next_due().await {
        let Some(request) = run.request(&key) else { break };
        let (status, _) = client.send(&request).await?;
        *seen.statuses.entry(status).or_default() += 1;
        seen.micros.push(u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX));
        if run.work == Work::Storm {
            break;
        }
    }
    Ok(seen)
}

impl Run {
    /// Waits until the next request is due, and returns that time. In the open loop that time may be past, in the
    /// closed loop it is now. None at the end of the run.
    async fn next_due(&self) -> Option<Instant> {
        match &self.due {
            Some(due) => due.lock().await.recv().await,
            None => Some(Instant::now()).filter(|now| *now < self.deadline),
        }
    }

    /// The next request. None if no order is left to charge.
    fn request(&self, own_key: &str) -> Option<String> {
        Some(match self.work {
            Work::Orders => post("/v1/orders", Some(&fresh()), ORDER),
            Work::Keyless => post("/v1/bench/orders", None, ORDER),
            Work::Replays => post("/v1/orders", Some(own_key), ORDER),
            Work::Charges => {
                let order = self.orders.borrow_mut().pop()?;
                post("/v1/charges", Some(&fresh()), &charge(&order, "pm_card_visa"))
            }
            Work::Storm => post("/v1/charges", Some(&self.key), &charge(&self.order, "pm_card_slow")),
            Work::Reads => get(&format!("/v1/orders/{}", self.order)),
        })
    }
}
