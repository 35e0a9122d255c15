//! A thread that moves only while the simulation waits for it: in turns, from one point at which it waits for
//! something to the next. In virtual time a turn takes none; before each some passes.

use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::{io, mem};

use super::Takes;

/// What ends a turn: the thread waits for it.
type Awaited = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The thread's end of it.
struct Baton {
    awaited: Sender<Awaited>,
    /// Closed where the process is gone.
    go: Receiver<()>,
}

thread_local! {
    static BATON: RefCell<Option<Baton>> = const { RefCell::new(None) };
}

/// The simulation's end of it. Dropped with the process that the thread belongs to: then it waits until the thread
/// has noticed, so that nothing of it goes on beside the next process.
struct Driver {
    go: Option<Sender<()>>,
    awaited: Receiver<Awaited>,
    thread: Option<JoinHandle<()>>,
}

/// Has `work` done in lockstep.
///
/// # Errors
/// If the thread cannot be started.
pub(crate) fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let (go, gone) = channel();
    let (sender, awaited) = channel();
    let baton = Baton {
        awaited: sender,
        go: gone,
    };
    let thread = thread::Builder::new().name(name).spawn(move || {
        if baton.go.recv().is_ok() {
            BATON.set(Some(baton));
            // Whoever gave the work looks after its panics.
            let _ = catch_unwind(AssertUnwindSafe(work));
            // That the baton is dropped says that there is no further turn.
            BATON.take();
        }
    })?;
    let mut driver = Driver {
        go: Some(go),
        awaited,
        thread: Some(thread),
    };
    tokio::spawn(async move {
        loop {
            super::pass(Takes::Step).await;
            match driver.turn() {
                Some(awaited) => awaited.await,
                None => break,
            }
        }
    });
    Ok(())
}

impl Driver {
    /// Lets the thread move up to the next point at which it waits; none when it is done.
    fn turn(&mut self) -> Option<Awaited> {
        self.go.as_ref()?.send(()).ok()?;
        self.awaited.recv().ok()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.go = None;
        if let Some(thread) = self.thread.take() {
            // Its panics were caught.
            let _ = thread.join();
        }
    }
}

/// Whether this is a thread in lockstep.
pub(crate) fn is_one() -> bool {
    BATON.with_borrow(Option::is_some)
}

/// Waits for `future`, which the simulation runs; none where the process is gone.
pub(crate) fn wait_for<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> Option<T> {
    let outcome = Arc::new(Mutex::new(None));
    let slot = Arc::clone(&outcome);
    let awaited: Awaited = Box::pin(async move {
        let value = future.await;
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
    });
    BATON.with_borrow(|baton| {
        let baton = baton.as_ref()?;
        baton.awaited.send(awaited).ok()?;
        baton.go.recv().ok()
    })?;
    mem::take(&mut *outcome.lock().unwrap_or_else(PoisonError::into_inner))
}
