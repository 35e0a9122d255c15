//! Waiting for a condition instead of sleeping and hoping.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;
use tonic::{Code, Status};

use crate::failure::{Failure, TestResult};

/// How long a condition may take before it counts as never. Generous: it bounds only failures.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const GLANCE: Duration = Duration::from_millis(5);

/// Looks until there is something to return.
///
/// # Errors
/// Naming `what`, when [`PATIENCE`] is spent.
pub async fn eventually<T, F>(what: &str, mut look: impl FnMut() -> F) -> TestResult<T>
where
    F: Future<Output = Option<T>>,
{
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        if Instant::now() > end {
            return Err(Failure::new(format!("waited {PATIENCE:?} in vain for {what}")));
        }
        tokio::time::sleep(GLANCE).await;
    }
}

/// Repeats a call until the peer gives an answer that decides: what a client does while a service is away.
///
/// # Errors
/// The service's own refusal, or its last excuse when [`PATIENCE`] is spent.
pub async fn persist<T, F>(mut call: impl FnMut() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<T, Status>>,
{
    let end = Instant::now() + PATIENCE;
    loop {
        match call().await {
            Err(status) if is_away(&status) && Instant::now() < end => {
                tokio::time::sleep(GLANCE).await;
            }
            verdict => return verdict,
        }
    }
}

/// Whether a status says only that nobody answered: `UNAVAILABLE`, or an error of the transport, which tonic
/// reports under several codes and never with details.
pub fn is_away(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable => true,
        Code::Unknown | Code::Internal | Code::Cancelled => status.details().is_empty(),
        _ => false,
    }
}
