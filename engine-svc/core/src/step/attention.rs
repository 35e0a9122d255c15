//! Commands that need somebody: when they do, and what an operator can have done.

use common::id::{CommandId, TaskId};
use common::{Fault, FaultCode};

use super::Reply;
use super::tx::Tx;
use crate::input::Tried;
use crate::model::{Command, CommandState, EventCode};
use crate::plan::{self, Rest};

impl Tx<'_> {
    /// Tried on a connected host as often as allowed, without a verdict.
    pub(super) fn retries_spent(&mut self, what: Tried, last: &Fault) {
        let message = format!("tried as often as allowed; the last answer was: {last}");
        let fault = Fault::new(FaultCode::RetriesSpent, message).about(&last.subject);
        match what {
            Tried::Task(task_id) => self.needs_somebody(task_id, fault),
            Tried::Call(id) => {
                let waits = self.state.command(id).filter(|c| plan::call(c).is_some());
                if waits.is_some_and(|c| c.state != CommandState::NeedsAttention) {
                    let attention = fault;
                    self.rest(
                        id,
                        Rest {
                            attention,
                            doomed: false,
                            inventory: Vec::new(),
                        },
                    );
                }
            }
        }
    }

    /// A task of ours that is not over can only go on if somebody does something; its command rests.
    pub(super) fn needs_somebody(&mut self, task_id: TaskId, fault: Fault) {
        let Some(task) = self.state.task(task_id) else {
            return;
        };
        let Some(command) = task
            .command
            .filter(|_| task.is_open() && task.attention().is_none())
        else {
            return;
        };
        let waiting = self.attention(fault);
        self.edit_task(task_id, |task| task.waiting_for = Some(waiting));
        self.decide(command);
    }

    pub(super) fn retry(&mut self, id: CommandId, user: &str) -> Reply {
        let root = match self.resting_root(id) {
            Ok(root) => root.clone(),
            Err(fault) => return Reply::Refused(fault),
        };
        let message = format!("{}: {user} had it tried again", plan::describe(&root.parameters));
        self.tell(EventCode::CommandRetried, &root, user, message);
        let resting = |part: &CommandId| {
            self.state
                .command(*part)
                .is_some_and(|c| c.state == CommandState::NeedsAttention)
        };
        let parts: Vec<CommandId> = self.state.tree_of(id).into_iter().filter(resting).collect();
        for part in parts.iter().rev() {
            self.try_again(*part);
        }
        for part in parts.iter().rev() {
            self.decide(*part);
        }
        self.present(root)
    }

    fn try_again(&mut self, id: CommandId) {
        let Some(command) = self.state.command(id) else {
            return;
        };
        let tasks = command.tasks.clone();
        let calls = plan::call(command).is_some();
        // A new attempt is for what is over; what is still open is only asked for again.
        let over = command
            .tasks
            .last()
            .and_then(|task| self.state.task(*task))
            .is_some_and(|task| !task.is_open());
        let state = plan::working_state(self.state, command);
        self.edit_command(id, |command| {
            command.attempt += u32::from(over || command.is_root());
            command.state = state;
        });
        for task_id in tasks {
            if self
                .state
                .task(task_id)
                .is_some_and(|task| task.attention().is_some())
            {
                self.settle_down(task_id);
                self.ask(task_id);
            }
        }
        if calls {
            self.call_again(id);
        }
    }

    pub(super) fn abandon(&mut self, id: CommandId, user: &str, reason: &str) -> Reply {
        let root = match self.resting_root(id).and_then(|root| self.nothing_runs(root)) {
            Ok(root) => root.clone(),
            Err(fault) => return Reply::Refused(fault),
        };
        let message = format!("given up by {user}: {reason}");
        let abandoned = Fault::new(FaultCode::Abandoned, message);
        for part in self.state.tree_of(id).into_iter().rev() {
            self.give_up(part, user, &abandoned);
        }
        if let Some(root) = self.state.command(id).cloned() {
            self.root_ended(&root);
        }
        self.present(root)
    }

    /// Bottom up, so that each names what its parts leave behind as well.
    fn give_up(&mut self, id: CommandId, user: &str, abandoned: &Fault) {
        let Some(command) = self
            .state
            .command(id)
            .filter(|command| !command.state.is_terminal())
        else {
            return;
        };
        let mut left = plan::leftovers(self.state, command);
        let children = command
            .children
            .iter()
            .filter_map(|child| self.state.command(*child));
        left.extend(children.flat_map(|child| child.left_behind.iter().cloned()));
        left.sort();
        left.dedup();
        let outcomes = plan::outcomes(self.state, command);
        let now = self.now;
        self.edit_command(id, |command| {
            command.state = CommandState::Failed;
            command.fault.get_or_insert_with(|| abandoned.clone());
            command.abandoned_by = Some(user.to_owned());
            command.left_behind = left;
            command.outcomes = outcomes;
            command.waiting_for = None;
            command.ended = Some(now);
        });
    }

    fn resting_root(&self, id: CommandId) -> Result<&Command, Fault> {
        let root = self.unfinished_root(id)?;
        if root.state == CommandState::NeedsAttention {
            return Ok(root);
        }
        let message = "the command does not need attention: it goes on by itself";
        Err(Fault::new(FaultCode::CommandNotResting, message).about("command_id"))
    }

    fn nothing_runs<'a>(&self, root: &'a Command) -> Result<&'a Command, Fault> {
        let mut tasks = self
            .state
            .tree_of(root.id)
            .into_iter()
            .filter_map(|id| self.state.command(id));
        let running = tasks.find_map(|command| {
            command
                .tasks
                .iter()
                .find(|task| self.state.task(**task).is_some_and(|task| task.is_open()))
                .copied()
        });
        match running {
            None => Ok(root),
            Some(task) => {
                let message = format!("task {task} may still run; cancel the command, or wait for its host");
                Err(Fault::new(FaultCode::TaskMayRun, message).about(format!("task {task}")))
            }
        }
    }
}
