//! One transition in the making: each change is applied at once, so later code sees it.

use std::collections::BTreeSet;
use std::sync::Arc;

use common::id::{CommandId, TaskId};
use common::{Fault, FaultCode, Timestamp};

use super::verdict::is_about_identity;
use super::{Reply, Transition};
use crate::change::Change;
use crate::effect::Effect;
use crate::jobs::{self, Counted};
use crate::model::{
    AsyncTask, AsyncTaskEvent, AsyncTaskState, Awaited, Command, CommandEvent, CommandParameters as _,
    EntityKey, Event, EventCode, IllegalMove, WaitingFor,
};
use crate::state::{State, Undo};

pub(super) struct Tx<'a> {
    pub(super) state: &'a mut State,
    pub(super) now: Timestamp,
    changes: Vec<Change>,
    effects: Vec<Effect>,
    counted: Vec<Counted>,
    /// Whether the engine takes a new incarnation.
    pub(super) renews: bool,
    undo: Undo,
    defect: Option<Defect>,
    #[cfg(test)]
    moves: super::Moves,
}

/// A move of a command or a task that its table does not have. `root` is its tree; none for a foreign task.
pub(super) struct Defect {
    pub(super) root: Option<CommandId>,
    pub(super) illegal: IllegalMove,
}

impl Defect {
    pub(super) fn fault(&self) -> Fault {
        let of = self
            .root
            .map(|root| format!(" (command {root})"))
            .unwrap_or_default();
        let message = format!(
            "a defect of the engine: {}{of}. Nothing was changed; please report it",
            self.illegal
        );
        Fault::new(FaultCode::Internal, message)
    }
}

impl<'a> Tx<'a> {
    pub(super) fn new(state: &'a mut State, now: Timestamp) -> Self {
        Self {
            undo: Undo::of(state),
            state,
            now,
            changes: Vec::new(),
            effects: Vec::new(),
            counted: Vec::new(),
            renews: false,
            defect: None,
            #[cfg(test)]
            moves: super::Moves::default(),
        }
    }

    /// The result. Trees that are finished leave the state. If the step tried to move a record in a way that no table
    /// has, the whole step is undone.
    pub(super) fn finish(self, reply: Reply) -> Result<Transition, Defect> {
        if let Some(defect) = self.defect {
            self.state.roll_back(self.undo);
            return Err(defect);
        }
        let heads = jobs::heads(self.state, &self.counted);
        let roots: BTreeSet<CommandId> = self.counted.iter().map(|counted| counted.root).collect();
        for root in roots {
            self.state.retire(root);
        }
        Ok(Transition {
            changes: self.changes,
            heads,
            effects: self.effects,
            renews: self.renews,
            stance: None,
            holds: None,
            reply,
            defects: Vec::new(),
            #[cfg(test)]
            moves: self.moves,
        })
    }

    pub(super) fn put(&mut self, change: Change) {
        self.is_first(&change);
        self.undo.note(self.state, &change);
        self.state.apply(&change);
        self.counted.extend(Counted::of(&change));
        self.changes.push(change);
    }

    pub(super) fn put_all(&mut self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            if let Change::Disk(disk) = &change {
                let key = EntityKey::Disk(disk.spec.disk_id);
                self.put(change);
                // Storage is asked if the record says that nothing is known; otherwise no look is due.
                self.ask_about(key);
            } else {
                self.put(change);
            }
        }
    }

    fn ask_about(&mut self, key: EntityKey) {
        if self.state.is_unobserved(&key) {
            let look = self.state.look_at(key);
            self.effects.extend(look);
        }
    }

    pub(super) fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub(super) fn effects(&mut self, effects: impl IntoIterator<Item = Effect>) {
        self.effects.extend(effects);
    }

    /// Changes a command except its state, unless the command is gone or nothing changes.
    pub(super) fn edit_command(&mut self, id: CommandId, edit: impl FnOnce(&mut Command)) {
        self.change_command(id, None, edit);
    }

    /// Moves a command as its table says, together with other changes of it, unless the command is gone or nothing
    /// changes.
    pub(super) fn move_command(
        &mut self,
        id: CommandId,
        event: CommandEvent,
        edit: impl FnOnce(&mut Command),
    ) {
        self.change_command(id, Some(event), edit);
    }

    /// The only place that sets a command's state.
    fn change_command(
        &mut self,
        id: CommandId,
        event: Option<CommandEvent>,
        edit: impl FnOnce(&mut Command),
    ) {
        let Some(old) = self.state.command(id) else { return };
        let root = Some(old.root);
        let state = match event.map_or(Ok(old.state), |event| old.state.next(event)) {
            Ok(state) => state,
            Err(illegal) => return self.refuse(root, illegal),
        };
        #[cfg(test)]
        self.moves.commands.extend(event.map(|event| (old.state, event)));
        let mut new = old.clone();
        new.state = state;
        edit(&mut new);
        if new.state != state {
            return self.refuse(root, IllegalMove::CommandSet(id));
        }
        if new == *old {
            return;
        }
        new.sequence += 1;
        new.tree_sequence = self.next_tree_sequence(new.root);
        self.put(Change::Command(Arc::new(new)));
    }

    /// Changes a task except its state, unless the task is gone or nothing changes.
    pub(super) fn edit_task(&mut self, id: TaskId, edit: impl FnOnce(&mut AsyncTask)) {
        self.change_task(id, &[], edit);
    }

    /// Moves a task as its table says, together with other changes of it, unless the task is gone or nothing changes.
    /// Several events make one change.
    pub(super) fn move_task(
        &mut self,
        id: TaskId,
        events: &[AsyncTaskEvent],
        edit: impl FnOnce(&mut AsyncTask),
    ) {
        self.change_task(id, events, edit);
    }

    fn change_task(&mut self, id: TaskId, events: &[AsyncTaskEvent], edit: impl FnOnce(&mut AsyncTask)) {
        let Some(old) = self.state.task(id) else { return };
        let mut new = old.clone();
        if !self.advance(&mut new, events) {
            return;
        }
        let Some(old) = self.state.task(id) else { return };
        let state = new.async_state;
        edit(&mut new);
        if new.async_state != state {
            let root = new.root;
            return self.refuse(root, IllegalMove::TaskSet(id));
        }
        if new == *old {
            return;
        }
        new.sequence += 1;
        if let Some(root) = new.root {
            new.tree_sequence = self.next_tree_sequence(root);
        }
        self.put(Change::Task(Arc::new(new)));
    }

    /// The only place that sets a task's state. Returns whether the table has all the moves.
    pub(super) fn advance(&mut self, task: &mut AsyncTask, events: &[AsyncTaskEvent]) -> bool {
        for event in events {
            match task.async_state.next(*event) {
                Ok(next) => {
                    #[cfg(test)]
                    self.moves.tasks.push((task.async_state, *event));
                    task.async_state = next;
                }
                Err(illegal) => {
                    self.refuse(task.root, illegal);
                    return false;
                }
            }
        }
        true
    }

    /// Whether the step is refused already: further changes are undone with the rest.
    pub(super) fn is_refused(&self) -> bool {
        self.defect.is_some()
    }

    pub(super) fn refuse(&mut self, root: Option<CommandId>, illegal: IllegalMove) {
        self.defect.get_or_insert(Defect { root, illegal });
    }

    /// Checks that a record that is new begins in the first state of its table.
    fn is_first(&mut self, change: &Change) {
        match change {
            Change::Command(command) => {
                if self.state.command(command.id).is_none() && !command.state.is_first() {
                    self.refuse(Some(command.root), IllegalMove::CommandSet(command.id));
                }
            }
            Change::Task(task) => {
                let ours = task.command.is_some() && self.state.task(task.id).is_none();
                if ours && task.async_state != AsyncTaskState::Initializing {
                    self.refuse(task.root, IllegalMove::TaskSet(task.id));
                }
            }
            Change::CommandRemoved(_)
            | Change::Host(_)
            | Change::HostRemoved(_)
            | Change::Domain(_)
            | Change::Disk(_)
            | Change::DiskRemoved(_)
            | Change::Vm(_)
            | Change::VmRemoved(_)
            | Change::Event(_) => {}
        }
    }

    /// Sends what the host is to be asked about a task now.
    pub(super) fn ask(&mut self, id: TaskId) {
        let effect = self.state.task(id).and_then(|task| self.state.ask_of(task));
        self.effects.extend(effect);
    }

    pub(super) fn next_tree_sequence(&self, root: CommandId) -> u64 {
        self.state.tree(root).map_or(0, |tree| tree.sequence) + 1
    }

    pub(super) fn next_seq(&self) -> u64 {
        self.state.seed.last_seq + 1
    }

    /// Emits an event about a command.
    pub(super) fn emit(&mut self, code: EventCode, command: &Command, user: &str, message: String) {
        let event = Event {
            id: self.state.seed.last_event_id + 1,
            time: self.now,
            severity: code.severity(),
            code,
            message: message.into(),
            entities: command.parameters.entities(),
            command: Some(command.id),
            root: Some(command.root),
            user: user.to_owned(),
            correlation_id: command.correlation_id.clone(),
        };
        self.put(Change::Event(event));
    }

    /// Emits an event that no command caused.
    pub(super) fn emit_about(&mut self, code: EventCode, entities: Vec<EntityKey>, message: String) {
        let event = Event {
            id: self.state.seed.last_event_id + 1,
            time: self.now,
            severity: code.severity(),
            code,
            message: message.into(),
            entities,
            command: None,
            root: None,
            user: String::new(),
            correlation_id: String::new(),
        };
        self.put(Change::Event(event));
    }

    /// The reason why an operator is needed, since now.
    pub(super) fn attention(&self, fault: Fault) -> WaitingFor {
        // A retry and an abandon are refused until the host is this engine's; then the command goes on by itself.
        let note = match fault.code {
            FaultCode::HostIdMismatch => "the host that was added, at its address",
            _ if is_about_identity(&fault) => {
                "the host to belong to this engine; use TakeOverHost if it should"
            }
            _ => "RetryCommand or AbandonCommand; or the missing fact",
        };
        WaitingFor {
            note: note.into(),
            what: Awaited::Attention(fault),
            since: self.now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Input;
    use crate::model::CommandState;
    use crate::testing::{World, command_id, create_vm, remove_vm};

    /// A VM in the making, beside another VM.
    fn world() -> World {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateVm", create_vm(1, [1], 0));
        world.settle();
        world.submit(2, "CreateVm", create_vm(2, [2, 3], 0));
        world
    }

    /// The defect of an illegal step that has changed much else before: a whole command, a VM, a host, tasks.
    fn refused(world: &mut World, illegal: impl FnOnce(&mut Tx<'_>)) -> Defect {
        let before = world.engine.state.dump();
        let mut tx = Tx::new(&mut world.engine.state, Timestamp(1_000));
        let asked = crate::testing::submission(3, "RemoveVm", remove_vm(1));
        tx.submit(asked);
        let vm = tx.state.vms().next().cloned().expect("there is one");
        tx.put(Change::VmRemoved(vm.id));
        let host = tx.state.hosts().next().cloned().expect("there is one");
        tx.put(Change::HostRemoved(host.id));
        illegal(&mut tx);
        assert!(tx.is_refused());
        tx.cancel(command_id(2), "ann");
        let defect = tx.finish(Reply::Done).expect_err("it is refused");
        assert_eq!(world.engine.state.dump(), before, "nothing of it stays");
        let loaded = world.engine.reloaded().dump();
        assert_eq!(loaded, before);
        defect
    }

    #[test]
    fn a_step_that_would_move_a_record_as_no_table_has_it_is_refused_whole() {
        let mut world = world();
        let id = command_id(2);
        let defect = refused(&mut world, |tx| tx.move_command(id, CommandEvent::Start, |_| ()));
        let illegal = IllegalMove::Command {
            state: CommandState::Active,
            event: CommandEvent::Start,
        };
        assert_eq!((defect.root, defect.illegal), (Some(id), illegal));
        let message = defect.fault().message;
        assert!(
            message.contains("Active does not take Start") && message.contains(&id.to_string()),
            "{message}"
        );
        let set = |tx: &mut Tx<'_>| tx.edit_command(id, |command| command.state = CommandState::Failed);
        assert_eq!(refused(&mut world, set).illegal, IllegalMove::CommandSet(id));
        let task = world
            .engine
            .state
            .tasks()
            .find(|task| task.is_open())
            .expect("at work")
            .id;
        let release = |tx: &mut Tx<'_>| tx.move_task(task, &[AsyncTaskEvent::Release], |_| ());
        let illegal = IllegalMove::Task {
            state: AsyncTaskState::Initializing,
            event: AsyncTaskEvent::Release,
        };
        assert_eq!(refused(&mut world, release).illegal, illegal);
        let set = |tx: &mut Tx<'_>| tx.edit_task(task, |task| task.async_state = AsyncTaskState::Cleared);
        assert_eq!(refused(&mut world, set).illegal, IllegalMove::TaskSet(task));
        world.settle();
        assert_eq!(world.state_of(2), CommandState::Succeeded, "and all goes on");
    }

    /// A record that cannot have been written: a command that undoes, and has nothing to undo. A restart reports it
    /// and goes on with the other trees.
    #[test]
    fn a_restart_passes_over_a_tree_that_would_move_as_no_table_has_it() {
        let mut world = world();
        world.submit(4, "CreateVm", create_vm(4, [4], 0));
        let key = format!("command {}", command_id(2));
        let Some(Change::Command(root)) = world.engine.records.get(&key) else {
            panic!("it is recorded")
        };
        let mut root = (**root).clone();
        root.state = CommandState::Compensating;
        world.engine.records.insert(key, Change::Command(Arc::new(root)));
        world.engine.state = world.engine.reloaded();
        let transition = world.engine.step(Input::Recover);
        let [defect] = &transition.defects[..] else {
            panic!("{:#?}", transition.defects)
        };
        assert!(
            defect.message.contains("Compensating does not take Work"),
            "{defect}"
        );
        assert_eq!(transition.reply, Reply::Done);
        assert!(!transition.effects.is_empty(), "the hosts are followed");
        let other = world.engine.state.command(command_id(4)).expect("it lives");
        assert!(!other.state.is_terminal());
    }
}
