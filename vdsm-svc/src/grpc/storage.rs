//! Calls into storage, which may block for as long as a file system hangs: on threads of their own, so many at a
//! time, and waited for so long. Each domain has a lane of its own, so one that hangs holds up no other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use common::fault::{Fault, FaultCode};
use common::id::DomainId;
use runtime::store::StoreError;
use runtime::threads;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Calls of one lane at a time: a person with a few windows open.
const AT_ONCE: usize = 4;

/// How long a call is waited for; its thread goes on, and keeps its place in the lane.
const PATIENCE: Duration = Duration::from_secs(30);

/// Lanes that are remembered: more domains than a host has.
const LANES: usize = 1_000;

/// A bound on calls that may hang together.
#[derive(Debug, Clone)]
pub(super) struct Lane(Arc<Semaphore>);

impl Default for Lane {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

/// The lanes of all domains.
#[derive(Debug, Default)]
pub(super) struct Lanes(Mutex<BTreeMap<DomainId, Lane>>);

impl Lanes {
    /// A domain's lane.
    pub(super) fn of(&self, domain: DomainId) -> Lane {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lanes.len() >= LANES {
            // Ids of domains that there are not, mostly; a lane in use stays with those who use it.
            lanes.retain(|_, lane| lane.0.available_permits() < AT_ONCE);
        }
        lanes.entry(domain).or_default().clone()
    }
}

/// Reads from storage.
///
/// # Errors
/// Those of `work`; `IO_ERROR` where storage does not answer in time.
pub(super) async fn read<T: Send + 'static>(
    lane: &Lane,
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    in_time(run(lane.clone(), work)).await
}

/// Waits for a call into storage for as long as anybody should.
///
/// # Errors
/// `IO_ERROR` where it takes longer.
pub(super) async fn in_time<T>(call: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    timeout(PATIENCE, call).await.unwrap_or_else(|_| {
        Err(Fault::new(
            FaultCode::IoError,
            format!("storage does not answer within {PATIENCE:?}: look at its file system, and try again"),
        ))
    })
}

/// Has `work` done on a thread that may block. Its place in the lane is its own until it has ended.
///
/// # Errors
/// Those of `work`.
pub(super) async fn run<T: Send + 'static>(
    lane: Lane,
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let broken = |what: &str| {
        Fault::new(
            FaultCode::Internal,
            format!("{what}; please report it, with the log"),
        )
    };
    let place = lane
        .0
        .acquire_owned()
        .await
        .map_err(|_| broken("a lane was closed"))?;
    let done = threads::blocking(move || {
        let outcome = work();
        drop(place);
        outcome
    });
    done.await
        .unwrap_or_else(|_| Err(broken("a call into storage ended in a panic")))
}

/// The fault for a store that cannot be read in the midst of a call into storage.
pub(super) fn unreadable(error: &StoreError) -> Fault {
    tracing::error!(%error, "a read from the store failed");
    Fault::new(
        FaultCode::StoreUnavailable,
        "the service cannot read its store now; try again",
    )
}
