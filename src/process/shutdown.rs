//! The end of a server: SIGTERM lets requests finish, Ctrl-C cuts them off.
//!
//! SIGTERM: `/health/ready` answers 503 at once, so that load balancers send their requests elsewhere. For `SHUTDOWN_DELAY` the
//! server still accepts requests. Then it accepts no more connections, and finishes the requests in flight.
//!
//! Ctrl-C, even after SIGTERM: the server cuts off the requests in flight, because a person waits at the terminal.
//!
//! Either way, the process finishes the external calls that it began.

use std::time::Duration;

use actix_web::dev::ServerHandle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How long the workers may take to close their connections after Ctrl-C.
const CUT_WITHIN: Duration = Duration::from_secs(1);

/// Ends the server on a signal. After Ctrl-C, this function returns. SIGTERM cancels `draining`, and this function never returns:
/// the server's own future ends.
///
/// # Errors
/// The operating system accepts no signal handler.
pub async fn end_when_told(server: ServerHandle, draining: CancellationToken, delay: Duration) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let drain = async {
        terminate.recv().await;
        draining.cancel();
        if !delay.is_zero() {
            log::info!("SIGTERM: not ready any more; the server accepts requests for {} s more", delay.as_secs());
            sleep(delay).await;
        }
        log::info!("SIGTERM: the server accepts no more requests, and finishes those in flight");
        server.stop(true).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = drain => {}
        _ = interrupt.recv() => {}
    }
    log::info!("Ctrl-C: the server cuts the requests in flight");
    // A server that is already stopping may not read this command, so the wait has a limit.
    let _ = timeout(CUT_WITHIN, server.stop(false)).await;
    Ok(())
}
