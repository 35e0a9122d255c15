//! What now? Asked of a command whenever something about it has changed, and of its parent when that changed it.

use std::sync::Arc;

use common::id::CommandId;

use super::tx::Tx;
use crate::change::Change;
use crate::model::{AsyncTask, Command, CommandState, EventCode, Purpose};
use crate::plan::{self, Awaits, End, NewTask, Next, Rest, Work};

impl Tx<'_> {
    /// Carries a command forward as far as its verb says, then its ancestors. Harmless when nothing is to be done.
    pub(super) fn decide(&mut self, id: CommandId) {
        let mut at = Some(id);
        while let Some(id) = at {
            at = self.decide_one(id);
        }
    }

    /// Returns the parent if it has a reason to be asked.
    fn decide_one(&mut self, id: CommandId) -> Option<CommandId> {
        let before = self.standing(id)?;
        loop {
            let command = self.state.command(id)?;
            let next = plan::next(self.state, command, self.now);
            if !self.take(id, next) {
                break;
            }
        }
        let after = self.standing(id);
        let parent = self.state.command(id)?.parent;
        parent.filter(|_| after != Some(before))
    }

    /// What a parent cares for: none once it is over.
    fn standing(&self, id: CommandId) -> Option<(CommandState, bool)> {
        let command = self.state.command(id)?;
        (!command.state.is_terminal()).then_some((command.state, command.fault.is_some()))
    }

    /// Does what a verb said; whether the verb is to be asked again.
    pub(super) fn take(&mut self, id: CommandId, next: Next) -> bool {
        match next {
            Next::Stay => false,
            Next::Wait(awaits) => {
                self.wait(id, awaits);
                false
            }
            Next::Work(work) => {
                self.work(id, work);
                true
            }
            Next::Rest(rest) => {
                self.rest(id, rest);
                false
            }
            Next::End(end) => {
                self.end(id, *end);
                false
            }
        }
    }

    fn wait(&mut self, id: CommandId, awaits: Awaits) {
        let Some(command) = self.state.command(id) else {
            return;
        };
        let state = plan::working_state(self.state, command);
        let resumed =
            (command.state == CommandState::NeedsAttention && command.is_root()).then(|| command.clone());
        let waiting = match &command.waiting_for {
            Some(present) if present.what == awaits.what => present.clone(),
            _ => awaits.since(self.now),
        };
        self.edit_command(id, |command| {
            command.state = state;
            command.waiting_for = Some(waiting);
        });
        if let Some(command) = resumed {
            let message = format!("{}: goes on", plan::describe(&command.parameters));
            self.tell(EventCode::CommandResumed, &command, "", message);
        }
    }

    fn work(&mut self, id: CommandId, work: Work) {
        let Work { fault, abort, start } = work;
        for new in start {
            self.start(id, new);
        }
        if let Some(fault) = fault {
            self.edit_command(id, |command| {
                command.fault.get_or_insert(fault);
            });
        }
        let state = self
            .state
            .command(id)
            .map(|command| plan::working_state(self.state, command));
        self.edit_command(id, |command| command.state = state.unwrap_or(command.state));
        for task_id in abort {
            self.edit_task(task_id, |task| task.abort_wanted = true);
            self.ask(task_id);
        }
    }

    /// Records a task of the command; its host is asked once that is durable.
    fn start(&mut self, id: CommandId, new: NewTask) {
        let Some(command) = self.state.command(id) else {
            return;
        };
        let NewTask {
            purpose,
            place,
            planned,
        } = new;
        let seq = self.next_seq();
        let mut task = plan::new_task(self.state, command, purpose, place, planned, seq, self.now);
        let task_id = task.id;
        // Of a change that took several revisions a store may have kept only the first: then the task is there.
        if self.state.task(task_id).is_none() {
            task.tree_sequence = self.next_tree_sequence(task.root.unwrap_or(id));
            if purpose == Purpose::Do && place.turn > 1 {
                self.tell_again(id, &task);
            }
            self.put(Change::Task(Arc::new(task)));
        }
        self.edit_command(id, |command| command.tasks.push(task_id));
        self.ask(task_id);
    }

    fn tell_again(&mut self, id: CommandId, task: &AsyncTask) {
        let Some(command) = self.state.command(id).cloned() else {
            return;
        };
        let (host_id, task_id) = (task.host_id, task.id);
        let message =
            format!("host {host_id} was restarted under a task and undid it; it is sent again as {task_id}");
        self.tell(EventCode::TaskSentAgain, &command, "", message);
    }

    pub(super) fn rest(&mut self, id: CommandId, rest: Rest) {
        self.put_all(rest.inventory);
        let waiting = self.attention(rest.attention.clone());
        self.edit_command(id, |command| {
            command.state = CommandState::NeedsAttention;
            command.waiting_for = Some(waiting);
            if rest.doomed {
                command.fault.get_or_insert(rest.attention.clone());
            }
        });
        let Some(command) = self
            .state
            .command(id)
            .filter(|command| command.is_root())
            .cloned()
        else {
            return;
        };
        let message = format!("{}: {}", plan::describe(&command.parameters), rest.attention);
        self.tell(EventCode::CommandNeedsAttention, &command, "", message);
    }

    fn end(&mut self, id: CommandId, end: End) {
        self.put_all(end.inventory);
        let now = self.now;
        let outcomes = self
            .state
            .command(id)
            .map(|command| plan::outcomes(self.state, command));
        self.edit_command(id, |command| {
            command.state = end.state;
            if let Some(fault) = end.fault {
                command.fault.get_or_insert(fault);
            }
            command.left_behind = end.left_behind;
            command.outcomes = outcomes.unwrap_or_default();
            command.waiting_for = None;
            command.ended = Some(now);
        });
        if let Some(root) = self
            .state
            .command(id)
            .filter(|command| command.is_root())
            .cloned()
        {
            self.root_ended(&root);
        }
    }

    pub(super) fn parent_of(&self, id: CommandId) -> Option<CommandId> {
        self.state
            .command(id)
            .and_then(|command: &Command| command.parent)
    }
}
