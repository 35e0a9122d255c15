//! One transition in the making: each change is applied as it is made, so what follows sees it.

use std::collections::BTreeSet;
use std::sync::Arc;

use common::id::{CommandId, TaskId};
use common::{Fault, Timestamp};

use super::{Reply, Transition};
use crate::change::Change;
use crate::effect::Effect;
use crate::jobs::{self, Counted};
use crate::model::{AsyncTask, Awaited, Command, EntityKey, Event, EventCode, WaitingFor};
use crate::state::State;

pub(super) struct Tx<'a> {
    pub(super) state: &'a mut State,
    pub(super) now: Timestamp,
    changes: Vec<Change>,
    effects: Vec<Effect>,
    counted: Vec<Counted>,
}

impl<'a> Tx<'a> {
    pub(super) fn new(state: &'a mut State, now: Timestamp) -> Self {
        Self {
            state,
            now,
            changes: Vec::new(),
            effects: Vec::new(),
            counted: Vec::new(),
        }
    }

    /// The outcome. Trees of which nothing more comes leave the picture.
    pub(super) fn finish(self, reply: Reply) -> Transition {
        let heads = jobs::heads(self.state, &self.counted);
        let roots: BTreeSet<CommandId> = self.counted.iter().map(|counted| counted.root).collect();
        for root in roots {
            self.state.retire(root);
        }
        Transition {
            changes: self.changes,
            heads,
            effects: self.effects,
            reply,
        }
    }

    pub(super) fn put(&mut self, change: Change) {
        self.state.apply(&change);
        self.counted.extend(Counted::of(&change));
        self.changes.push(change);
    }

    pub(super) fn put_all(&mut self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            if let Change::Disk(disk) = &change {
                let key = EntityKey::Disk(disk.spec.disk_id);
                self.put(change);
                // Asked for where the record says that nothing is known; otherwise nothing is outstanding.
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

    /// Changes a command, unless it has gone or nothing changes.
    pub(super) fn edit_command(&mut self, id: CommandId, edit: impl FnOnce(&mut Command)) {
        let Some(old) = self.state.command(id) else { return };
        let mut new = old.clone();
        edit(&mut new);
        if new == *old {
            return;
        }
        new.sequence += 1;
        new.tree_sequence = self.next_tree_sequence(new.root);
        self.put(Change::Command(Box::new(new)));
    }

    /// Changes a task, unless it has gone or nothing changes.
    pub(super) fn edit_task(&mut self, id: TaskId, edit: impl FnOnce(&mut AsyncTask)) {
        let Some(old) = self.state.task(id) else { return };
        let mut new = old.clone();
        edit(&mut new);
        if new == *old {
            return;
        }
        new.sequence += 1;
        if let Some(root) = new.root {
            new.tree_sequence = self.next_tree_sequence(root);
        }
        self.put(Change::Task(Arc::new(new)));
    }

    /// Sends whatever the host is to be asked for a task now.
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

    /// Tells people about a command.
    pub(super) fn tell(&mut self, code: EventCode, command: &Command, user: &str, message: String) {
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

    /// Tells people about something that no command did.
    pub(super) fn tell_of(&mut self, code: EventCode, entities: Vec<EntityKey>, message: String) {
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

    /// What an operator is needed for, since now.
    pub(super) fn attention(&self, fault: Fault) -> WaitingFor {
        WaitingFor {
            note: "RetryCommand or AbandonCommand; or the missing fact".into(),
            what: Awaited::Attention(fault),
            since: self.now,
        }
    }
}
