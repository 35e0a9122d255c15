//! Threads that take work in its order; made when there is more work than idle threads, up to a bound.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use runtime::threads;

type Work = Box<dyn FnOnce() + Send>;

/// See the module. Idle threads end when it is dropped; nobody waits for one that is at work.
pub(super) struct Pool {
    shared: Arc<Shared>,
    threads: usize,
    most: usize,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
}

#[derive(Default)]
struct Queue {
    work: VecDeque<Work>,
    idle: usize,
    closed: bool,
}

impl Pool {
    pub(super) fn new(most: usize) -> Self {
        Self {
            shared: Arc::default(),
            threads: 0,
            most: most.max(1),
        }
    }

    /// Has `work` done, now or when a thread is free.
    pub(super) fn run(&mut self, work: Work) {
        if !threads::may_idle() {
            if let Err(error) = threads::spawn("task".to_owned(), work) {
                tracing::error!(%error, "no thread for a task");
            }
            return;
        }
        let mut queue = self.shared.lock();
        queue.work.push_back(work);
        let lacking = queue.work.len() > queue.idle && self.threads < self.most;
        drop(queue);
        self.shared.filled.notify_one();
        if lacking {
            self.grow();
        }
    }

    fn grow(&mut self) {
        let shared = Arc::clone(&self.shared);
        match threads::spawn(format!("task-{}", self.threads), move || shared.serve()) {
            Ok(()) => self.threads += 1,
            // The work stays in the queue for the threads that there are, or for the next attempt.
            Err(error) => tracing::error!(%error, threads = self.threads, "no further thread for tasks"),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.filled.notify_all();
    }
}

impl Shared {
    fn serve(&self) {
        while let Some(work) = self.next() {
            // A defect in one operation is that task's; a job reports it itself, so nothing is lost here.
            if catch_unwind(AssertUnwindSafe(work)).is_err() {
                tracing::error!("the work for a task ended in a panic");
            }
        }
    }

    /// None when the pool is gone; what it had not begun by then is not begun.
    fn next(&self) -> Option<Work> {
        let mut queue = self.lock();
        while !queue.closed {
            if let Some(work) = queue.work.pop_front() {
                return Some(work);
            }
            queue.idle += 1;
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
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
        let mut pool = Pool::new(2);
        let (done, all) = mpsc::channel();
        for n in 0..20 {
            let done = done.clone();
            pool.run(Box::new(move || done.send(n).unwrap()));
        }
        let mut seen: Vec<i32> = (0..20).map(|_| all.recv_timeout(PATIENCE).unwrap()).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..20).collect::<Vec<_>>());
        assert!(pool.threads <= 2);
    }

    #[test]
    fn a_panic_costs_no_thread() {
        let mut pool = Pool::new(1);
        let (done, all) = mpsc::channel();
        pool.run(Box::new(|| panic!("on purpose")));
        pool.run(Box::new(move || done.send(()).unwrap()));
        all.recv_timeout(PATIENCE).unwrap();
    }
}
