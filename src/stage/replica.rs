//! A replica of the stage: the same binary and the same code as `payments serve`, in a process that can be killed. It has no page,
//! no sandbox and no webhook, listens on 127.0.0.1, and ends when its parent ends.

use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::rt;
use serde_json::json;

use super::naive::NaiveGateway;
use super::watching::{self, Part, Steps, tell};
use crate::db::Db;
use crate::gateway::webhook::Secrets;
use crate::gateway::{Key, Stripe, install_tls};
use crate::http::auth::KnownKeys;
use crate::process::shutdown::ShuttingDown;
use crate::server::{self, State};
use crate::shop::payments::{Payments, Resolver};

/// Connections of a replica. Ten clicks under one key need two; under ten keys they take turns.
pub const CONNECTIONS: u32 = 3;

/// The key that a replica has for the forwarder, which alone knows the gateway's. The run's id is its secret part.
pub fn key_of(part: &Part) -> String {
    format!("sk_test_{}", part.run.simple())
}

/// Serves until the parent ends, or until the process passes the point at which it is killed.
pub fn serve(database_url: &str, gateway_url: &str, json: &str) -> Result<(), Box<dyn std::error::Error>> {
    let part: Part = serde_json::from_str(json)?;
    end_with_the_parent();
    install_tls();
    let key = key_of(&part);
    let references = part.references.clone();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, part.port))?;
    let address = listener.local_addr()?;
    watching::start(part)?;
    let gateway = Stripe::new(gateway_url, &Key::parse(&key)?)?;
    let naive =
        NaiveGateway { client: reqwest::Client::builder().no_proxy().build()?, url: gateway_url.to_owned(), key };
    let db = Db::start_observed(database_url, CONNECTIONS, Some(Arc::new(Steps)))?;
    rt::System::new().block_on(async move {
        let resolver = Resolver::new(Payments(Arc::new(gateway)), db.clone());
        let state = State {
            db,
            known_keys: KnownKeys::default(),
            resolver: resolver.clone(),
            webhook_secrets: Secrets::default(),
            demo: false,
            cors_origins: Vec::new(),
            keep_alive: Duration::from_secs(5),
            draining: ShuttingDown::default(),
        };
        let server = server::serve_with(listener, state, vec![naive.endpoint()])?;
        rt::spawn(resolver.run_in_background_for(move |reference| references.iter().any(|mine| mine == reference)));
        tell("up", json!({"port": address.port()}));
        Ok(server.await?)
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "a replica may die at any moment, so nothing is lost if it drains nothing"
)]
fn end_with_the_parent() {
    // The parent holds the other end of the standard input, and writes nothing. However the parent ends, the kernel closes it.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
}
