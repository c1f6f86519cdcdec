//! The soak loads the real binary while it kills processes, and then checks the books.
//!
//! `cargo run --release --example soak -- --minutes 10`
//!
//! Two replicas of the API and the sandbox gateway run as separate processes on a durable PostgreSQL cluster that this program
//! starts. Clients order, cancel, pay and refund, repeat requests and leave early. At the same time the soak kills the API and
//! the gateway with SIGKILL and stops PostgreSQL in immediate mode, and the gateway loses replies. Then the clients send every
//! key until its reply is final, and the books must agree. The soak prints a table. If there is any difference, the exit code
//! is 1.
//!
//! All processes listen on 127.0.0.1 or on a socket in a private directory. At the end the soak deletes its files. If it found a
//! difference, it keeps the logs.

mod books;
mod client;
mod load;
mod world;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use tokio::time::timeout;

use crate::books::Finding;
use crate::client::Client;
use crate::world::World;

/// A failure that ends the soak. The soak prints one line about the failure.
pub type Fatal = Box<dyn std::error::Error + Send + Sync>;

/// How long the keys may take to their final replies after the last fault. By then, a charge's longest pause is a minute.
const SETTLE_WITHIN: Duration = Duration::from_secs(300);

#[derive(Parser)]
struct Arguments {
    /// How long the load and the faults last. The retries after the load take additional time
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// The number of clients
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=256))]
    clients: u32,
    /// Seconds between two faults, on average
    #[arg(long, default_value_t = 5.0)]
    fault_every: f64,
    /// Another database for the API than the soak's own, for example the coordinator of a Citus cluster. It must be migrated
    /// and empty, with the tables in schema `public`
    #[arg(long, requires = "database_fault")]
    database_url: Option<String>,
    /// With `--database-url`: the shell command that breaks that database and repairs it again
    #[arg(long, requires = "database_url")]
    database_fault: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    idempotent_payments::gateway::install_tls();
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
    let world = Arc::new(World::start(elsewhere).await?);
    let client = Arc::new(Client::new(world.replicas()));
    world.until_ready().await?;
    load::stock_up(&client).await?;

    println!("{} clients for {:.1} minutes, a fault every {fault_every:?}", arguments.clients, arguments.minutes);
    let started = Instant::now();
    let faults = tokio::spawn(Arc::clone(&world).break_things(started + load_for, fault_every));
    load::run(&client, arguments.clients, started + load_for).await;
    faults.await??;
    let loaded = started.elapsed();

    println!("no more faults; sending every key until its reply is final");
    world.until_ready().await?;
    let unfinished = timeout(SETTLE_WITHIN, load::finish(&client)).await;
    timeout(SETTLE_WITHIN, world.until_resolved()).await.ok();
    let mut findings = client.findings();
    findings.push(Finding::new("keys without a final reply", unfinished.unwrap_or(1)));
    findings.extend(books::check(&world, &client.outcomes())?);

    report(&client, &world, loaded, started.elapsed(), &findings);
    let clean = findings.iter().all(|finding| finding.differences == 0);
    world.end(clean).await?;
    Ok(findings)
}

fn report(client: &Client, world: &World, loaded: Duration, whole: Duration, findings: &[Finding]) {
    let title = |title: &str| println!("\n{title}\n{}", "-".repeat(60));
    let row = |name: &str, value: &str| println!("{name:<48}{value:>12}");
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
    for (fault, count) in world.injected().into_iter().chain(client.injected()) {
        row(fault, &count.to_string());
    }
    title("Found");
    for finding in findings {
        row(finding.what, &if finding.differences == 0 { "none".to_owned() } else { finding.differences.to_string() });
    }
    let clean = findings.iter().all(|finding| finding.differences == 0);
    println!("\n{}", if clean { "No differences." } else { "DIFFERENCES: see above." });
}
