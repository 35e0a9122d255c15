//! Has the engine look, every second, whether commands that wait for their locks have waited for as long as they may.
//! While none waits, nothing is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use engine_core::Input;
use runtime::ages::Ages;
use runtime::coordinator::Handle;

use crate::machine::Engine;

/// How often. A wait that is given in seconds ends within one more.
const INTERVAL: Duration = Duration::from_secs(1);

/// How many commands wait for their locks, as committed. Cheap to clone; all clones are one count.
#[derive(Debug, Clone, Default)]
pub struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    /// Notes how many wait from now on.
    pub(crate) fn note(&self, count: usize) {
        self.0.store(count, Ordering::Relaxed);
    }
}

/// Runs until it is aborted, or the engine stops.
pub(crate) async fn run(engine: Handle<Engine>, ages: Ages, waiting: Waiting) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if waiting.0.load(Ordering::Relaxed) == 0 {
            continue;
        }
        let present = ages.present();
        // Where the store does not answer now, it is looked again.
        let _ = engine.call(Input::LockWaitsChecked { present }).await;
    }
}
