//! Room in a host's queue. A call that was refused for want of room waits for the end of one of the host's tasks,
//! which the stream shows, instead of asking again and again.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Semaphore;

/// The room on one connection.
#[derive(Debug)]
pub(super) struct Room {
    /// The number of tasks that have ended on the stream.
    ended: AtomicU64,
    /// The number of waiting calls.
    waiting: AtomicUsize,
    /// One permit for each end that a call waited for; the call that has waited longest gets it.
    freed: Semaphore,
}

/// The number of ends before the host was asked, so that an end between the refusal and the wait is not missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen(u64);

impl Room {
    pub(super) const fn new() -> Self {
        Self {
            ended: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            freed: Semaphore::const_new(0),
        }
    }

    /// Called before the host is asked.
    pub(super) fn seen(&self) -> Seen {
        Seen(self.ended.load(Ordering::SeqCst))
    }

    /// A task has ended on the host.
    pub(super) fn task_ended(&self) {
        self.ended.fetch_add(1, Ordering::SeqCst);
        // An end for which no call waits is no room for calls that come later.
        if self.freed.available_permits() < self.waiting.load(Ordering::SeqCst) {
            self.freed.add_permits(1);
        }
    }

    /// Waits for an end after those in `seen`; each end lets one call go on.
    pub(super) async fn freed(&self, seen: Seen) {
        let _waits = Waits::one_of(&self.waiting);
        if self.seen() != seen {
            return;
        }
        if let Ok(turn) = self.freed.acquire().await {
            turn.forget();
        }
    }
}

/// Counts a waiting call for as long as it waits.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn one_of(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::SeqCst);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn each_end_gives_one_a_turn_and_none_is_missed() {
        let room = Arc::new(Room::new());
        let seen = room.seen();
        room.task_ended();
        room.freed(seen).await;
        let seen = room.seen();
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let room = Arc::clone(&room);
                tokio::spawn(async move { room.freed(seen).await })
            })
            .collect();
        while room.waiting.load(Ordering::SeqCst) < 3 {
            tokio::task::yield_now().await;
        }
        room.task_ended();
        let over = || waiting.iter().filter(|task| task.is_finished()).count();
        while over() < 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(room.waiting.load(Ordering::SeqCst), 2);
        room.task_ended();
        room.task_ended();
        while over() < 3 {
            tokio::task::yield_now().await;
        }
    }
}
