//! Threads that take work in its order. Further threads are made, up to a bound, if there is more work than idle
//! threads. The first thread is made at once, so that work is done, if slowly, even if no further thread can be had.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use runtime::threads;

type Work = Box<dyn FnOnce() + Send>;

/// The pool. Idle threads end when it is dropped; nobody waits for a thread at work.
pub(super) struct Pool(PoolHandle);

/// The sending end; once the pool is gone, no work is begun any more.
#[derive(Clone)]
pub(super) struct PoolHandle(Arc<Shared>);

struct Shared {
    most: usize,
    queue: Mutex<Queue>,
    filled: Condvar,
}

#[derive(Default)]
struct Queue {
    work: VecDeque<Work>,
    threads: usize,
    idle: usize,
    /// Whether an idle thread was woken and has not looked yet. That thread wakes the next one if there is more work
    /// than it takes: short work is done before further threads are awake, and no work waits for a wake-up of its
    /// own.
    waking: bool,
    closed: bool,
}

impl Pool {
    /// # Errors
    /// Not even one thread can be started.
    pub(super) fn new(most: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            most: most.max(1),
            queue: Mutex::default(),
            filled: Condvar::new(),
        });
        if threads::may_idle() {
            Shared::add_thread(&shared, &mut shared.lock())?;
        }
        Ok(Self(PoolHandle(shared)))
    }

    pub(super) fn handle(&self) -> &PoolHandle {
        &self.0
    }
}

impl PoolHandle {
    /// Has `work` done, now or when a thread is free.
    pub(super) fn run(&self, work: Work) {
        if threads::is_in_lockstep() {
            // The thread has nothing else to do.
            return work();
        }
        if !threads::may_idle() {
            if let Err(error) = threads::spawn("task".to_owned(), work) {
                tracing::error!(%error, "cannot start a thread for a task");
            }
            return;
        }
        let mut queue = self.0.lock();
        if queue.closed {
            // The work may hold a handle: if it stayed in this queue, it would keep itself and its tools for ever.
            drop(queue);
            return drop(work);
        }
        queue.work.push_back(work);
        Shared::grow(&self.0, &mut queue);
        let wakes = queue.wakes_another();
        drop(queue);
        if wakes {
            self.0.filled.notify_one();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let PoolHandle(shared) = &self.0;
        let mut queue = shared.lock();
        queue.closed = true;
        let not_begun = std::mem::take(&mut queue.work);
        drop(queue);
        shared.filled.notify_all();
        drop(not_begun);
    }
}

impl Queue {
    /// Whether to wake an idle thread now.
    fn wakes_another(&mut self) -> bool {
        let wakes = !self.work.is_empty() && self.idle > 0 && !self.waking;
        self.waking |= wakes;
        wakes
    }
}

impl Shared {
    /// Makes another thread if there is more work than idle threads.
    fn grow(shared: &Arc<Self>, queue: &mut Queue) {
        if queue.work.len() <= queue.idle || queue.threads >= shared.most {
            return;
        }
        if let Err(error) = Self::add_thread(shared, queue) {
            // The work stays in the queue for the existing threads, and each of them tries again.
            tracing::error!(%error, threads = queue.threads, "cannot start another thread for tasks: raise the limit of processes");
        }
    }

    fn add_thread(shared: &Arc<Self>, queue: &mut Queue) -> io::Result<()> {
        let serving = Arc::clone(shared);
        threads::spawn(format!("task-{}", queue.threads), move || Self::serve(&serving))?;
        queue.threads += 1;
        Ok(())
    }

    fn serve(shared: &Arc<Self>) {
        while let Some(work) = Self::next(shared) {
            // A panic in an operation is its own task's failure; the job reports it itself, so nothing is lost here.
            if catch_unwind(AssertUnwindSafe(work)).is_err() {
                tracing::error!("the work for a task ended in a panic");
            }
        }
    }

    /// The next work; none when the pool is gone: work that was not begun by then is not begun.
    fn next(shared: &Arc<Self>) -> Option<Work> {
        let mut queue = shared.lock();
        while !queue.closed {
            if let Some(work) = queue.work.pop_front() {
                Self::grow(shared, &mut queue);
                let wakes = queue.wakes_another();
                drop(queue);
                if wakes {
                    shared.filled.notify_one();
                }
                return Some(work);
            }
            queue.idle += 1;
            queue = shared.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
            queue.waking = false;
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn all_work_is_done_by_a_bounded_number_of_threads() {
        let pool = Pool::new(2).unwrap();
        let (done, all) = mpsc::channel();
        for n in 0..20 {
            let done = done.clone();
            pool.handle().run(Box::new(move || done.send(n).unwrap()));
        }
        let mut seen: Vec<i32> = (0..20).map(|_| all.recv_timeout(PATIENCE).unwrap()).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..20).collect::<Vec<_>>());
        assert!(pool.0.0.lock().threads <= 2);
    }

    #[test]
    fn what_is_not_begun_when_it_is_dropped_is_let_go_of() {
        let pool = Pool::new(1).unwrap();
        let handle = pool.handle().clone();
        let (begun, has_begun) = mpsc::channel();
        let (go, gone) = mpsc::channel::<()>();
        handle.run(Box::new(move || {
            begun.send(()).unwrap();
            let _ = gone.recv();
        }));
        has_begun.recv_timeout(PATIENCE).unwrap();
        // Like a job, the work holds its tools, and a handle.
        let held = Arc::new(());
        let work = || {
            let (held, handle) = (Arc::clone(&held), handle.clone());
            Box::new(move || drop((held, handle)))
        };
        handle.run(work());
        drop(pool);
        handle.run(work());
        assert_eq!(Arc::strong_count(&held), 1);
        drop(go);
    }

    #[test]
    fn as_many_are_at_work_at_once_as_there_are_threads() {
        const THREADS: usize = 8;
        let pool = Pool::new(THREADS).unwrap();
        let (begun, has_begun) = mpsc::channel();
        // First with new threads, then with idle ones.
        for _ in 0..50 {
            let barrier = Arc::new(std::sync::Barrier::new(THREADS));
            for _ in 0..THREADS {
                let (barrier, begun) = (Arc::clone(&barrier), begun.clone());
                pool.handle().run(Box::new(move || {
                    barrier.wait();
                    begun.send(()).unwrap();
                }));
            }
            for _ in 0..THREADS {
                has_begun.recv_timeout(PATIENCE).unwrap();
            }
        }
    }

    #[test]
    fn a_panic_costs_no_thread() {
        let pool = Pool::new(1).unwrap();
        let (done, all) = mpsc::channel();
        pool.handle().run(Box::new(|| panic!("on purpose")));
        pool.handle().run(Box::new(move || done.send(()).unwrap()));
        all.recv_timeout(PATIENCE).unwrap();
    }
}
