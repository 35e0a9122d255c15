//! Cancelling: the request to stop is recorded and reaches every descendant. The hosts decide the race against the
//! work.

use common::id::{CommandId, TaskId};
use common::{Fault, FaultCode};

use super::Reply;
use super::tx::Tx;
use crate::model::{AsyncTask, Command, CommandParameters as _, CommandState, EventCode, Purpose};
use crate::plan;

impl Tx<'_> {
    pub(super) fn cancel(&mut self, id: CommandId, user: &str) -> Reply {
        let root = self.unfinished_root(id);
        let root = match root.and_then(|root| self.may_act_on(root).map(|()| root)) {
            Ok(root) => root.clone(),
            Err(fault) => return Reply::Refused(fault),
        };
        if !root.cancel_requested {
            let message = format!(
                "{}: {user} requested its cancellation",
                root.parameters.describe()
            );
            self.emit(EventCode::CommandCancelRequested, &root, user, message);
            for part in self.state.tree_of(id) {
                self.wish_stopped(part);
            }
            if root.state == CommandState::Pending {
                self.end_waiting(id, None);
                return self.present(root);
            }
            self.stop_call(id);
            // A part that rested because its task got no answer now has something new to wait for.
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
        // An undo is never stopped.
        let task = task
            .filter(|task| task.is_open() && task.purpose == Purpose::Do)
            .map(|task| task.id);
        self.edit_command(id, |command| command.cancel_requested = true);
        if let Some(task_id) = task {
            self.edit_task(task_id, |task| task.abort_wanted = true);
            // What rests because its host is somebody else's can be sent to nobody before that has changed.
            let host_id = self.state.task(task_id).map(|task| task.host_id);
            if host_id.is_none_or(|host_id| self.state.somebody_elses(host_id).is_none()) {
                self.settle_down(task_id);
            }
            self.ask(task_id);
        }
    }

    /// A command that calls its host ends at once if the host cannot have heard of it; otherwise it makes the
    /// opposite call, if there is one.
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

    /// The root of this id, if it is unfinished.
    pub(super) fn unfinished_root(&self, id: CommandId) -> Result<&Command, Fault> {
        match self.state.command(id) {
            Some(command) if command.is_root() && !command.state.is_terminal() => Ok(command),
            Some(command) => Err(not_to_be_asked(id, Some(command.root))),
            None => Err(not_to_be_asked(id, self.state.remembers(id).then_some(id))),
        }
    }

    /// The answer with a command as it is now.
    pub(super) fn present(&self, before: Command) -> Reply {
        let command = self.state.command(before.id).cloned().unwrap_or(before);
        Reply::Accepted {
            command_id: command.id,
            command: Some(Box::new(command)),
            repeat: false,
        }
    }

    /// The task that needed an operator has got what it needed, or may have got it.
    pub(super) fn settle_down(&mut self, task_id: TaskId) {
        let Some(task) = self.state.task(task_id).filter(|task| task.attention().is_some()) else {
            return;
        };
        let waiting = AsyncTask::waits_for(task.async_state, task.host_id, "", self.now);
        self.edit_task(task_id, |task| task.waiting_for = waiting);
    }
}

/// Why nothing can be asked of a command that is not an unfinished root. `root` is the root of the command's tree, if
/// the command exists; a command that is its own root has ended.
pub fn not_to_be_asked(id: CommandId, root: Option<CommandId>) -> Fault {
    let fault = match root {
        Some(root) if root == id => Fault::new(FaultCode::CommandEnded, format!("command {id} has ended")),
        Some(root) => Fault::new(
            FaultCode::CommandNotRoot,
            format!("command {id} is a part of command {root}; name that one instead"),
        ),
        None => Fault::missing(
            FaultCode::CommandNotFound,
            format_args!("command {id}"),
            "it may have expired",
        ),
    };
    fault.about("command_id")
}

#[cfg(test)]
mod tests {
    use common::FaultCode;

    use crate::input::Input;
    use crate::step::Reply;
    use crate::testing::{World, command_id, create_vm};

    #[test]
    fn nothing_is_asked_but_of_a_root_that_has_not_ended() {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateVm", create_vm(1, [1], 0));
        let part = world.root(1).children[0];
        let asked = |world: &mut World, command_id| {
            let user = "ann".to_owned();
            match world.step(Input::Cancel { command_id, user }).reply {
                Reply::Refused(fault) => Some(fault),
                _ => None,
            }
        };
        let fault = asked(&mut world, part).expect("it is a part");
        assert_eq!(fault.code, FaultCode::CommandNotRoot);
        assert!(fault.message.contains(&command_id(1).to_string()), "{fault}");
        world.settle();
        for (id, code) in [
            (command_id(1), FaultCode::CommandEnded),
            (command_id(9), FaultCode::CommandNotFound),
        ] {
            let fault = asked(&mut world, id).expect("it is no command at work");
            assert_eq!((fault.code, fault.subject.as_str()), (code, "command_id"));
        }
        // The shell asks like this about commands that only the store has.
        assert_eq!(
            super::not_to_be_asked(part, Some(command_id(1))).code,
            FaultCode::CommandNotRoot
        );
    }
}
