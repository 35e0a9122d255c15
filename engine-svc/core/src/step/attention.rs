//! Commands that need an operator: when that is so, and what the operator can have done.

use common::id::{CommandId, HostId, TaskId};
use common::{Fault, FaultCode};

use super::Reply;
use super::decide::working;
use super::tx::Tx;
use crate::input::Attempt;
use crate::model::{Command, CommandEvent, CommandParameters as _, CommandState, EntityKey, EventCode};
use crate::plan::{self, Rest};

impl Tx<'_> {
    /// The maximum number of tries was made on a connected host, without a verdict.
    pub(super) fn retries_spent(&mut self, what: Attempt, last: &Fault) {
        let message = format!("the maximum number of attempts was made; the last answer was: {last}");
        let fault = Fault::new(FaultCode::RetriesSpent, message).about(&last.subject);
        match what {
            Attempt::Task(task_id) => self.needs_somebody(task_id, fault),
            Attempt::Call(id) => {
                let waits = self.state.command(id).filter(|c| plan::call(c).is_some());
                if waits.is_some_and(|c| c.state != CommandState::NeedsAttention) {
                    let attention = fault;
                    self.rest(
                        id,
                        Rest {
                            attention,
                            bound_to_fail: false,
                            inventory: Vec::new(),
                        },
                    );
                }
            }
        }
    }

    /// A command that goes forward waits for the host; a command that undoes needs an operator.
    pub(super) fn connections_spent(&mut self, host_id: HostId, last: &Fault) {
        for id in self.state.calls_to(host_id) {
            let undoes = |command: &Command| command.state == CommandState::Compensating;
            if self.state.command(id).is_some_and(undoes) {
                self.retries_spent(Attempt::Call(id), last);
            }
        }
    }

    /// A task of this engine that is not over can only go on if somebody acts; its command rests.
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
        if let Some(fault) = self.out_of_reach(&root) {
            return Reply::Refused(fault);
        }
        let message = format!("{}: {user} requested a retry", root.parameters.describe());
        self.emit(EventCode::CommandRetried, &root, user, message);
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

    /// A part that waits for a host of another life, or of another engine, cannot be tried; it goes on by itself once the host is this
    /// engine's again.
    fn out_of_reach(&self, root: &Command) -> Option<Fault> {
        let parts = self.state.tree_of(root.id).into_iter();
        let parts = parts.filter_map(|id| self.state.command(id));
        let resting = parts.filter(|part| part.state == CommandState::NeedsAttention);
        let hosts = resting.flat_map(|part| {
            let tasks = part.tasks.iter().filter_map(|id| self.state.task(*id));
            let open = tasks.filter(|task| task.is_open()).map(|task| task.host_id);
            let takes_over = part.parameters.takes_over();
            open.chain(part.parameters.called_host().filter(|_| !takes_over))
        });
        let mut somebody_elses = hosts.filter_map(|id| Some((id, self.state.somebody_elses(id)?)));
        let (host_id, fault) = somebody_elses.next()?;
        let message = format!(
            "cannot retry on {}: {}",
            self.state.named_host(host_id),
            fault.message
        );
        Some(Fault::new(fault.code, message).about(EntityKey::Host(host_id)))
    }

    /// Refuses commands if this engine may not be the one that goes on. A take-over is allowed, because it is how a
    /// person decides that.
    pub(super) fn may_act_on(&self, root: &Command) -> Result<(), Fault> {
        match root.parameters.takes_over() {
            true => Ok(()),
            false => self.may_act(),
        }
    }

    fn try_again(&mut self, id: CommandId) {
        let Some(command) = self.state.command(id) else {
            return;
        };
        let tasks = command.tasks.clone();
        let calls = plan::call(command).is_some();
        // An operator's retry gives a new attempt only to a task that is over; an open task is only asked for again.
        let over = command
            .tasks
            .last()
            .and_then(|task| self.state.task(*task))
            .is_some_and(|task| !task.is_open());
        let event = working(self.state, command);
        self.move_command(id, event, |command| {
            command.attempt += u32::from(over || command.is_root());
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
            self.emit_end(&root);
            self.root_ended(&root);
        }
        self.present(root)
    }

    /// Bottom up, so that each command can name the leftovers of its parts too.
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
        self.move_command(id, CommandEvent::Abandon, |command| {
            command.fault.get_or_insert_with(|| abandoned.clone());
            command.abandoned_by = Some(user.to_owned());
            command.left_behind = left;
            command.outcomes = outcomes;
            command.waiting_for = None;
            command.ended = Some(now);
        });
    }

    /// Whether this engine may act is checked before the command's state, which may be outdated here.
    fn resting_root(&self, id: CommandId) -> Result<&Command, Fault> {
        let root = self.unfinished_root(id)?;
        self.may_act_on(root)?;
        if root.state == CommandState::NeedsAttention {
            return Ok(root);
        }
        let message = "the command does not need attention: it continues by itself";
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

#[cfg(test)]
mod tests {
    use common::{Fault, FaultCode};

    use crate::input::{Attempt, Evidence, Input, Remembered};
    use crate::model::CommandState::*;
    use crate::model::{EntityKey, EventCode, Purpose};
    use crate::testing::{Fate, World, code, command_id, create_vm, disk_id, host_id, remove_vm, vm_id};

    fn retry(n: u128) -> Input {
        Input::Retry {
            command_id: command_id(n),
            user: "op".into(),
        }
    }

    fn abandon(n: u128) -> Input {
        Input::Abandon {
            command_id: command_id(n),
            user: "op".into(),
            reason: "the disk is gone for good".into(),
        }
    }

    /// A VM of which one disk was neither removed nor left alone.
    fn half_removed() -> World {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateVm", create_vm(1, [1, 2], 0));
        world.settle();
        world.host_mut(0).fates = vec![Fate::Finish, Fate::Fail];
        world.submit(2, "RemoveVm", remove_vm(1));
        world.settle();
        world
    }

    #[test]
    fn what_was_neither_done_nor_undone_rests_and_keeps_its_locks() {
        let world = half_removed();
        assert_eq!(world.state_of(2), NeedsAttention);
        assert!(!world.engine.state.locks_of(command_id(2)).is_empty());
        assert!(world.engine.state.holder(&EntityKey::Vm(vm_id(1))).is_some());
        let told = world
            .engine
            .events
            .iter()
            .filter(|e| e.code == EventCode::CommandNeedsAttention);
        assert_eq!(told.count(), 1);
        let needed = world.root(2).attention().unwrap();
        assert_eq!(needed.code, FaultCode::IoError, "what stopped it comes first");
        assert!(
            needed
                .message
                .contains("could not be undone: FILE_SYSTEM_READ_ONLY: no way back"),
            "{needed}"
        );
    }

    #[test]
    fn tried_again_it_runs_as_a_task_of_its_own() {
        let mut world = half_removed();
        world.step(retry(2));
        assert_eq!((world.state_of(2), world.root(2).attempt), (Active, 2));
        world.crash();
        world.settle();
        assert_eq!(world.state_of(2), Succeeded);
    }

    #[test]
    fn given_up_it_names_what_is_left_and_frees_its_locks() {
        let mut world = half_removed();
        world.step(abandon(2));
        let root = world.root(2);
        assert_eq!((root.state, root.abandoned_by.as_deref()), (Failed, Some("op")));
        assert!(root.left_behind.contains(&EntityKey::Vm(vm_id(1))));
        assert!(
            root.left_behind
                .iter()
                .any(|key| matches!(key, EntityKey::Disk(_)))
        );
        assert!(world.engine.state.lock_owners().is_empty());
        assert!(
            world
                .engine
                .events
                .iter()
                .any(|e| e.code == EventCode::CommandAbandoned)
        );
    }

    #[test]
    fn of_a_host_that_cannot_be_connected_what_is_undone_needs_somebody_and_what_is_done_waits() {
        let mut world = World::new(2);
        for n in 0..2 {
            world.submit(n, "AddHost", crate::testing::add_host(n));
            world.connect(host_id(n));
            world.disconnect(host_id(n));
        }
        world.step(Input::Cancel {
            command_id: command_id(0),
            user: "ann".into(),
        });
        assert_eq!((world.state_of(0), world.state_of(1)), (Compensating, Active));
        for n in 0..2 {
            world.step(Input::ConnectionsSpent {
                host_id: host_id(n),
                fault: Fault::new(FaultCode::HostAway, "nobody answers"),
            });
        }
        assert_eq!((world.state_of(0), world.state_of(1)), (NeedsAttention, Active));
        world.settle();
        assert_eq!(
            (world.state_of(0), world.state_of(1)),
            (Cancelled, Succeeded),
            "once they answer"
        );
    }

    #[test]
    fn one_that_goes_on_by_itself_takes_neither_verb() {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateVm", create_vm(1, [1], 0));
        assert_eq!(
            code(world.step(retry(1)).reply),
            Some(FaultCode::CommandNotResting)
        );
        assert_eq!(
            code(world.step(abandon(1)).reply),
            Some(FaultCode::CommandNotResting)
        );
        let child = world.root(1).children[0];
        let input = Input::Cancel {
            command_id: child,
            user: "ann".into(),
        };
        assert_eq!(code(world.step(input).reply), Some(FaultCode::CommandNotRoot));
        assert_eq!(
            code(world.step(retry(77)).reply),
            Some(FaultCode::CommandNotFound)
        );
    }

    #[test]
    fn one_whose_task_may_run_is_not_given_up_and_goes_on_when_the_task_is_seen() {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateVm", create_vm(1, [1], 0));
        let task = world.engine.state.tasks().next().unwrap().id;
        world.step(Input::RetriesSpent {
            host_id: host_id(0),
            what: Attempt::Task(task),
            fault: Fault::new(FaultCode::QueueFull, "full"),
        });
        assert_eq!(world.state_of(1), NeedsAttention);
        assert_eq!(code(world.step(abandon(1)).reply), Some(FaultCode::TaskMayRun));
        world.settle();
        assert_eq!(world.state_of(1), Succeeded);
    }

    #[test]
    fn an_undo_is_tried_a_few_times_then_somebody_must_look() {
        let mut world = World::with_domains(1);
        world.host_mut(0).fates = vec![Fate::Recover(FaultCode::NoSpace), Fate::Finish];
        world.submit(1, "CreateVm", create_vm(1, [1, 2], 0));
        while !world
            .engine
            .state
            .tasks()
            .any(|task| task.purpose == Purpose::Undo)
        {
            world.flow();
        }
        world.host_mut(0).fates = vec![Fate::Recover(FaultCode::ImageInUse); 3];
        world.settle();
        assert_eq!(world.state_of(1), NeedsAttention);
        assert_eq!(world.root(1).tasks.len(), 3);
        world.step(retry(1));
        world.settle();
        assert_eq!((world.state_of(1), world.root(1).left_behind.len()), (Failed, 0));
        assert!(world.host_mut(0).images.is_empty());
    }

    #[test]
    fn a_creation_that_failed_uncleanly_is_deleted_when_it_is_tried_again_and_fails() {
        let mut world = World::with_domains(1);
        world.host_mut(0).fates = vec![Fate::Fail];
        world.submit(1, "CreateVm", create_vm(1, [1], 0));
        world.settle();
        assert_eq!(world.state_of(1), NeedsAttention);
        world.step(retry(1));
        world.settle();
        assert_eq!((world.state_of(1), world.root(1).left_behind.len()), (Failed, 0));
        assert!(!world.host_mut(0).images.contains_key(&disk_id(1)));
    }

    #[test]
    fn what_orphans_still_work_on_is_not_decided() {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateVm", create_vm(1, [1], 0));
        for _ in 0..3 {
            world.flow();
        }
        world.wipe(host_id(0));
        world.settle();
        assert_eq!(world.state_of(1), NeedsAttention);
        assert_eq!(code(world.step(abandon(1)).reply), Some(FaultCode::TaskMayRun));
        world.host_mut(0).end_orphan(true);
        world.step(retry(1));
        world.settle();
        assert_eq!(world.state_of(1), Succeeded, "storage shows it done");
    }

    #[test]
    fn what_storage_does_not_tell_rests_and_is_looked_at_again() {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateVm", create_vm(1, [1], 0));
        let task_id = world.engine.state.tasks().next().unwrap().id;
        world.wipe(host_id(0));
        world.connect(host_id(0));
        let (store_id, start) = (world.host_mut(0).store, world.host_mut(0).present_start());
        world.step(Input::Probed {
            task_id,
            store_id,
            start,
            evidence: Evidence::Unclear("it cannot be read".into()),
            is_busy: false,
            remembered: Remembered::Unknown,
        });
        let root = world.root(1);
        assert_eq!(
            root.attention().map(|fault| fault.code),
            Some(FaultCode::EvidenceMissing)
        );
        let is_one = |event: &crate::model::Event| event.code == EventCode::TaskSettledByEvidence;
        assert!(
            !world.engine.events.iter().any(is_one),
            "what nobody sees settles nothing"
        );
        world.step(retry(1));
        world.settle();
        assert_eq!(
            world.state_of(1),
            Succeeded,
            "nothing was there, so it was made anew"
        );
    }
}
