//! Threads for what blocks: on the disk, or for hours. In a simulation no thread runs beside another one, so that
//! the same seed has the same outcome.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// Threads for what blocks that a service has from its start on. Others come and go; where no further ones are to be had,
/// for a limit of processes is met, these do the work, if slower.
const AT_LEAST: usize = 4;

/// Long enough that each of them is busy while the next is made.
const MADE_WITHIN: Duration = Duration::from_millis(20);

/// Longer than any service runs.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

/// The async runtime of a service, on all processors.
///
/// # Errors
/// [`io::Error`] where the system does not give what it takes.
pub fn runtime() -> io::Result<tokio::runtime::Runtime> {
    // tokio panics where it gets none.
    std::thread::Builder::new().spawn(|| ())?;
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // None of them ends while the service runs: a new one may not be had.
        .thread_keep_alive(FOR_EVER)
        .build()?;
    for _ in 0..AT_LEAST {
        tokio.spawn_blocking(|| std::thread::sleep(MADE_WITHIN));
    }
    Ok(tokio)
}

/// Has `work` done where it may block, for as long as a read from the disk takes.
pub fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    #[cfg(feature = "simulation")]
    if crate::simulation::world().is_some() {
        return tokio::spawn(async move { work() });
    }
    tokio::task::spawn_blocking(work)
}

/// Has `work` done on a thread of its own, named `name`; nobody waits for it.
///
/// # Errors
/// Where there is no thread.
pub fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    #[cfg(feature = "simulation")]
    if crate::simulation::world().is_some() {
        return crate::simulation::lockstep::spawn(name, work);
    }
    std::thread::Builder::new().name(name).spawn(work).map(drop)
}

/// Runs `work` on a thread of its own, named `name`, which it may block for as long as it likes. It has timers of its own, whatever
/// becomes of the runtime around it. In a simulation it is a task: in virtual time it blocks nobody.
///
/// # Errors
/// Where there is no thread.
pub(crate) fn dedicate(name: String, work: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    #[cfg(feature = "simulation")]
    if crate::simulation::world().is_some() {
        tokio::spawn(work);
        return Ok(());
    }
    let timers = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let run = move || timers.block_on(work);
    std::thread::Builder::new().name(name).spawn(run).map(drop)
}

/// Whether a thread may wait for further work when it has done its own: not in lockstep, where others wait for it.
pub fn may_idle() -> bool {
    #[cfg(feature = "simulation")]
    if crate::simulation::world().is_some() {
        return false;
    }
    true
}

/// Whether this very thread was made by [`spawn`] in a simulation.
pub fn is_in_lockstep() -> bool {
    #[cfg(feature = "simulation")]
    return crate::simulation::lockstep::is_one();
    #[cfg(not(feature = "simulation"))]
    false
}

/// Waits for `future` on a thread made by [`spawn`]; none where the process that it belongs to is gone, which only
/// a simulated one survives.
///
/// # Panics
/// Within a tokio task.
pub fn wait_for<T: Send + 'static>(
    tokio: &Handle,
    future: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    #[cfg(feature = "simulation")]
    if crate::simulation::lockstep::is_one() {
        return crate::simulation::lockstep::wait_for(future);
    }
    Some(tokio.block_on(future))
}

/// Has `next` done with the outcome of `future`, without a thread that waits; it must not block. Called on a thread made
/// by [`spawn`]. None where the process that it belongs to is gone, which only a simulated one survives.
pub fn then<T: Send + 'static>(
    tokio: &Handle,
    future: impl Future<Output = T> + Send + 'static,
    next: impl FnOnce(Option<T>) + Send + 'static,
) {
    #[cfg(feature = "simulation")]
    if crate::simulation::lockstep::is_one() {
        return next(crate::simulation::lockstep::wait_for(future));
    }
    tokio.spawn(async move { next(Some(future.await)) });
}

/// Sleeps on a thread made by [`spawn`].
pub fn sleep(time: Duration) {
    #[cfg(feature = "simulation")]
    if crate::simulation::lockstep::is_one() {
        // Whether the process is still there is asked by whatever it does next.
        let _ = crate::simulation::lockstep::wait_for(async move { tokio::time::sleep(time).await });
        return;
    }
    std::thread::sleep(time);
}

/// A point between two steps, at which others may have their turn, and at which the process may end; says whether
/// it has ended. Only a simulated one can say so.
#[inline]
pub fn gone() -> bool {
    #[cfg(feature = "simulation")]
    if crate::simulation::lockstep::is_one() {
        return crate::simulation::lockstep::wait_for(std::future::ready(())).is_none();
    }
    false
}
