//! Has the engine check every second which commands have waited for their locks as long as they may. While no command
//! waits, nothing is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use engine_core::Input;
use runtime::ages::Ages;
use runtime::coordinator::Handle;
use tokio::time::Instant;

use crate::machine::Engine;

/// How often the engine checks. A wait, which is given in seconds, ends at most one second late.
const INTERVAL: Duration = Duration::from_secs(1);

/// The number of commands that wait for their locks, as committed. Cheap to clone; all clones share one count.
#[derive(Debug, Clone, Default)]
pub struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    /// Records how many commands wait.
    pub(crate) fn note(&self, count: usize) {
        self.0.store(count, Ordering::Relaxed);
    }
}

/// Runs until it is aborted, or the engine stops.
pub(crate) async fn run(engine: Handle<Engine>, ages: Ages, waiting: Waiting) {
    let began = Instant::now();
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if waiting.0.load(Ordering::Relaxed) == 0 {
            continue;
        }
        let present = ages.present();
        let running = began.elapsed();
        // If the store does not answer now, the next check does it.
        let _ = engine.call(Input::LockWaitsChecked { present, running }).await;
    }
}
