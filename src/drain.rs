//! The end of a server, as it is told to end: SIGTERM drains, Ctrl-C cuts.
//!
//! SIGTERM: `/health/ready` says no from that moment, so that load balancers send their requests elsewhere; requests are still
//! accepted for the drain delay; then no connection is accepted, and requests under way end. Ctrl-C, also during a drain, cuts
//! requests under way: who types it waits. What was begun at the gateway is finished after either.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};

/// How long the workers may take to close their connections after Ctrl-C.
const CUT_WITHIN: Duration = Duration::from_secs(1);

/// Whether the server is on its way out. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Draining(Arc<AtomicBool>);

impl Draining {
    /// Readiness turns bad.
    pub fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether readiness is bad for good.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Ends the server as signals say. It returns only when the requests under way were cut; after a drain, the server has ended
/// by itself.
///
/// # Errors
/// The operating system's, where signals can't be caught.
pub async fn end_when_told(server: ServerHandle, draining: Draining, delay: Duration) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let drain = async {
        terminate.recv().await;
        draining.begin();
        if !delay.is_zero() {
            log::info!("SIGTERM: not ready any more; requests are accepted for {} s more", delay.as_secs());
            sleep(delay).await;
        }
        log::info!("SIGTERM: no more requests are accepted; those under way end");
        server.stop(true).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = drain => {}
        _ = interrupt.recv() => {}
    }
    log::info!("Ctrl-C: requests under way are cut; what they began at the gateway is finished");
    // A server that drains already may not listen any more.
    let _ = timeout(CUT_WITHIN, server.stop(false)).await;
    Ok(())
}
