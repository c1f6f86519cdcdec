//! `payments serve` and `payments sandbox-gateway`: the commands that run until a signal ends them.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::commands::args::Settings;
use crate::db::{Db, NOBODY, migrate};
use crate::demo;
use crate::http::ApiError;
use crate::http::auth::{self, KnownKeys};
use crate::process::shutdown::end_when_told;
use crate::server::{self, State};
use crate::shop::payments::{Payments, Resolver};
use actix_web::rt;
use stripe_gateway::Gateway;
use stripe_gateway::webhook::Secrets;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Fatal;
use super::database::{Database, connect};
use super::gateway::{InUse, remember_mode, sandbox_config};
use super::say;
use super::silence::Watch;
use idempotency::Database as _;

/// The sweeper's rest, as a multiple of the time its last batch took, so that it uses at most a tenth of one
/// connection.
const RESTS_TIMES: u32 = 9;

/// Serves the API, and keeps the local cluster alive.
pub fn serve(settings: &Settings, database: &Database, listener: TcpListener, start: Watch) -> Result<(), Fatal> {
    let (end, until) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || database.keep_alive(&until));
        let outcome = serve_until_told(settings, database, listener, start);
        drop(end);
        outcome
    })
}

fn serve_until_told(
    settings: &Settings,
    database: &Database,
    listener: TcpListener,
    start: Watch,
) -> Result<(), Fatal> {
    let url = &database.url;
    let address = listener.local_addr()?;
    let applied = migrate(url)?;
    log::info!("{} migrations applied", applied.len());
    if settings.seeds_demo() {
        demo::seed(&mut connect(url)?).map_err(|error| format!("can't seed the demo: {error}"))?;
    } else {
        refuse_demo_keys(url)?;
    }
    let server_url = own_url(address);
    let mut webhook_secrets = settings.webhook_secrets.clone();
    let (in_use, sandbox) = if let Some(in_use) = InUse::of(settings) {
        (in_use, None)
    } else {
        // Only this process and its sandbox know the secret.
        let secret = format!("whsec_{}", Uuid::new_v4().simple());
        webhook_secrets = Secrets::parse(&secret)?;
        let webhook = sandbox_gateway::Webhook { url: format!("{server_url}/webhooks/stripe"), secret };
        let sandbox = sandbox_gateway::start(sandbox_config(settings, url, Some(webhook)))?;
        (InUse::sandbox(format!("http://{}", sandbox.addr)), Some(sandbox))
    };
    remember_mode(&mut connect(url)?, in_use.mode())?;
    let gateway: Arc<dyn Gateway> = Arc::new(in_use.client()?);
    let has_stage = settings.seeds_demo() && can_make_the_stage(url);
    let db = Db::start(url, settings.db_pool_size)?;
    // From now on the pool ends each wait.
    drop(start);
    let banner = banner(address, settings, database, sandbox.as_ref().map(|sandbox| sandbox.addr));
    rt::System::new().block_on(async move {
        // The sandbox outlives the API, because external calls still in flight at the end need it.
        let sandbox = sandbox.map(|sandbox| {
            rt::spawn(sandbox.server);
            sandbox.handle
        });
        let resolver = Resolver::new(Payments(gateway), db.clone());
        let draining = CancellationToken::new();
        let demo_stage = if has_stage {
            Some(demo::stage(server_url, url, &in_use.url, &in_use.key, draining.clone())?)
        } else {
            None
        };
        let state = State {
            db: db.clone(),
            known_keys: KnownKeys::default(),
            resolver: resolver.clone(),
            cors_origins: settings.origins(),
            keep_alive: settings.keep_alive,
            draining: draining.clone(),
            demo: settings.seeds_demo(),
            webhook_secrets,
        };
        let more = demo_stage.as_ref().map(demo::endpoints).unwrap_or_default();
        let server = server::serve(listener, state, more)?;
        // This server leaves what a run's replicas resolve to them.
        let is_mine = move |reference: &str| demo_stage.as_ref().is_none_or(|stage| !stage.plays(reference));
        let cut = end_when_told(server.handle(), draining, settings.shutdown_delay);
        let background = [
            rt::spawn(sweeper(db.clone(), settings.sweep_interval)),
            rt::spawn(resolver.clone().run_in_background_for(is_mine)),
        ];
        // The server runs even if nobody can read the banner.
        let _ = writeln!(std::io::stdout(), "{banner}");
        tokio::select! {
            ended = server => ended?,
            cut = cut => cut?,
        }
        log::info!("no more requests; finishing the calls to the gateway");
        for task in &background {
            task.abort();
        }
        resolver.shutdown().await;
        if let Some(sandbox) = sandbox {
            sandbox.stop(false).await;
        }
        rt::task::spawn_blocking(move || db.pool().close()).await?;
        Ok(())
    })
}

/// A role that may not create a schema still gets the demo, without its stage.
fn can_make_the_stage(url: &str) -> bool {
    let made = connect(url).and_then(|mut conn| Ok(demo::prepare(&mut conn)?));
    if let Err(error) = &made {
        log::warn!("the demo has no stage, because its tables can't be made: {error}");
    }
    made.is_ok()
}

/// A database that served a demo must not serve other clients while everybody knows some of its live API keys.
fn refuse_demo_keys(url: &str) -> Result<(), Fatal> {
    let conn = &mut connect(url)?;
    let mut live = Vec::new();
    for (_, key) in demo::keys() {
        if auth::is_live(conn, key)? {
            live.push(format!("`payments key revoke {key}`"));
        }
    }
    if live.is_empty() {
        return Ok(());
    }
    let revoke = live.join(" and ");
    Err(format!(
        "the demo's API keys are live in this database, and everybody knows them: run {revoke}, or set DEMO=true"
    )
    .into())
}

/// The URL by which this process reaches its own server, which may listen on all addresses.
fn own_url(api: SocketAddr) -> String {
    if api.ip().is_unspecified() { format!("http://127.0.0.1:{}", api.port()) } else { format!("http://{api}") }
}

pub fn sandbox_gateway(settings: &Settings, url: &str) -> Result<(), Fatal> {
    let webhook = settings.sandbox_webhook_url.clone().zip(settings.webhook_secrets.first());
    let webhook = webhook.map(|(url, secret)| sandbox_gateway::Webhook { url, secret: secret.to_owned() });
    let sandbox = sandbox_gateway::start(sandbox_config(settings, url, webhook))?;
    say(format_args!("the sandbox gateway listens on http://{}", sandbox.addr))?;
    rt::System::new().block_on(async move {
        tokio::select! {
            ended = sandbox.server => ended?,
            cut = end_when_told(sandbox.handle, CancellationToken::new(), Duration::ZERO) => cut?,
        }
        Ok(())
    })
}

/// Deletes expired records for as long as the process lives. Every replica has a sweeper.
async fn sweeper(db: Db, interval: Duration) {
    loop {
        rt::time::sleep(interval).await;
        loop {
            let started = Instant::now();
            match db.run(NOBODY, |conn| idempotency::sweep(conn).map_err(ApiError::from)).await {
                Ok(swept) if swept.more => rt::time::sleep(started.elapsed() * RESTS_TIMES).await,
                Ok(_) => break,
                Err(error) => {
                    log::warn!("the sweep failed; the sweeper tries again later: {error}");
                    break;
                }
            }
        }
    }
}

/// The text for a person at a terminal. Programs read the first line too.
fn banner(address: SocketAddr, settings: &Settings, database: &Database, sandbox: Option<SocketAddr>) -> String {
    let mut text = format!("payments listens on http://{address}\n");
    let mut row = |name: &str, value: &str| {
        // Writing to a string can't fail.
        let _ = writeln!(text, "  {name:<16} {value}");
    };
    row("page", &format!("http://{address}/"));
    row("documentation", &format!("http://{address}/docs"));
    if let Some(sandbox) = sandbox {
        row("gateway's books", &format!("curl http://{sandbox}/v1/payment_intents -u sk_test_sandbox:"));
    }
    if settings.seeds_demo() {
        let keys = demo::keys().map(|(name, key)| format!("{key} ({name})"));
        row("API keys", &keys.join(", "));
    }
    match &database.cluster {
        Some(cluster) => {
            row("data", &format!("{} (`payments reset` empties it)", cluster.dir().display()));
            row("stop", "Ctrl-C; the data stays");
        }
        None => row("stop", "SIGTERM lets requests end first, Ctrl-C cuts them"),
    }
    if settings.seeds_demo() {
        let _ = write!(
            text,
            "\nTry it: send this request twice. The second answer repeats the first, and there is one order.\n  \
             curl -i http://{address}/v1/orders -H 'Authorization: Bearer sk_demo_acme' -H 'Content-Type: application/json' \\\n    \
             -H \"Idempotency-Key: order-$$\" -d '{{\"customer\":\"ada\",\"items\":[{{\"sku\":\"pro-monthly\",\"quantity\":1}}]}}'\n"
        );
    }
    text
}
