//! Cancelling: a wish, kept durably, that reaches every descendant. The hosts decide the race.

use common::id::{CommandId, TaskId};
use common::{Fault, FaultCode};

use super::Reply;
use super::tx::Tx;
use crate::model::{AsyncTask, Command, CommandParameters as _, EventCode, Purpose};
use crate::plan;

impl Tx<'_> {
    pub(super) fn cancel(&mut self, id: CommandId, user: &str) -> Reply {
        let root = self.unfinished_root(id);
        let root = match root.and_then(|root| self.may_act_on(root).map(|()| root)) {
            Ok(root) => root.clone(),
            Err(fault) => return Reply::Refused(fault),
        };
        if !root.cancel_requested {
            let message = format!("{}: {user} asked that it be stopped", root.parameters.describe());
            self.tell(EventCode::CommandCancelRequested, &root, user, message);
            for part in self.state.tree_of(id) {
                self.wish_stopped(part);
            }
            self.stop_call(id);
            // A part that rested because its task got no answer has something new to wait for.
            for part in self.state.tree_of(id).into_iter().rev() {
                self.decide(part);
            }
        }
        self.present(root)
    }

    fn wish_stopped(&mut self, id: CommandId) {
        let Some(command) = self
            .state
            .command(id)
            .filter(|command| !command.state.is_terminal())
        else {
            return;
        };
        let task = command.tasks.last().and_then(|task| self.state.task(*task));
        // What undoes is never stopped.
        let task = task
            .filter(|task| task.is_open() && task.purpose == Purpose::Do)
            .map(|task| task.id);
        self.edit_command(id, |command| command.cancel_requested = true);
        if let Some(task_id) = task {
            self.edit_task(task_id, |task| task.abort_wanted = true);
            self.settle_down(task_id);
            self.ask(task_id);
        }
    }

    /// A command that calls its host ends at once where the host cannot have heard of it; otherwise it calls for
    /// the opposite, where there is one.
    fn stop_call(&mut self, id: CommandId) {
        let Some(command) = self.state.command(id) else {
            return;
        };
        if let Some(next) = plan::stopped_unheard(command) {
            self.take(id, next);
        } else if command.parameters.called_host().is_some() {
            self.call_again(id);
        }
    }

    /// The root, if there is such an unfinished one.
    pub(super) fn unfinished_root(&self, id: CommandId) -> Result<&Command, Fault> {
        let ended =
            || Fault::new(FaultCode::CommandEnded, format!("command {id} has ended")).about("command_id");
        match self.state.command(id) {
            Some(command) if !command.is_root() => {
                let message = format!("command {id} is a part of command {}; ask that one", command.root);
                Err(Fault::new(FaultCode::CommandNotRoot, message).about("command_id"))
            }
            Some(command) if command.state.is_terminal() => Err(ended()),
            Some(command) => Ok(command),
            None if self.state.remembers(id) => Err(ended()),
            None => {
                let message =
                    format!("there is no command {id}; it may have been forgotten because of its age");
                Err(Fault::new(FaultCode::CommandNotFound, message).about("command_id"))
            }
        }
    }

    /// A command as it now is, for the one who asked.
    pub(super) fn present(&self, before: Command) -> Reply {
        let command = self.state.command(before.id).cloned().unwrap_or(before);
        Reply::Accepted {
            command_id: command.id,
            command: Some(Box::new(command)),
            repeat: false,
        }
    }

    /// A task that needed somebody has got what it needed, or may have.
    pub(super) fn settle_down(&mut self, task_id: TaskId) {
        let Some(task) = self.state.task(task_id).filter(|task| task.attention().is_some()) else {
            return;
        };
        let waiting = AsyncTask::waits_for(task.async_state, task.host_id, "", self.now);
        self.edit_task(task_id, |task| task.waiting_for = waiting);
    }
}
