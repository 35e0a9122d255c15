//! What a command does next: its verb is asked whenever something about the command has changed, and then its
//! parent's verb, if that changed the parent's view.

use std::sync::Arc;

use common::id::CommandId;

use super::tx::Tx;
use crate::change::Change;
use crate::model::{
    AsyncTask, Command, CommandEvent, CommandParameters as _, CommandState, EventCode, IllegalMove, Purpose,
};
use crate::plan::{self, Awaits, End, NewTask, Next, Rest, Work};
use crate::state::State;

impl Tx<'_> {
    /// Carries a command forward as far as its verb says, then its ancestors. A call with nothing to do is harmless.
    pub(super) fn decide(&mut self, id: CommandId) {
        let mut at = Some(id);
        while let Some(id) = at.filter(|_| !self.is_refused()) {
            at = self.decide_one(id);
        }
    }

    /// Returns the parent if there is a reason to ask it. A command that waits for its locks has nothing to decide.
    fn decide_one(&mut self, id: CommandId) -> Option<CommandId> {
        if self.state.command(id)?.state == CommandState::Pending {
            return None;
        }
        let before = self.standing(id)?;
        loop {
            let command = self.state.command(id)?;
            let next = plan::next(self.state, command, self.now);
            if !self.take(id, next) || self.is_refused() {
                break;
            }
        }
        let after = self.standing(id);
        let parent = self.state.command(id)?.parent;
        parent.filter(|_| after != Some(before))
    }

    /// The part of a command's state that its parent depends on; none once the command is over.
    fn standing(&self, id: CommandId) -> Option<(CommandState, bool)> {
        let command = self.state.command(id)?;
        (!command.state.is_terminal()).then_some((command.state, command.fault.is_some()))
    }

    /// Performs a verb's answer. Returns whether the verb must be asked again.
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
        let event = working(self.state, command);
        let resumed =
            (command.state == CommandState::NeedsAttention && command.is_root()).then(|| command.clone());
        let waiting = match &command.waiting_for {
            Some(present) if present.what == awaits.what => present.clone(),
            _ => awaits.since(self.now),
        };
        self.move_command(id, event, |command| command.waiting_for = Some(waiting));
        if let Some(command) = resumed {
            let message = format!("{}: goes on", command.parameters.describe());
            self.emit(EventCode::CommandResumed, &command, "", message);
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
        self.work_on(id);
        for task_id in abort {
            self.edit_task(task_id, |task| task.abort_wanted = true);
            self.ask(task_id);
        }
    }

    /// Sets a command to work or to undo, as its verb says.
    pub(super) fn work_on(&mut self, id: CommandId) {
        if let Some(event) = self.state.command(id).map(|command| working(self.state, command)) {
            self.move_command(id, event, |_| ());
        }
    }

    /// Records a task of the command; the host is asked for the task once the record is durable.
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
        // A store may have kept only the first of several revisions of a change: then the task exists already.
        if self.state.task(task_id).is_none() {
            task.tree_sequence = self.next_tree_sequence(task.root.unwrap_or(id));
            if purpose == Purpose::Do && place.turn > 1 {
                self.emit_sent_again(id, &task);
            }
            self.put(Change::Task(Arc::new(task)));
        }
        self.edit_command(id, |command| command.tasks.push(task_id));
        self.ask(task_id);
    }

    fn emit_sent_again(&mut self, id: CommandId, task: &AsyncTask) {
        let Some(command) = self.state.command(id).cloned() else {
            return;
        };
        let (host_id, task_id) = (task.host_id, task.id);
        let operation = task
            .operation
            .as_ref()
            .map_or_else(String::new, |op| format!(" ({})", op.summary()));
        let host = self.state.named_host(host_id);
        let message = format!(
            "{host} restarted during a task{operation} and undid it; the operation is sent again as task {task_id}"
        );
        self.emit(EventCode::TaskSentAgain, &command, "", message);
    }

    pub(super) fn rest(&mut self, id: CommandId, rest: Rest) {
        self.put_all(rest.inventory);
        let waiting = self.attention(rest.attention.clone());
        self.move_command(id, CommandEvent::Rest, |command| {
            command.waiting_for = Some(waiting);
            if rest.bound_to_fail {
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
        let message = format!("{}: {}", command.parameters.describe(), rest.attention);
        self.emit(EventCode::CommandNeedsAttention, &command, "", message);
    }

    fn end(&mut self, id: CommandId, end: End) {
        self.put_all(end.inventory);
        let now = self.now;
        let began = self
            .state
            .command(id)
            .is_some_and(|command| command.state != CommandState::Pending);
        let outcomes = self
            .state
            .command(id)
            .map(|command| plan::outcomes(self.state, command));
        let Some(event) = CommandEvent::to(end.state) else {
            let root = self.state.command(id).map(|command| command.root);
            return self.refuse(root, IllegalMove::CommandSet(id));
        };
        self.move_command(id, event, |command| {
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
            self.emit_end(&root);
            if began {
                self.root_ended(&root);
            }
        }
    }

    pub(super) fn parent_of(&self, id: CommandId) -> Option<CommandId> {
        self.state
            .command(id)
            .and_then(|command: &Command| command.parent)
    }
}

/// The event by which a command that is not over works: it goes on, or undoes.
pub(super) fn working(state: &State, command: &Command) -> CommandEvent {
    CommandEvent::to(plan::working_state(state, command)).unwrap_or(CommandEvent::Work)
}
