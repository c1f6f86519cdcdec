//! The command line: makes or finds the database, brings it up to date, and serves.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::rt;

use diesel::connection::{Connection, SimpleConnection};
use diesel::pg::PgConnection;
use idempotent_payments::auth::{KnownKeys, create_account};
use idempotent_payments::config::{AccountAction, Action, Command, Settings};
use idempotent_payments::db::{Db, NOBODY, migrate};
use idempotent_payments::dev_postgres::{self, Cluster, Options};
use idempotent_payments::error::ApiError;
use idempotent_payments::gateway::{Gateway, HttpGateway};
use idempotent_payments::http::{self, State};
use idempotent_payments::pages::Books;
use idempotent_payments::payments::{Payments, Settler};
use idempotent_payments::{demo, idempotency, openapi, sandbox};

/// Connections of the sandbox gateway: a call holds one for some milliseconds, so four serve a demo with room to spare.
const SANDBOX_POOL_SIZE: u32 = 4;

/// How many times as long as a batch took the sweeper rests before the next: so it uses at most a tenth of one connection.
const RESTS_TIMES: u32 = 9;

/// A failure that ends the process with its one line.
type Fatal = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let command = match Command::read() {
        Ok(command) => command,
        Err(code) => return code,
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("payments: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Fatal> {
    let settings = command.settings;
    let action = command.action.unwrap_or(Action::Serve);
    // Needs nothing but the code.
    if matches!(action, Action::Openapi) {
        return print_openapi();
    }
    // Before anything is started: a port that is taken ends here.
    let listener = match action {
        Action::Serve => Some(listen(settings.bind)?),
        _ => None,
    };
    let database = Database::of(&settings)?;
    let outcome = match (action, listener) {
        (Action::Serve, Some(listener)) => serve(&settings, &database.url, listener),
        (Action::Serve | Action::Migrate, _) => apply_migrations(&database.url),
        (Action::Account(AccountAction::Create { name }), _) => account_create(&database.url, &name),
        (Action::SandboxGateway, _) => sandbox_gateway(&settings, &database.url),
        (Action::Sweep, _) => sweep(&database.url),
        (Action::Settle, _) => settle(&settings, &database.url),
        (Action::Openapi, _) => print_openapi(),
    };
    database.leave();
    outcome
}

fn listen(bind: SocketAddr) -> Result<TcpListener, Fatal> {
    TcpListener::bind(bind)
        .map_err(|error| format!("can't listen on BIND={bind}: {error} (is it running already?)").into())
}

/// The database in use, and the local cluster if it is ours.
struct Database {
    url: String,
    cluster: Option<Cluster>,
}

impl Database {
    fn of(settings: &Settings) -> Result<Self, Fatal> {
        if let Some(url) = settings.database_url.clone() {
            return Ok(Self { url, cluster: None });
        }
        let cluster = dev_postgres::start(&Options::kept()?)?;
        cluster.create_database("payments")?;
        Ok(Self { url: cluster.url("payments"), cluster: Some(cluster) })
    }

    /// Stops the local cluster if this process started it. Its data stays.
    fn leave(self) {
        if let Some(cluster) = self.cluster {
            cluster.stop();
        }
    }
}

fn print_openapi() -> Result<(), Fatal> {
    Ok(writeln!(std::io::stdout(), "{:#}", openapi::document())?)
}

fn apply_migrations(url: &str) -> Result<(), Fatal> {
    let done = migrate(url)?;
    println!("{} migrations applied", done.len());
    for name in done {
        println!("  {name}");
    }
    Ok(())
}

fn connect(url: &str) -> Result<PgConnection, Fatal> {
    let mut conn = PgConnection::establish(url)?;
    conn.batch_execute(idempotency::CONNECTION_LIMITS)?;
    Ok(conn)
}

fn account_create(url: &str, name: &str) -> Result<(), Fatal> {
    migrate(url)?;
    let (id, key) = create_account(&mut connect(url)?, name)?;
    println!("account {id}\nAPI key {key}\nThe key is shown only now: keep it.");
    Ok(())
}

fn sweep(url: &str) -> Result<(), Fatal> {
    let mut conn = connect(url)?;
    let mut deleted = 0;
    loop {
        let swept = idempotency::sweep(&mut conn)?;
        deleted += swept.deleted;
        if !swept.more {
            println!("{deleted} expired records deleted");
            return Ok(());
        }
    }
}

fn serve(settings: &Settings, url: &str, listener: TcpListener) -> Result<(), Fatal> {
    let applied = migrate(url)?;
    log::info!("{} migrations applied", applied.len());
    if settings.seeds_demo() {
        demo::seed(&mut connect(url)?).map_err(|error| format!("can't seed the demo: {error}"))?;
    }
    let sandbox = match settings.gateway_url {
        Some(_) => None,
        None => Some(sandbox::start(sandbox_config(settings, url))?),
    };
    let gateway_url = match (&settings.gateway_url, &sandbox) {
        (Some(url), _) => url.clone(),
        (None, sandbox) => format!("http://{}", sandbox.as_ref().map_or(settings.sandbox_bind, |sandbox| sandbox.addr)),
    };
    let gateway: Arc<dyn Gateway> = Arc::new(HttpGateway::new(&gateway_url)?);
    let demo = settings.seeds_demo().then(|| Books::of(&gateway_url)).transpose()?;
    let db = Db::start(url, settings.db_pool_size)?;
    let banner = banner(listener.local_addr()?, settings.seeds_demo());
    let interval = settings.sweep_interval;
    rt::System::new().block_on(async move {
        // The sandbox outlives the API: work under way at the end still calls it.
        let sandbox = sandbox.map(|sandbox| (rt::spawn(sandbox.server), sandbox.handle));
        let settler = Settler::new(Payments(gateway), db.clone());
        let state = State { db: db.clone(), known_keys: KnownKeys::default(), settler: settler.clone(), demo };
        let server = http::serve(listener, state)?;
        let background = [rt::spawn(sweeper(db.clone(), interval)), rt::spawn(settler.clone().watch())];
        // Nobody may be reading: a banner is not worth ending for.
        let _ = writeln!(std::io::stdout(), "{banner}");
        server.await?;
        log::info!("no more requests; ending the work under way");
        for task in &background {
            task.abort();
        }
        settler.drain().await;
        if let Some((_, handle)) = sandbox {
            handle.stop(false).await;
        }
        rt::task::spawn_blocking(move || db.close()).await?;
        Ok(())
    })
}

fn sandbox_config(settings: &Settings, url: &str) -> sandbox::Config {
    sandbox::Config {
        database_url: url.to_owned(),
        bind: settings.sandbox_bind,
        key_ttl: settings.sandbox_key_ttl,
        pool_size: SANDBOX_POOL_SIZE,
    }
}

fn sandbox_gateway(settings: &Settings, url: &str) -> Result<(), Fatal> {
    let sandbox = sandbox::start(sandbox_config(settings, url))?;
    println!("the sandbox gateway listens on http://{}", sandbox.addr);
    rt::System::new().block_on(async move {
        let handle = sandbox.handle;
        rt::spawn(async move {
            shutdown_signal().await;
            handle.stop(true).await;
        });
        Ok(sandbox.server.await?)
    })
}

async fn shutdown_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        },
        // Without the handler the signal ends the process by itself.
        Err(_) => std::future::pending().await,
    }
}

/// Settles once, and resumes what is parked. A sandbox that runs beside a server is used; else one is started.
fn settle(settings: &Settings, url: &str) -> Result<(), Fatal> {
    migrate(url)?;
    rt::System::new().block_on(async move {
        let gateway_url = if let Some(url) = &settings.gateway_url {
            url.clone()
        } else {
            match sandbox::start(sandbox_config(settings, url)) {
                Ok(sandbox) => drop(rt::spawn(sandbox.server)),
                Err(sandbox::Error::Bind { source, .. }) if source.kind() == ErrorKind::AddrInUse => {}
                Err(error) => return Err(error.into()),
            }
            format!("http://{}", settings.sandbox_bind)
        };
        let db = Db::start(url, settings.db_pool_size)?;
        let settler = Settler::new(Payments(Arc::new(HttpGateway::new(&gateway_url)?)), db.clone());
        let pass = settler.pass(true).await?;
        println!("{} charges and refunds taken, {} settled", pass.taken, pass.settled);
        rt::task::spawn_blocking(move || db.close()).await?;
        Ok(())
    })
}

/// Deletes expired records, in every replica, for as long as the process lives.
async fn sweeper(db: Db, interval: Duration) {
    loop {
        rt::time::sleep(interval).await;
        loop {
            let started = Instant::now();
            match db.run(NOBODY, |conn| idempotency::sweep(conn).map_err(ApiError::from)).await {
                Ok(swept) if swept.more => rt::time::sleep(started.elapsed() * RESTS_TIMES).await,
                Ok(_) => break,
                Err(error) => {
                    log::warn!("the sweep failed and will be tried again: {error}");
                    break;
                }
            }
        }
    }
}

fn banner(address: SocketAddr, demo: bool) -> String {
    if !demo {
        return format!("payments listens on http://{address}\n");
    }
    let order = format!(
        "curl -i http://{address}/v1/orders -H 'Authorization: Bearer sk_demo_acme' -H 'Content-Type: application/json' \\\n    \
         -H 'Idempotency-Key: order-1' -d "
    );
    format!(
        "\npayments listens on http://{address}\n\n\
         Make an order:\n  {order}'{{\"customer\":\"ada\",\"items\":[{{\"sku\":\"pro-monthly\",\"quantity\":1}}]}}'\n\n\
         Send the same again: the same reply, with Idempotency-Replayed: true.\n\
         Send the key with another body: 422 idempotency-key-reused.\n  \
         {order}'{{\"customer\":\"ada\",\"items\":[{{\"sku\":\"sticker\",\"quantity\":1}}]}}'\n"
    )
}
