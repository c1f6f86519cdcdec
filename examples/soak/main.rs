//! The soak: a mixed load on the real binary while processes are killed under it, and then the books are checked.
//!
//! `cargo run --release --example soak -- --minutes 10`
//!
//! Two replicas of the API and the sandbox gateway run as processes of their own over a durable PostgreSQL cluster of this
//! program's own. While clients order, cancel, pay, refund, repeat themselves and lose patience, the API and the gateway are
//! killed with SIGKILL, PostgreSQL is stopped in immediate mode, and the gateway loses replies. Then every key is sent until
//! its reply is final, and the books must agree. Ends with a table, and with 1 where there is any difference.
//!
//! Everything listens on 127.0.0.1 or on a socket in a private directory, and is deleted at the end; where something was
//! found, the logs are kept.

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

/// A failure that ends the soak with its one line.
pub type Fatal = Box<dyn std::error::Error + Send + Sync>;

/// How long every key may take to its end once nothing is broken any more. A charge's longest pause by then is a minute.
const SETTLE_WITHIN: Duration = Duration::from_secs(300);

#[derive(Parser)]
struct Arguments {
    /// How long the load and the faults last; retrying to the end comes on top
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Clients at once
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=256))]
    clients: u32,
    /// Seconds between two faults, on average
    #[arg(long, default_value_t = 5.0)]
    fault_every: f64,
    /// The API's database, where it is not to be one of the soak's own cluster: migrated, empty, with the tables in schema
    /// `public`. For example the coordinator of a Citus cluster
    #[arg(long, requires = "database_fault")]
    database_url: Option<String>,
    /// With `--database-url`: the shell command that breaks that database and mends it again
    #[arg(long, requires = "database_url")]
    database_fault: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
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

    println!("all is whole again; sending every key until its reply is final");
    world.until_ready().await?;
    let unfinished = timeout(SETTLE_WITHIN, load::finish(&client)).await;
    timeout(SETTLE_WITHIN, world.until_settled()).await.ok();
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
