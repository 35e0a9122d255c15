//! Whether the process has stood still: stopped by a signal, frozen with its container, suspended with its machine.
//!
//! What stands still notices nothing, and goes on as if no time had passed. Its hosts notice: they give it up, and may be
//! another life's of the engine when it goes on (docs/adr/0012). So before it decides anything it asks them anew. A virtual
//! machine that is paused from outside and whose clock is stopped with it cannot tell.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine_core::Input;
use runtime::clock;
use runtime::coordinator::Handle;
use tokio::time::sleep;
use tracing::warn;

use crate::machine::Engine;

/// How often the process looks whether it runs.
const EVERY: Duration = Duration::from_millis(500);

/// For how long it may not have run: within less no host gives an engine up whose connections are whole (a host waits five
/// seconds for the answer to a ping).
const PATIENCE: Duration = Duration::from_secs(5);

/// See the module. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Pulse(Arc<Mutex<Beats>>);

#[derive(Debug, Default)]
struct Beats {
    /// When it was last seen to run; none before [`Pulse::run`].
    last: Option<Duration>,
    standstills: u64,
}

impl Pulse {
    /// It runs. How often it has stood still before: whoever asks first after a standstill is told already.
    pub(crate) fn beat(&self) -> u64 {
        self.beat_at(clock::since_boot(), false)
    }

    fn beat_at(&self, now: Duration, begins: bool) -> u64 {
        // No code that holds it can panic, so a poisoned one is as good as any.
        let mut beats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = beats.last {
            let stood = now.saturating_sub(last);
            if stood > PATIENCE {
                beats.standstills += 1;
                warn!(
                    seconds = stood.as_secs(),
                    "the process stood still: its hosts are asked anew whose they are"
                );
            }
        }
        if begins || beats.last.is_some() {
            beats.last = Some(now);
        }
        beats.standstills
    }

    /// Beats, and tells the engine of each standstill. Runs until it is aborted.
    pub(crate) async fn run(self, engine: Handle<Engine>) {
        let mut known = self.beat_at(clock::since_boot(), true);
        loop {
            sleep(EVERY).await;
            let standstills = self.beat();
            if std::mem::replace(&mut known, standstills) != standstills {
                // Refused only while the engine ends, or reads its state anew, and asks its hosts by that.
                let _ = engine.send(Input::StoodStill).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standstill_is_seen_by_whoever_asks_first_and_counts_once() {
        let pulse = Pulse::default();
        let at = |seconds, begins| pulse.beat_at(Duration::from_secs(seconds), begins);
        assert_eq!(at(0, false), 0);
        assert_eq!(at(100, true), 0, "nobody has looked before");
        assert_eq!(at(105, false), 0);
        assert_eq!(at(111, false), 1);
        assert_eq!((at(111, false), at(116, false)), (1, 1));
        assert_eq!(at(200, false), 2);
    }
}
