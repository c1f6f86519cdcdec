//! `hostile-proxy` tests clients of an API with idempotency keys. It stands between the client and the API, breaks answers in
//! every way that networks and gateways do, and then asks the API how often each decision took effect.

mod answer;
mod api;
mod client;
mod crash;
mod http;
mod proxy;
mod run;
mod table;

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Parser, Subcommand};

use crate::api::Api;
use crate::client::Program;
use crate::proxy::Proxy;

/// Tests a client of an API with idempotency keys.
///
/// The proxy stands between the client and the API. It loses, cuts, doubles, delays and replaces answers, and then asks the API
/// itself how often each decision took effect.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "\
A client takes part as a program. It reads one JSON object a line from its standard input,
  {\"decision\": \"order 7\", \"path\": \"/v1/orders\", \"body\": {..}}
carries the decision out against the URL in BASE with the API key in API_KEY, and answers each with one line:
  {\"outcome\": \"done\" | \"no\" | \"unknown\", \"key\": \"..\", \"status\": 201, \"body\": {..}}
It keeps three limits: ANSWER_SECONDS for one answer, PAUSE_SECONDS between two sendings whatever Retry-After says, and
DEADLINE_SECONDS for one decision. The same decision given again, also to another process, goes on with the same key.

  hostile-proxy run --api http://127.0.0.1:8080 --tries 250 --kills -- python3 client.py
  hostile-proxy serve --api http://127.0.0.1:8080 --case json-502 --listen 127.0.0.1:9000"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a client through the cases, and count the effects
    Run(Run),
    /// Stand in front of the API with one case, for clients that can't be run like that: each new key meets the case
    /// once
    Serve(Serve),
    /// Print the cases
    List(Table),
}

#[derive(Args, Debug)]
struct Table {
    /// Only the case with this name; can be repeated
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
    /// A table of cases to use instead of the built-in one, as a JSON file
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct Target {
    /// The API
    #[arg(long = "api", env = "API_URL", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: String,
}

impl Target {
    fn address(&self) -> Result<SocketAddr> {
        let name = self.url.strip_prefix("http://").context("--api must begin with http://")?.trim_end_matches('/');
        let name = if name.contains(':') { name.to_owned() } else { format!("{name}:80") };
        let address = name.to_socket_addrs().ok().and_then(|mut all| all.next());
        address.with_context(|| format!("--api: can't find {name}"))
    }
}

#[derive(Args, Debug)]
struct Run {
    #[command(flatten)]
    target: Target,
    /// A key of a test account, in which products, orders, charges and refunds are created
    #[arg(long, env = "API_KEY", value_name = "KEY", default_value = "sk_demo_acme", hide_env_values = true)]
    api_key: String,
    #[command(flatten)]
    table: Table,
    /// Also give this many decisions to two processes at once
    #[arg(long, value_name = "N", default_value_t = 0)]
    tries: usize,
    /// Also kill the client at many points, and run each decision again
    #[arg(long)]
    kills: bool,
    /// No cases: only --tries and --kills
    #[arg(long, conflicts_with_all = ["cases", "table"])]
    no_cases: bool,
    /// The client and its arguments
    #[arg(last = true, required = true)]
    client: Vec<String>,
}

#[derive(Args, Debug)]
struct Serve {
    #[command(flatten)]
    target: Target,
    /// The case
    #[arg(long, value_name = "NAME")]
    case: String,
    /// A table of cases to use instead of the built-in one, as a JSON file
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// Where the proxy listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// Seconds between two releases of the requests that a case holds back
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    release: u64,
}

impl Table {
    fn read(&self) -> Result<Vec<table::Case>> {
        let text = match &self.table {
            Some(file) => std::fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?,
            None => table::TABLE.to_owned(),
        };
        table::read(&text, &self.cases)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(command) => run_all(&command).await,
        Command::Serve(command) => serve(command).await,
        Command::List(table) => list(&table),
    };
    let Err(error) = done else { return ExitCode::SUCCESS };
    // One line that a person can act on, without a stack trace.
    eprintln!("hostile-proxy: {error:#}");
    ExitCode::FAILURE
}

fn list(table: &Table) -> Result<()> {
    for case in table.read()? {
        println!("{:28} {}", case.name, case.what);
    }
    Ok(())
}

async fn run_all(command: &Run) -> Result<()> {
    let api = Api { address: command.target.address()?, key: command.api_key.clone() };
    let (proxy, base) = Proxy::start(api.address, SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let program = Program { command: command.client.clone(), base, api_key: api.key.clone() };
    let cases = if command.no_cases { Vec::new() } else { command.table.read()? };
    let (mut client, mut failed, started) = (program.start()?, 0, Instant::now());
    for case in &cases {
        let case_started = Instant::now();
        if let Err(error) = run::case(&proxy, &api, &mut client, case).await {
            failed += 1;
            println!("FAILED {:28} {error:#}\n       {}", case.name, case.what);
            // Its connections and its input may be in any state.
            client.kill().await?;
            client = program.start()?;
        } else {
            println!("ok     {:28} {:.1}s", case.name, case_started.elapsed().as_secs_f32());
        }
    }
    if command.tries > 0 {
        crash::race(&proxy, &api, &program, command.tries).await.context("two processes with one decision")?;
        println!("ok     {} tries of two processes with one decision: one effect each", command.tries);
    }
    if command.kills {
        crash::kills(&proxy, &api, &program).await.context("kill -9")?;
        println!("ok     kill -9 and a second run: one effect each");
    }
    let seconds = started.elapsed().as_secs();
    if failed > 0 {
        bail!("{failed} of {} cases failed ({seconds}s)", cases.len());
    }
    println!("passed in {seconds}s: {}", command.client.join(" "));
    Ok(())
}

async fn serve(command: Serve) -> Result<()> {
    let table = Table { cases: vec![command.case], table: command.table };
    let case = table.read()?.pop().context("no such case")?;
    let (proxy, base) = Proxy::start(command.target.address()?, command.listen).await?;
    proxy.plan(&case.sendings);
    println!("{} on http://{base}: {}", case.name, case.what);
    proxy.release_every(std::time::Duration::from_secs(command.release)).await
}
