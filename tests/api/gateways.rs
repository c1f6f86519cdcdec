//! Gateways that fail in the way and at the moment that a test needs.

use std::sync::Arc;

use external_calls::{CallError, Sent};
use futures_util::future::BoxFuture;
use idempotent_payments::db::Db;
use idempotent_payments::shop::payments::{Payments, Resolver};
use stripe_gateway::{Call, End, Gateway, Outcome, Stripe};
use tokio::sync::Semaphore;

use crate::app::Client;

type Known = Result<Outcome, CallError>;

/// A gateway that answers each call by a function. Its books can't be read.
struct Answering<F>(F);

impl<F, A> Gateway for Answering<F>
where
    F: Fn() -> A + Send + Sync + 'static,
    A: Future<Output = Known> + Send + 'static,
{
    fn send<'a>(&'a self, _: &'a str, _: Call<'a>) -> BoxFuture<'a, Known> {
        Box::pin((self.0)())
    }

    fn look_up<'a>(&'a self, _: &'a Sent, _: Call<'a>) -> BoxFuture<'a, Result<Option<Outcome>, CallError>> {
        Box::pin(async { Err(silence()) })
    }
}

/// A gateway that gets every call but loses every answer.
struct Unheard(Stripe);

impl Gateway for Unheard {
    fn send<'a>(&'a self, reference: &'a str, call: Call<'a>) -> BoxFuture<'a, Known> {
        Box::pin(async move {
            self.0.send(reference, call).await.unwrap();
            Err(silence())
        })
    }

    fn look_up<'a>(&'a self, _: &'a Sent, _: Call<'a>) -> BoxFuture<'a, Result<Option<Outcome>, CallError>> {
        Box::pin(async { Err(silence()) })
    }
}

fn silence() -> CallError {
    CallError::NoAnswer { reason: "the test's gateway does not answer".to_owned() }
}

fn outcome(end: End) -> Outcome {
    Outcome { gateway_id: Some("pi_test".to_owned()), end }
}

/// A gateway that nobody can reach.
pub fn away() -> Arc<dyn Gateway> {
    Arc::new(Answering(|| async { Err(silence()) }))
}

/// A gateway that gets every call but loses every answer.
pub fn unheard(gateway: Stripe) -> Arc<dyn Gateway> {
    Arc::new(Unheard(gateway))
}

/// A gateway that declines every card.
pub fn declining() -> Arc<dyn Gateway> {
    let decline = || outcome(End::Declined { decline_code: "generic_decline".to_owned() });
    Arc::new(Answering(move || std::future::ready(Ok(decline()))))
}

/// Controls a gateway whose calls wait. When the test lets a call go, the call succeeds.
#[derive(Clone)]
pub struct Hold {
    called: Arc<Semaphore>,
    let_go: Arc<Semaphore>,
}

/// A gateway whose calls wait until the test lets them go.
pub fn held() -> (Arc<dyn Gateway>, Hold) {
    let hold = Hold { called: Arc::new(Semaphore::new(0)), let_go: Arc::new(Semaphore::new(0)) };
    let Hold { called, let_go } = hold.clone();
    let gateway = Answering(move || {
        let (called, let_go) = (Arc::clone(&called), Arc::clone(&let_go));
        async move {
            called.add_permits(1);
            let_go.acquire().await.unwrap().forget();
            Ok(outcome(End::Succeeded))
        }
    });
    (Arc::new(gateway), hold)
}

impl Hold {
    /// Waits until one more call has arrived.
    pub async fn until_called(&self) {
        self.called.acquire().await.unwrap().forget();
    }

    /// Lets one call succeed.
    pub fn let_go(&self) {
        self.let_go.add_permits(1);
    }

    /// Takes one unused permit back.
    pub async fn take_back(&self) {
        self.let_go.acquire().await.unwrap().forget();
    }
}

impl Client {
    /// A resolver like another replica's, on this test's runtime. It works only when the test calls it.
    pub fn resolver(&self, gateway: Arc<dyn Gateway>) -> Resolver {
        Resolver::new(Payments(gateway), Db::start(&self.database, 2).unwrap())
    }
}
