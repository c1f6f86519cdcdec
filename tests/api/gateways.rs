//! Gateways that fail as a test needs it, at the moment it needs it.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use idempotent_payments::db::Db;
use idempotent_payments::gateway::{Call, Capture, Gateway, HttpGateway, Outcome, Refund};
use idempotent_payments::payments::{Payments, Settler};
use idempotent_payments::settlement::CallError;
use tokio::sync::Semaphore;

use crate::app::Client;

type Learnt = Result<Outcome, CallError>;

/// Answers each call by a function; its books can't be read.
struct Answering<F>(F);

impl<F, A> Gateway for Answering<F>
where
    F: Fn(Call) -> A + Send + Sync + 'static,
    A: Future<Output = Learnt> + Send + 'static,
{
    fn accepts(&self, _: &str) -> bool {
        true
    }

    fn capture<'a>(&'a self, capture: &'a Capture) -> BoxFuture<'a, Learnt> {
        Box::pin((self.0)(Call::Capture(capture.clone())))
    }

    fn refund<'a>(&'a self, refund: &'a Refund) -> BoxFuture<'a, Learnt> {
        Box::pin((self.0)(Call::Refund(refund.clone())))
    }

    fn find<'a>(&'a self, _: &'a Call) -> BoxFuture<'a, Result<Option<Outcome>, CallError>> {
        Box::pin(async { Err(silence()) })
    }
}

fn silence() -> CallError {
    CallError::NoAnswer { reason: "the test wants silence".to_owned() }
}

/// One that can't be reached.
pub fn away() -> Arc<dyn Gateway> {
    Arc::new(Answering(|_| async { Err(silence()) }))
}

/// One whose every call arrives and whose every answer is lost.
pub fn unheard(gateway: HttpGateway) -> Arc<dyn Gateway> {
    let gateway = Arc::new(gateway);
    Arc::new(Answering(move |call| {
        let gateway = Arc::clone(&gateway);
        async move {
            match call {
                Call::Capture(capture) => gateway.capture(&capture).await.unwrap(),
                Call::Refund(refund) => gateway.refund(&refund).await.unwrap(),
            };
            Err(silence())
        }
    }))
}

/// One that declines every card.
pub fn declining() -> Arc<dyn Gateway> {
    let decline = || Outcome::Declined { decline_code: "card_declined".to_owned() };
    Arc::new(Answering(move |_| std::future::ready(Ok(decline()))))
}

/// The test's hand on a gateway whose calls succeed when they are let go.
#[derive(Clone)]
pub struct Hold {
    called: Arc<Semaphore>,
    let_go: Arc<Semaphore>,
}

/// A gateway whose calls wait for the test.
pub fn held() -> (Arc<dyn Gateway>, Hold) {
    let hold = Hold { called: Arc::new(Semaphore::new(0)), let_go: Arc::new(Semaphore::new(0)) };
    let Hold { called, let_go } = hold.clone();
    let gateway = Answering(move |_| {
        let (called, let_go) = (Arc::clone(&called), Arc::clone(&let_go));
        async move {
            called.add_permits(1);
            let_go.acquire().await.unwrap().forget();
            Ok(Outcome::Succeeded)
        }
    });
    (Arc::new(gateway), hold)
}

impl Hold {
    /// Waits until one more call is under way.
    pub async fn until_called(&self) {
        self.called.acquire().await.unwrap().forget();
    }

    /// Lets one call succeed.
    pub fn let_go(&self) {
        self.let_go.add_permits(1);
    }

    /// Takes one unused leave back.
    pub async fn take_back(&self) {
        self.let_go.acquire().await.unwrap().forget();
    }
}

impl Client {
    /// A settler as another replica has it, on this test's runtime: it does what it is told, when it is told.
    pub fn settler(&self, gateway: Arc<dyn Gateway>) -> Settler {
        Settler::new(Payments(gateway), Db::start(&self.database, 2).unwrap())
    }
}
