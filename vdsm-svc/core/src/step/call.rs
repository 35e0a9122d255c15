//! Calls that change storage outside of any task: they block tasks while they run, and never wait for one.

use common::fault::{Fault, FaultCode};

use super::Tx;
use crate::change::{Answer, Refusal, Reply};
use crate::input::Caller;
use crate::lock::{CallId, Holder, Key};

impl Tx<'_> {
    pub(super) fn hold(&mut self, caller: Caller, call: CallId, keys: &[Key]) -> Reply {
        self.admit(&caller)?;
        match self.state.locks.hold(call, keys) {
            Ok(()) => Ok(Answer::Done),
            Err((key, holder)) => Err(self.busy(key, holder)),
        }
    }

    pub(super) fn let_go(&mut self, call: CallId) -> Reply {
        let granted = self.state.locks.let_go(call);
        self.state.granted(granted);
        Ok(Answer::Done)
    }

    fn busy(&self, key: Key, holder: Holder) -> Refusal {
        let holder = self.named(holder);
        let subject = match key {
            Key::Domain(domain) => domain.to_string(),
            Key::Image(_, image) => image.to_string(),
        };
        let message = format!("{key} is held by {holder}: try again when that has ended");
        Refusal::Fault(Fault::new(FaultCode::EntityBusy, message).about(subject))
    }

    /// A description of a holder, by which people can find it.
    pub(super) fn named(&self, holder: Holder) -> String {
        match holder {
            Holder::Call(_) => "a call".to_owned(),
            Holder::Task(ordinal, _) => match self.state.at(ordinal) {
                Some(task) if task.correlation_id.is_empty() => format!("task {}", task.id),
                Some(task) => format!("task {} (correlation id {})", task.id, task.correlation_id),
                None => "a task".to_owned(),
            },
        }
    }
}
