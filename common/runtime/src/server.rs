//! How a service is served: its socket, its health, reflection, keepalive, and an end that comes.

mod address;
mod health;
mod serve;

use tokio::signal::unix::{SignalKind, signal};

pub use self::address::{ADDRESS, Listening};
pub use self::health::Health;
pub use self::serve::{Connections, ServeError, serve};

/// Completes at the first SIGTERM or SIGINT.
pub async fn termination() {
    let mut terminate = match signal(SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => {
            tracing::error!(%error, "SIGTERM cannot be caught: it will end the process at once");
            return std::future::pending().await;
        }
    };
    let interrupted = tokio::signal::ctrl_c();
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        _ = interrupted => tracing::info!("SIGINT: stopping"),
    }
}
