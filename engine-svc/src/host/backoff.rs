//! How long to wait before a host is tried again.

use std::time::Duration;

use runtime::chance;

/// The first wait: most losses are a restart of the host's service, which is back within this.
const FIRST: Duration = Duration::from_millis(50);

/// The longest wait between two attempts to connect: a host that comes back is noticed within it, and an attempt
/// costs next to nothing.
pub(crate) const CONNECT_CAP: Duration = Duration::from_secs(1);

/// The longest wait between two attempts of one call on a host that is connected.
pub(crate) const CALL_CAP: Duration = Duration::from_secs(60);

/// The longest wait before a host that was full is asked again without a sign of room: a disk that is given room
/// gives none.
pub(crate) const FULL_CAP: Duration = Duration::from_secs(5);

/// Waits that double up to a cap, each shortened by up to half at random, so that many who lost the same peer
/// do not come back at the same moment.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    next: Duration,
    cap: Duration,
}

impl Backoff {
    /// Starts short and grows up to `cap`.
    pub(crate) const fn new(cap: Duration) -> Self {
        Self { next: FIRST, cap }
    }

    /// The next wait.
    pub(crate) fn wait(&mut self) -> Duration {
        let full = self.next;
        self.next = (full * 2).min(self.cap);
        full.mul_f64(0.5 + chance::fraction() / 2.0)
    }

    /// It worked: the next failure is a new one.
    pub(crate) const fn reset(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_start_anew() {
        let mut backoff = Backoff::new(CONNECT_CAP);
        let first = backoff.wait();
        assert!(first >= FIRST / 2 && first <= FIRST, "{first:?}");
        for _ in 0..20 {
            let wait = backoff.wait();
            assert!(wait <= CONNECT_CAP, "{wait:?}");
        }
        assert!(backoff.wait() >= CONNECT_CAP / 2);
        backoff.reset();
        assert!(backoff.wait() <= FIRST);
    }
}
