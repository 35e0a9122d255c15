//! Hosts' answers to requests. Only verdicts arrive here; a broken connection says nothing.

use common::id::{CommandId, HostId, TaskId};
use common::{Fault, FaultCode};

use super::tx::Tx;
use crate::input::HostTask;
use crate::model::{
    AsyncTask, AsyncTaskEvent, AsyncTaskState, CommandParameters as _, CommandState, HostCall, Settled,
};
use crate::plan;
use crate::state::Life;

impl Tx<'_> {
    pub(super) fn start_accepted(&mut self, task_id: TaskId, by: Life, over: Option<Box<HostTask>>) {
        if !self.is_addressed(task_id, by) {
            return;
        }
        let now = self.now;
        let is_new = self
            .state
            .task(task_id)
            .is_some_and(|task| task.async_state == AsyncTaskState::Initializing);
        let events: &[_] = if is_new { &[AsyncTaskEvent::Accept] } else { &[] };
        self.move_task(task_id, events, |task| {
            task.met(Some(by.start));
            if is_new {
                task.store_id = Some(by.store_id);
                task.waiting_for = AsyncTask::waits_for(task.async_state, task.host_id, "", now);
            }
        });
        self.settle_down(task_id);
        self.answered_for(task_id, over);
    }

    pub(super) fn abort_accepted(&mut self, task_id: TaskId, by: Life, over: Option<Box<HostTask>>) {
        if self.is_addressed(task_id, by) {
            self.settle_down(task_id);
            self.answered_for(task_id, over);
        }
    }

    fn answered_for(&mut self, task_id: TaskId, over: Option<Box<HostTask>>) {
        if let Some(record) = over.filter(|record| record.id == task_id) {
            self.take_over(&record);
        }
        self.decide_for(task_id);
    }

    /// Whether an answer of this store concerns the task as it is addressed now.
    /// An answer of another life than the one that is connected comes too late: a directory that was put back since may not know of it,
    /// and the present life is asked again in any case.
    fn is_addressed(&self, task_id: TaskId, by: Life) -> bool {
        let task = self
            .state
            .task(task_id)
            .filter(|task| task.is_open() && task.command.is_some());
        task.is_some_and(|task| {
            task.store_id.is_none_or(|store| store == by.store_id)
                && self.state.volatile.connected.get(&task.host_id) == Some(&by)
        })
    }

    pub(super) fn start_refused(&mut self, task_id: TaskId, fault: Fault) {
        let Some(task) = self.state.task(task_id) else {
            return;
        };
        // A task that was seen at work was accepted, whatever the answer to a repeat says.
        let fits = task.async_state == AsyncTaskState::Initializing && task.reported.is_none();
        if !fits || task.command.is_none() || self.state.is_undecided(task) {
            return;
        }
        let now = self.now;
        self.move_task(task_id, &[AsyncTaskEvent::End], |task| {
            task.settled = Some(Settled::Refused);
            task.fault.get_or_insert(fault);
            task.ended = Some(now);
            task.waiting_for = None;
        });
        self.decide_for(task_id);
    }

    /// The task is past its point of no return and runs on; so it is wanted again if its host should no longer show
    /// it.
    pub(super) fn abort_refused(&mut self, task_id: TaskId) {
        let Some(task) = self.state.task(task_id) else {
            return;
        };
        if task.is_open() && task.abort_wanted && !self.state.is_undecided(task) {
            self.edit_task(task_id, |task| task.cancelable = false);
        }
    }

    pub(super) fn decide_for(&mut self, task_id: TaskId) {
        if let Some(command) = self.state.task(task_id).and_then(|task| task.command) {
            self.decide(command);
        }
    }

    /// Takes in the verdict on a call; a verdict on a call that is no longer wanted says nothing.
    pub(super) fn call_answered(&mut self, id: CommandId, call: &HostCall, result: Result<(), Fault>) {
        let Some(command) = self.state.command(id) else {
            return;
        };
        if plan::call(command).as_ref() != Some(call) || !command.call_sent {
            return;
        }
        let next = plan::answered(self.state, command, result);
        self.take(id, next);
    }

    /// Calls the host if it is connected; otherwise the next connection makes the call. Before the call goes out, the
    /// engine records that the host may have heard it.
    pub(super) fn call_if_connected(&mut self, id: CommandId) {
        let Some(command) = self.state.command(id) else {
            return;
        };
        let host = command.parameters.called_host();
        if host.is_some_and(|host| self.state.volatile.connected.contains_key(&host)) {
            self.call(id);
        }
    }

    pub(super) fn call(&mut self, id: CommandId) {
        self.edit_command(id, |command| command.call_sent = true);
        let effect = self
            .state
            .command(id)
            .and_then(|command| self.state.call_of(command));
        self.effects(effect);
    }

    /// Sets a calling command that rests to work, and has the call made that is due.
    pub(super) fn call_again(&mut self, id: CommandId) {
        let Some(command) = self
            .state
            .command(id)
            .filter(|command| !command.state.is_terminal())
        else {
            return;
        };
        let host = command.parameters.called_host();
        self.work_on(id);
        self.wait_for_host(id, host);
        self.call_if_connected(id);
    }

    fn wait_for_host(&mut self, id: CommandId, host: Option<HostId>) {
        let Some(host_id) = host else { return };
        let rests = self
            .state
            .command(id)
            .is_some_and(|command| command.state == CommandState::NeedsAttention);
        if !rests {
            self.take(id, plan::Next::Wait(plan::Awaits::host(host_id)));
        }
    }
}

/// Whether a fault says that the host is not, or no longer, this engine's host.
pub(super) fn is_about_identity(fault: &Fault) -> bool {
    matches!(
        fault.code,
        FaultCode::HostOwned | FaultCode::HostNotOwned | FaultCode::HostIdMismatch | FaultCode::EngineFenced
    )
}
