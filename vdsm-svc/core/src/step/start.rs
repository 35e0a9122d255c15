//! StartTask: an operation is accepted once, however often the call is repeated.

use std::sync::Arc;

use common::fault::{Fault, FaultCode};
use common::operation::Operation;
use common::task::TaskEvent;

use super::{Tx, task};
use crate::change::{Refusal, Reply};
use crate::input::Start;
use crate::state::lane;
use crate::task::{Asked, Task};

impl Tx<'_> {
    /// Accepts an operation, and runs it at once if possible: INIT, PREPARING, QUEUED and RUNNING are then
    /// transitions of one revision, so that accepting costs one commit and one record.
    pub(super) fn start(&mut self, start: Start) -> Reply {
        let Start {
            caller,
            task_id: id,
            operation,
            correlation_id,
            known,
        } = start;
        self.admit(&caller)?;
        if let Some(accepted) = self.state.live(id) {
            let known = again(accepted, &operation)?;
            return self.asked_again(known);
        }
        if let Some(accepted) = self.state.recent.resolve(id, known)? {
            return task(again(accepted, &operation)?);
        }
        self.has_room()?;
        let engine_id = caller.engine.map(|engine| engine.engine_id);
        let ordinal = self.state.next_ordinal;
        let asked = Asked {
            start: self.state.start,
            engine_id,
            correlation_id,
        };
        let init = Task::init(ordinal, id, Some(operation), asked, self.now);
        let init = self.shown(init);
        let mut preparing = self.edge(init, TaskEvent::Accept)?;
        let outlook = self.outlook(&preparing);
        Arc::make_mut(&mut preparing).waiting_for = outlook;
        let queued = self.edge(preparing, TaskEvent::Enqueue)?;
        self.start_all_whose_turn_it_is();
        task(self.state.at(ordinal).cloned().unwrap_or(queued))
    }

    /// Lets a task continue that an earlier start accepted and that is held.
    fn asked_again(&mut self, mut known: Arc<Task>) -> Reply {
        if !known.is_held_in(self.state.start) {
            return task(known);
        }
        let (ordinal, outlook) = (known.ordinal, self.outlook(&known));
        let asked = Arc::make_mut(&mut known);
        asked.asked_in = Some(self.state.start);
        asked.held = false;
        asked.waiting_for = outlook;
        let queued = self.show(known);
        self.start_all_whose_turn_it_is();
        task(self.state.at(ordinal).cloned().unwrap_or(queued))
    }

    fn has_room(&self) -> Result<(), Refusal> {
        let queue = self.state.run_queue.limits().queue;
        if self.state.waiting() < queue {
            return Ok(());
        }
        Err(Refusal::Fault(Fault::new(
            FaultCode::QueueFull,
            format!("{queue} tasks are already waiting on this host: send this one again later"),
        )))
    }

    /// What a new task will wait for first, for people.
    fn outlook(&self, task: &Task) -> String {
        let obstacle = task
            .operation
            .as_ref()
            .and_then(|op| self.state.locks.obstacle(op));
        if let Some((key, holder)) = obstacle {
            return format!("{key}, which {} holds or asked for first", self.named(holder));
        }
        let limits = self.state.run_queue.limits();
        let (host, domain) = (limits.running_per_host, limits.running_per_domain);
        match lane(task).filter(|lane| self.state.running_in(*lane) >= domain) {
            Some(lane) => format!("its turn: {domain} operations run on storage domain {lane}"),
            None if self.state.running() >= host => format!("its turn: {host} operations run on this host"),
            None => "its turn".into(),
        }
    }
}

fn again(known: Arc<Task>, operation: &Operation) -> Result<Arc<Task>, Refusal> {
    match &known.operation {
        Some(accepted) if accepted != operation => Err(Refusal::Fault(
            Fault::new(
                FaultCode::TaskIdReused,
                format!(
                    "task {} was accepted for another operation ({}): choose a new id",
                    known.id,
                    accepted.name()
                ),
            )
            .about(known.id),
        )),
        _ => Ok(known),
    }
}
