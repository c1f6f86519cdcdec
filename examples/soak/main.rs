//! The soak loads the real binary while it breaks things, then judges what the clients saw, and checks the books.
//!
//! `cargo run --release --example soak -- --minutes 10`
//!
//! Two replicas of the API and the sandbox gateway run as separate processes on a durable PostgreSQL cluster that this program
//! starts. Clients order, cancel, pay and refund, repeat requests, leave early, read what they made, and follow the feed. At the
//! same time the soak kills and suspends the API and the gateway, stops PostgreSQL in immediate mode, lets it fail over to a
//! standby, and ends sessions. Once in a while it aims at the fence (`aim.rs`). Proxies stand between the replicas and PostgreSQL, and before the gateway: they swallow, hold and cut, at COMMIT too. Then
//! the clients send every key until its reply is final.
//!
//! `payments-history` judges the history of all that by the contract alone, and `books.rs` compares the tables. The soak prints
//! the seed and a table. If there is any difference, it prints a small history that shows it, and the exit code is 1.
//!
//! All processes listen on 127.0.0.1 or on a socket in a private directory. At the end the soak deletes its files. If it found a
//! difference, it keeps the logs and the history.

mod aim;
mod books;
mod client;
mod dice;
mod events;
mod failover;
mod faults;
mod gateway_proxy;
mod history;
mod load;
mod reader;
mod services;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use tokio::time::timeout;

use crate::books::Finding;
use crate::client::Client;
use crate::dice::Seed;
use crate::history::History;
use crate::load::API_KEYS;
use crate::world::World;

/// A failure that ends the soak, which prints one line about it.
pub type Fatal = Box<dyn std::error::Error + Send + Sync>;

/// How long the keys may take to their final replies after the last fault. By then, a charge's longest pause is a minute.
const SETTLE_WITHIN: Duration = Duration::from_secs(300);

#[derive(Parser)]
struct Arguments {
    /// How long the load and the faults last. The retries after the load take extra time
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// The number of clients
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=256))]
    clients: u32,
    /// Seconds between two faults, on average
    #[arg(long, default_value_t = 5.0)]
    fault_every: f64,
    /// Decides what the clients do, and which faults come in which order. By default, random. The same seed does not
    /// give the same history: how requests and faults meet is up to the machine
    #[arg(long)]
    seed: Option<u64>,
    /// Also set the replicas' clocks wrong, by up to four minutes. Needs libfaketime: Debian's package faketime
    #[arg(long)]
    clocks: bool,
    /// Write the history to this file, one JSON object per line
    #[arg(long)]
    history: Option<PathBuf>,
    /// A database for the API instead of the soak's own, for example the coordinator of a Citus cluster. It must be
    /// migrated and empty, with the tables in schema `public`
    #[arg(long, requires = "database_fault")]
    database_url: Option<String>,
    /// With `--database-url`: the shell command that breaks that database and repairs it again
    #[arg(long, requires = "database_url")]
    database_fault: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    stripe_gateway::install_tls();
    match soak(&arguments).await {
        Ok(findings) if findings.iter().all(|finding| finding.differences == 0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::from(2)
        }
    }
}

async fn soak(arguments: &Arguments) -> Result<Vec<Finding>, Fatal> {
    let load_for = Duration::try_from_secs_f64(arguments.minutes * 60.0)?;
    let fault_every = Duration::try_from_secs_f64(arguments.fault_every)?;
    let elsewhere = arguments.database_url.clone().zip(arguments.database_fault.clone());
    let (seed, history) = (Seed(arguments.seed.unwrap_or_else(|| fastrand::u64(..))), Arc::new(History::new()));
    let world = Arc::new(World::start(elsewhere, arguments.clocks, seed, Arc::clone(&history)).await?);
    let client = Arc::new(Client::new(world.replicas(), seed, Arc::clone(&history)));
    world.until_ready().await?;
    load::stock_up(&client).await?;

    println!(
        "{} clients for {:.1} minutes, a fault every {fault_every:?}, --seed {}",
        arguments.clients, arguments.minutes, seed.0
    );
    let started = Instant::now();
    let faults = tokio::spawn(Arc::clone(&world).break_things(started + load_for, fault_every));
    let nobody_writes = Arc::new(AtomicBool::new(false));
    let followers = API_KEYS.map(|api_key| {
        let (client, stop) = (Arc::clone(&client), Arc::clone(&nobody_writes));
        tokio::spawn(async move { reader::follow(&client, api_key, &stop).await })
    });
    load::run(&client, arguments.clients, started + load_for).await;
    faults.await??;
    let loaded = started.elapsed();

    println!("no more faults; sending every key until its reply is final");
    world.until_ready().await?;
    let unfinished = timeout(SETTLE_WITHIN, load::finish(&client)).await;
    timeout(SETTLE_WITHIN, world.until_resolved()).await.ok();
    let mut findings = vec![
        client.unexpected(),
        Finding::new("keys without a final reply", unfinished.unwrap_or(1)),
        Finding::new(events::REFUSED, world.counters.of(events::REFUSED)),
    ];
    nobody_writes.store(true, Ordering::Relaxed);
    for follower in followers {
        follower.await??;
    }
    reader::read_all(&client).await?;
    findings.extend(books::check(&world, &client.outcomes())?);
    findings.extend(judge(arguments, &world, &history)?);

    report(&client, &world, loaded, started.elapsed(), &findings);
    let clean = findings.iter().all(|finding| finding.differences == 0);
    if !clean {
        println!("To run it again: --seed {}", seed.0);
    }
    world.end(clean).await?;
    Ok(findings)
}

/// Judges the history by the contract. Prints a small history for each rule that is broken.
fn judge(arguments: &Arguments, world: &World, history: &History) -> Result<Vec<Finding>, Fatal> {
    books::read_gateway(world, history)?;
    let lines = history.lines();
    let violations = payments_history::check(&lines);
    print!("\n{}", payments_history::report(&lines, &violations));
    let kept = world.logs.join("history.jsonl");
    if let Some(path) = arguments.history.as_ref().or((!violations.is_empty()).then_some(&kept)) {
        let file = std::io::BufWriter::new(std::fs::File::create(path)?);
        payments_history::write(&lines, file)?;
        println!("The history is in {}.", path.display());
    }
    let count = |rule| violations.iter().filter(|violation| violation.rule == rule).count();
    let rules = payments_history::RULES.iter();
    Ok(rules.map(|rule| Finding::new(rule.name, count(rule.name) as u64)).collect())
}

fn report(client: &Client, world: &World, loaded: Duration, whole: Duration, findings: &[Finding]) {
    let title = |title: &str| println!("\n{title}\n{}", "-".repeat(96));
    let row = |name: &str, value: &str| println!("{name:<84}{value:>12}");
    title("Done");
    row("seconds of load (in all)", &format!("{} ({})", loaded.as_secs(), whole.as_secs()));
    for (name, count) in client.done() {
        row(&name, &count.to_string());
    }
    title("Answers");
    for (answer, count) in client.answers() {
        row(&answer, &count.to_string());
    }
    title("Injected");
    for (fault, count) in world.counters.all().into_iter().chain(client.injected()) {
        row(fault, &count.to_string());
    }
    title("Found");
    for finding in findings {
        row(finding.what, &if finding.differences == 0 { "none".to_owned() } else { finding.differences.to_string() });
    }
    let clean = findings.iter().all(|finding| finding.differences == 0);
    println!("\n{}", if clean { "No differences." } else { "DIFFERENCES: see above." });
}
