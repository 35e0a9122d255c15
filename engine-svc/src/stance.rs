//! Says in the log whether this start of the engine may act, for as long as it may not.

use std::time::Duration;

use common::fault::{Fault, FaultCode};
use engine_core::Stance;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

/// How often that is said.
const REMINDER: Duration = Duration::from_secs(60);

/// What is so before the engine has taken its first input.
pub(crate) fn not_begun() -> Stance {
    Stance::Undecided(Fault::new(FaultCode::Loading, "the engine has not begun"))
}

/// Tells of each change, and once a minute that nothing is taken. Ends with whoever decides it.
pub(crate) async fn log_changes(mut stances: watch::Receiver<Stance>) {
    let mut was_over = false;
    loop {
        let now = stances.borrow_and_update().clone();
        match &now {
            Stance::Over(fault) => warn!(%fault, "this engine accepts no command but TakeOverHost"),
            Stance::Acts if was_over => info!("this engine accepts commands again"),
            Stance::Acts | Stance::Undecided(_) => {}
        }
        was_over = matches!(now, Stance::Over(_));
        let changed = match &now {
            Stance::Acts => stances.changed().await,
            Stance::Over(_) => match timeout(REMINDER, stances.changed()).await {
                Ok(changed) => changed,
                Err(_) => continue,
            },
            // A start needs a moment.
            Stance::Undecided(fault) => loop {
                tokio::select! {
                    biased;
                    changed = stances.changed() => break changed,
                    () = sleep(REMINDER) => warn!(%fault, "this engine accepts no commands yet"),
                }
            },
        };
        if changed.is_err() {
            return;
        }
    }
}
