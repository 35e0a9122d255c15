//! Calls into storage, which may block for as long as a file system hangs. They run on threads of their own, with a
//! bound on their number and on the wait for them. Each domain has its own lane, so a domain that hangs delays no
//! other; and all lanes together use fewer threads than there are, so storage that hangs delays no read of the store.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::store::StoreError;
use common::fault::{Fault, FaultCode};
use common::id::DomainId;
use runtime::threads;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Calls that one lane runs at a time: enough for a person with a few windows open.
const AT_ONCE: usize = 4;

/// Calls that all lanes run at a time: far fewer than there are threads (512), because the store is read on those as
/// well.
const ALL_AT_ONCE: usize = 64;

/// Calls of one lane that wait for their turn: further ones would wait longer than anybody is willing to.
const WAITING: usize = 100;

/// How long the caller waits for a call; the call's thread goes on, and keeps its place in the lane.
const PATIENCE: Duration = Duration::from_secs(30);

/// The maximum number of lanes: more than a host has domains.
const LANES: usize = 1_000;

/// A bound on calls that may hang together.
#[derive(Debug, Clone)]
pub(super) struct Lane {
    at_once: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// The bound of all lanes together.
    all: Arc<Semaphore>,
}

impl Lane {
    fn beside(all: &Arc<Semaphore>) -> Self {
        Self {
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Arc::new(Semaphore::new(WAITING)),
            all: Arc::clone(all),
        }
    }
}

/// One lane for each domain that was ever found here, one for ids that were not found, and one for calls that look at
/// all domains.
#[derive(Debug)]
pub(super) struct Lanes {
    known: Mutex<BTreeMap<DomainId, Lane>>,
    unknown: Lane,
    root: Lane,
}

impl Default for Lanes {
    fn default() -> Self {
        let all = Arc::new(Semaphore::new(ALL_AT_ONCE));
        Self {
            known: Mutex::default(),
            unknown: Lane::beside(&all),
            root: Lane::beside(&all),
        }
    }
}

impl Lanes {
    /// The lane of a domain. Ids that were never found share a lane, so a client that invents ids delays only itself.
    pub(super) fn of(&self, domain: DomainId) -> Lane {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&domain).unwrap_or(&self.unknown).clone()
    }

    /// The lane for calls that look at all domains.
    pub(super) fn root(&self) -> Lane {
        self.root.clone()
    }

    /// A lane for other calls, with as many threads.
    pub(super) fn another(&self) -> Lane {
        Lane::beside(&self.unknown.all)
    }

    /// The domain exists: it has its own lane from now on.
    pub(super) fn found(&self, domain: DomainId) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < LANES {
            known
                .entry(domain)
                .or_insert_with(|| Lane::beside(&self.unknown.all));
        }
    }
}

/// Reads from storage.
///
/// # Errors
/// The errors of `work`; `IO_ERROR` if storage does not answer in time.
pub(super) async fn read<T: Send + 'static>(
    lane: &Lane,
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    in_time(run(lane.clone(), work)).await
}

/// Waits for a call into storage, but no longer than a caller should.
///
/// # Errors
/// `IO_ERROR` if the call takes longer.
pub(super) async fn in_time<T>(call: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    timeout(PATIENCE, call).await.unwrap_or_else(|_| {
        Err(Fault::new(
            FaultCode::IoError,
            format!("storage did not answer within {PATIENCE:?}: look at its file system, and try again"),
        ))
    })
}

/// Runs `work` on a thread that may block. The work keeps its place in the lane until it has ended.
///
/// # Errors
/// The errors of `work`.
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
    let closed = |_| broken("a lane was closed");
    let waits = lane.waiting.try_acquire_owned().map_err(|_| {
        let words = format!(
            "{WAITING} calls are already waiting for this storage domain, which does not answer quickly enough: check its file system, then try again"
        );
        Fault::new(FaultCode::TooManyRequests, words)
    })?;
    let place = lane.at_once.acquire_owned().await.map_err(closed)?;
    let thread = lane.all.acquire_owned().await.map_err(closed)?;
    drop(waits);
    let done = threads::blocking(move || {
        let outcome = work();
        drop((place, thread));
        outcome
    });
    done.await
        .unwrap_or_else(|_| Err(broken("a call into storage ended in a panic")))
}

/// The fault for a store that cannot be read during a call into storage.
pub(super) fn unreadable(error: &StoreError) -> Fault {
    tracing::error!(%error, "a read from the store failed");
    Fault::new(
        FaultCode::StoreUnavailable,
        "the service cannot read its store now; try again",
    )
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn id(number: u128) -> DomainId {
        DomainId::from_uuid(uuid::Uuid::from_u128(number))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn storage_that_hangs_leaves_threads_and_other_domains_alone() {
        let lanes = Arc::new(Lanes::default());
        lanes.found(id(1));
        let (hang, hangs) = mpsc::channel::<()>();
        let hangs = Arc::new(Mutex::new(hangs));
        let calls: Vec<_> = (1_000..2_200)
            .map(|number| {
                let (lane, hangs) = (lanes.of(id(number)), Arc::clone(&hangs));
                tokio::spawn(run(lane, move || {
                    // Hangs until the other end is dropped.
                    let _ = hangs.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    Ok(())
                }))
            })
            .collect();
        // A domain that works answers, and so does a thread for the store.
        assert_eq!(run(lanes.of(id(1)), || Ok(7)).await, Ok(7));
        assert_eq!(threads::blocking(|| 8).await.unwrap(), 8);
        drop(hang);
        let mut refused = 0;
        for call in calls {
            if let Err(fault) = call.await.unwrap() {
                assert_eq!(fault.code, FaultCode::TooManyRequests);
                refused += 1;
            }
        }
        assert!(refused > 0, "1,200 calls do not all wait");
    }

    /// Any number of existing domains with lanes of their own may hang.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn domains_that_all_hang_take_no_more_threads_than_storage_has() {
        let lanes = Lanes::default();
        let (hang, hangs) = mpsc::channel::<()>();
        let hangs = Arc::new(Mutex::new(hangs));
        let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
        let mut calls = tokio::task::JoinSet::new();
        for domain in 0..2 * ALL_AT_ONCE as u128 {
            lanes.found(id(domain));
            for _ in 0..AT_ONCE {
                let (hangs, begun) = (Arc::clone(&hangs), begun.clone());
                calls.spawn(run(lanes.of(id(domain)), move || {
                    let _ = begun.send(());
                    // Hangs until the other end is dropped.
                    let _ = hangs.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    Ok(())
                }));
            }
        }
        for _ in 0..ALL_AT_ONCE {
            begins.recv().await.unwrap();
        }
        let free = lanes.unknown.all.available_permits();
        assert_eq!(threads::blocking(|| 8).await.unwrap(), 8);
        let more = begins.try_recv();
        drop(hang);
        while let Some(done) = calls.join_next().await {
            assert_eq!(done.unwrap(), Ok(()));
        }
        assert_eq!(free, 0, "all that storage may have are in use");
        assert!(more.is_err(), "one more than that is at work");
    }

    #[test]
    fn lanes_are_made_for_what_was_found_and_bounded() {
        let lanes = Lanes::default();
        let is_own = |number| !Arc::ptr_eq(&lanes.of(id(number)).at_once, &lanes.unknown.at_once);
        assert!(!is_own(1));
        for number in 0..2 * LANES as u128 {
            lanes.found(id(number));
        }
        assert!(is_own(1) && !is_own(2 * LANES as u128 - 1));
        assert_eq!(lanes.known.lock().unwrap().len(), LANES);
    }
}
