//! A replica of the stage: the same binary and the same code as `payments serve`, in a process that can be killed. It has no page,
//! no sandbox and no webhook, listens on 127.0.0.1, and ends when its parent ends.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::rt;
use demo_stage::watching::{self, Part};
use idempotency::{Address, Observer, Step};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::naive;
use crate::db::Db;
use crate::http::auth::KnownKeys;
use crate::process::failpoint::{self, InsideTheCrate};
use crate::process::logging;
use crate::server::{self, State};
use crate::shop::payments::{Payments, Resolver};
use stripe_gateway::webhook::Secrets;
use stripe_gateway::{Key, Stripe};

/// A replica's connections. Ten clicks under one key need two; under ten keys they take turns.
const CONNECTIONS: u32 = 3;

/// Serves until the parent ends, or until the process passes the point at which it is killed.
pub fn serve(database_url: &str, gateway_url: &str, json: &str) -> Result<(), Box<dyn std::error::Error>> {
    let part: Part = serde_json::from_str(json)?;
    let (key, references) = (part.gateway_key(), part.references.clone());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, part.port))?;
    let address = listener.local_addr()?;
    watching::start(part, logging::request)?;
    failpoint::listen(watching::passed);
    let gateway = Arc::new(Stripe::new(gateway_url, &Key::parse(&key)?)?);
    let db = Db::start_observed(database_url, CONNECTIONS, Some(Arc::new(Steps)))?;
    rt::System::new().block_on(async move {
        let resolver = Resolver::new(Payments(gateway.clone()), db.clone());
        let state = State {
            db,
            known_keys: KnownKeys::default(),
            resolver: resolver.clone(),
            webhook_secrets: Secrets::default(),
            demo: false,
            cors_origins: Vec::new(),
            keep_alive: Duration::from_secs(5),
            draining: CancellationToken::new(),
        };
        let server = server::serve(listener, state, vec![naive::endpoint(gateway)])?;
        rt::spawn(resolver.run_in_background_for(move |reference| references.iter().any(|mine| mine == reference)));
        watching::up(address.port());
        Ok(server.await?)
    })
}

/// The steps of the crate `idempotency`.
struct Steps;

impl Observer for Steps {
    fn reached(&self, request_id: Uuid, address: &Address, step: Step) {
        InsideTheCrate.reached(request_id, address, step);
        watching::reached(request_id, address, step);
    }
}
