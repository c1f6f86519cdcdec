//! The command line: makes or finds the database, brings it up to date, and serves.

use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;

use diesel::connection::{Connection, SimpleConnection};
use diesel::pg::PgConnection;
use idempotent_payments::auth::{KnownKeys, create_account};
use idempotent_payments::config::{AccountAction, Action, Command, Settings};
use idempotent_payments::db::{Db, migrate};
use idempotent_payments::dev_postgres::{self, Cluster, Options};
use idempotent_payments::error::ApiError;
use idempotent_payments::http::{self, State};
use idempotent_payments::{demo, idempotency};

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
        (Action::Sweep, _) => sweep(&database.url),
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

fn apply_migrations(url: &str) -> Result<(), Fatal> {
    let done = migrate(url)?;
    println!("{} migrations applied{}", done.len(), done.iter().map(|name| format!("\n  {name}")).collect::<String>());
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
    let db = Db::start(url, settings.db_pool_size)?;
    let address = listener.local_addr()?;
    let interval = settings.sweep_interval;
    let seeds_demo = settings.seeds_demo();
    actix_web::rt::System::new().block_on(async move {
        let server = http::serve(listener, State { db: db.clone(), known_keys: KnownKeys::default() })?;
        actix_web::rt::spawn(sweeper(db.clone(), interval));
        println!("{}", banner(address, seeds_demo));
        server.await?;
        log::info!("no more requests; ending the work under way");
        actix_web::rt::task::spawn_blocking(move || db.close()).await?;
        Ok(())
    })
}

/// Deletes expired records, in every replica, for as long as the process lives.
async fn sweeper(db: Db, interval: std::time::Duration) {
    loop {
        actix_web::rt::time::sleep(interval).await;
        loop {
            match db.run(|conn| idempotency::sweep(conn).map_err(ApiError::from)).await {
                Ok(swept) if swept.more => {}
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
