//! Rolling back a step: its changes are undone in the state as if the step had never been taken.

use std::collections::BTreeMap;
use std::sync::Arc;

use common::id::{CommandId, DiskId, DomainId, HostId, TaskId, VmId};

use super::{RequestScope, Seed, State};
use crate::change::Change;
use crate::input::PriorRequest;
use crate::model::{AsyncTask, Command, Disk, Domain, Host, Vm};

/// The records as they were before the changes of a step.
#[derive(Debug)]
pub(crate) struct Undo {
    seed: Seed,
    /// In the order of the changes.
    old: Vec<Old>,
}

/// One former record; none if there was no record.
#[derive(Debug)]
enum Old {
    Command(CommandId, Option<Arc<Command>>),
    Request(CommandId, Option<(Arc<RequestScope>, PriorRequest)>),
    Task(TaskId, Option<Arc<AsyncTask>>),
    Host(HostId, Option<Arc<Host>>),
    Domain(DomainId, Option<Domain>),
    Disk(DiskId, Option<Disk>),
    Vm(VmId, Option<Vm>),
}

impl Undo {
    /// Starts to note, before anything changes.
    pub(crate) fn of(state: &State) -> Self {
        Self {
            seed: state.seed,
            old: Vec::new(),
        }
    }

    /// Notes the record that `change` is about to replace.
    pub(crate) fn note(&mut self, state: &State, change: &Change) {
        let old = match change {
            Change::Command(command) => {
                let old = state.commands.get(&command.id).cloned();
                if old.is_none() && command.is_root() {
                    self.old.push(request(state, command.id));
                }
                Old::Command(command.id, old)
            }
            Change::CommandRemoved(id) => request(state, *id),
            Change::Task(task) => Old::Task(task.id, state.tasks.get(&task.id).cloned()),
            Change::Host(host) => Old::Host(host.id, state.hosts.get(&host.id).cloned()),
            Change::HostRemoved(id) => Old::Host(*id, state.hosts.get(id).cloned()),
            Change::Domain(domain) => Old::Domain(domain.id, state.domains.get(&domain.id).cloned()),
            Change::Disk(disk) => {
                let id = disk.spec.disk_id;
                Old::Disk(id, state.disks.get(&id).cloned())
            }
            Change::DiskRemoved(id) => Old::Disk(*id, state.disks.get(id).cloned()),
            Change::Vm(vm) => Old::Vm(vm.id, state.vms.get(&vm.id).cloned()),
            Change::VmRemoved(id) => Old::Vm(*id, state.vms.get(id).cloned()),
            // Only the number of an event is part of the state.
            Change::Event(_) => return,
        };
        self.old.push(old);
    }
}

fn request(state: &State, id: CommandId) -> Old {
    let scope = state.remembered.get(&id);
    let request = scope.and_then(|scope| Some((Arc::clone(scope), state.requests.get(scope)?.clone())));
    Old::Request(id, request)
}

impl State {
    /// Undoes the noted changes, and derives anew what follows from the records: a roll-back happens only if the
    /// program itself is wrong, and may take its time. What is known about connections stays.
    pub(crate) fn roll_back(&mut self, undo: Undo) {
        for old in undo.old.into_iter().rev() {
            match old {
                Old::Command(id, old) => put_back(&mut self.commands, id, old),
                Old::Request(id, old) => self.put_request_back(id, old),
                Old::Task(id, old) => put_back(&mut self.tasks, id, old),
                Old::Host(id, old) => put_back(&mut self.hosts, id, old),
                Old::Domain(id, old) => put_back(&mut self.domains, id, old),
                Old::Disk(id, old) => put_back(&mut self.disks, id, old),
                Old::Vm(id, old) => put_back(&mut self.vms, id, old),
            }
        }
        let mut fresh = Self::new(undo.seed);
        fresh.volatile = std::mem::take(&mut self.volatile);
        fresh.requests = std::mem::take(&mut self.requests);
        fresh.remembered = std::mem::take(&mut self.remembered);
        for record in self.records() {
            fresh.apply(&record);
        }
        *self = fresh;
    }

    fn put_request_back(&mut self, id: CommandId, old: Option<(Arc<RequestScope>, PriorRequest)>) {
        self.forget_request(id);
        if let Some((scope, accepted)) = old {
            self.remembered.insert(id, Arc::clone(&scope));
            self.requests.insert(scope, accepted);
        }
    }

    fn records(&self) -> Vec<Change> {
        let hosts = self.hosts.values().cloned().map(Change::Host);
        let domains = self.domains.values().cloned().map(Change::Domain);
        let disks = self.disks.values().cloned().map(Change::Disk);
        let vms = self.vms.values().cloned().map(Change::Vm);
        let commands = self.commands.values().cloned().map(Change::Command);
        let tasks = self.tasks.values().cloned().map(Change::Task);
        let entities = hosts.chain(domains).chain(disks).chain(vms);
        entities.chain(commands).chain(tasks).collect()
    }
}

fn put_back<K: Ord, V>(records: &mut BTreeMap<K, V>, key: K, old: Option<V>) {
    match old {
        Some(old) => records.insert(key, old),
        None => records.remove(&key),
    };
}
