//! Logs whether this start of the engine may act, for as long as it may not.

use std::time::Duration;

use common::fault::{Fault, FaultCode};
use engine_core::Stance;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

/// How often the log repeats it.
const REMINDER: Duration = Duration::from_secs(60);

/// The stance before the engine's first input.
pub(crate) fn not_begun() -> Stance {
    Stance::Undecided(Fault::new(FaultCode::Loading, "the engine has not begun"))
}

/// Logs each change, and once a minute that no commands are accepted. Ends when the sender is gone.
pub(crate) async fn log_changes(mut stances: watch::Receiver<Stance>) {
    // When the next warning is due; none while the engine acts, and none before it has not acted for a moment.
    let mut due: Option<Instant> = None;
    let mut was_over = false;
    loop {
        let now = stances.borrow_and_update().clone();
        let is_over = matches!(now, Stance::Over(_));
        match &now {
            Stance::Acts => {
                if was_over {
                    info!("this engine accepts commands again");
                }
                due = None;
            }
            Stance::Over(_) if !was_over => due = Some(Instant::now()),
            // A start needs a moment; and the reason may change each second, if the other start starts that often.
            Stance::Over(_) | Stance::Undecided(_) => {
                due.get_or_insert_with(|| Instant::now() + REMINDER);
            }
        }
        was_over = is_over;
        let until = due.unwrap_or_else(|| Instant::now() + REMINDER);
        tokio::select! {
            biased;
            () = sleep_until(until), if due.is_some() => {
                match &now {
                    Stance::Over(fault) => warn!(%fault, "this engine accepts no command but TakeOverHost"),
                    Stance::Undecided(fault) => warn!(%fault, "this engine accepts no commands yet"),
                    Stance::Acts => {}
                }
                due = Some(Instant::now() + REMINDER);
            }
            changed = stances.changed() => if changed.is_err() {
                return;
            },
        }
    }
}
