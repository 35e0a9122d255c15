//! For how long a child has moved no byte. Its time is given to it.

use std::time::{Duration, Instant};

use crate::process::IoCounters;

/// See the module.
pub(super) struct Stall {
    last: IoCounters,
    since: Instant,
}

impl Stall {
    /// Of a child that was started now.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            last: IoCounters::default(),
            since: now,
        }
    }

    /// Takes in the counters; says for how long they have stood still.
    pub(super) fn look(&mut self, io: IoCounters, now: Instant) -> Duration {
        if io != self.last {
            self.last = io;
            self.since = now;
        }
        now.saturating_duration_since(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_counter_that_moves_ends_a_stall() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut stall = Stall::new(start);
        assert_eq!(
            stall.look(IoCounters::default(), at(9)),
            Duration::from_secs(9),
            "it never began"
        );
        let mut io = IoCounters::default();
        for (n, move_one) in [
            |io: &mut IoCounters| io.read += 1,
            |io: &mut IoCounters| io.written += 1,
            |io: &mut IoCounters| io.from_storage += 1,
            |io: &mut IoCounters| io.to_storage += 1,
        ]
        .into_iter()
        .enumerate()
        {
            let now = 10 * (n as u64 + 1);
            move_one(&mut io);
            assert_eq!(stall.look(io, at(now)), Duration::ZERO);
            assert_eq!(stall.look(io, at(now + 7)), Duration::from_secs(7));
        }
    }
}
