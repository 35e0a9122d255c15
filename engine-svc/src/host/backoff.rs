//! How long the engine waits before it tries a host again.

use std::time::Duration;

use runtime::chance;

/// The first wait: most connections end because the host's service restarts, which takes no longer.
const FIRST: Duration = Duration::from_millis(50);

/// The longest wait between two attempts to connect: a host that comes back is noticed within it, and an attempt
/// costs next to nothing.
pub(crate) const CONNECT_CAP: Duration = Duration::from_secs(1);

/// The number of connections, or streams of one connection, that may end before the host counts as one that flaps:
/// more restarts than a rollout has, and more cuts than a bad network makes in a minute. Each minute for which one
/// lasts makes up for one that ended.
const MANY: u64 = 128;
const MADE_UP_IN: Duration = Duration::from_secs(60);

/// The longest wait before a host that flaps is connected again. Each connection makes the host send its tasks and
/// state anew, and leaves two events in the history; with this wait they are few.
const FLAPPING_CAP: Duration = Duration::from_secs(60);

/// The longest wait between two attempts of one call on a connected host.
pub(crate) const CALL_CAP: Duration = Duration::from_secs(60);

/// The longest wait before a full host is asked again without a sign of room: a disk that is given room gives no
/// sign.
pub(crate) const FULL_CAP: Duration = Duration::from_secs(5);

/// Waits that double up to a cap. Each is shortened by up to half at random, so that clients that lost the same peer
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
}

/// The waits between connections to one host.
#[derive(Debug)]
pub(super) struct Pauses {
    connect: Backoff,
    flapping: Backoff,
    /// Connections that have ended, less those made up for.
    ended: u64,
}

impl Pauses {
    pub(super) const fn new() -> Self {
        Self {
            connect: Backoff::new(CONNECT_CAP),
            flapping: Backoff {
                next: CONNECT_CAP,
                cap: FLAPPING_CAP,
            },
            ended: 0,
        }
    }

    /// Counts a connection that lasted for this time and has ended.
    pub(super) fn lasted(&mut self, time: Duration) {
        let made_up = time.as_secs() / MADE_UP_IN.as_secs();
        let ended = self.ended.saturating_sub(made_up) + 1;
        self.ended = ended.min(MANY + 1);
        if !self.flaps() {
            let Self {
                connect, flapping, ..
            } = Self::new();
            (self.connect, self.flapping) = (connect, flapping);
        }
    }

    /// Whether the host accepts connections and ends them again and again.
    pub(super) const fn flaps(&self) -> bool {
        self.ended > MANY
    }

    /// The next wait.
    pub(super) fn wait(&mut self) -> Duration {
        match self.flaps() {
            true => self.flapping.wait(),
            false => self.connect.wait(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often a day connects a host whose connections last for these times, one after the other.
    fn connections_in_a_day(lasts: &[u64]) -> u32 {
        let mut pauses = Pauses::new();
        let day = Duration::from_secs(24 * 60 * 60);
        let (mut time, mut connections) = (Duration::ZERO, 0);
        for seconds in lasts.iter().cycle() {
            let lasted = Duration::from_secs(*seconds);
            connections += 1;
            pauses.lasted(lasted);
            time += lasted + pauses.wait();
            if time >= day {
                break;
            }
        }
        connections
    }

    #[test]
    fn a_host_that_flaps_is_connected_less_and_less_often_however_it_does_it() {
        let many = MANY as usize;
        let after = |times, seconds: u64| std::iter::repeat_n(0, times).chain([seconds]).collect::<Vec<_>>();
        for lasts in [
            vec![0],
            vec![1],
            vec![10],
            vec![59],
            after(many, 10),
            after(many + 1, 60),
            after(many + 1, (MANY + 1) * 60),
        ] {
            let connections = connections_in_a_day(&lasts);
            assert!(connections < 3_000, "{lasts:?}: {connections}");
        }
    }

    #[test]
    fn a_host_that_restarts_is_connected_again_at_once() {
        let mut pauses = Pauses::new();
        // A rollout that goes wrong: each connection ends within a second.
        for _ in 0..MANY {
            pauses.lasted(Duration::from_secs(1));
            assert!(pauses.wait() <= FIRST);
        }
        pauses.lasted(Duration::from_secs(1));
        assert!(pauses.flaps());
        pauses.lasted(MADE_UP_IN * 100);
        assert!(
            !pauses.flaps() && pauses.wait() <= FIRST,
            "whatever it did before"
        );
        // A host that does not answer is tried often, however long it is away.
        for _ in 0..1_000 {
            assert!(pauses.wait() <= CONNECT_CAP);
        }
    }

    #[test]
    fn waits_grow_to_the_cap() {
        let mut backoff = Backoff::new(CONNECT_CAP);
        let first = backoff.wait();
        assert!(first >= FIRST / 2 && first <= FIRST, "{first:?}");
        for _ in 0..20 {
            let wait = backoff.wait();
            assert!(wait <= CONNECT_CAP, "{wait:?}");
        }
        assert!(backoff.wait() >= CONNECT_CAP / 2);
    }
}
