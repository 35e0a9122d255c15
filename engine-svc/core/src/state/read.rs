//! Look-ups.

use common::Fault;
use common::id::{CommandId, DiskId, DomainId, HostId, TaskId, VmId};
use common::lock::Mode;

use super::{Family, Owner, RequestScope, State, Tree};
use crate::input::PriorRequest;
use crate::model::{
    AsyncTask, Command, CommandParameters as _, Disk, Domain, EntityKey, Holder, Holding, Host, Vm,
};

impl State {
    /// A command of a tree that is not over, or whose tasks are not all cleared.
    pub fn command(&self, id: CommandId) -> Option<&Command> {
        self.commands.get(&id).map(|command| &**command)
    }

    /// All live commands.
    pub fn commands(&self) -> impl DoubleEndedIterator<Item = &Command> {
        self.commands.values().map(|command| &**command)
    }

    /// A live command and its descendants, parents first.
    pub fn tree_of(&self, root: CommandId) -> Vec<CommandId> {
        let mut found = vec![root];
        let mut at = 0;
        while let Some(id) = found.get(at) {
            if let Some(command) = self.command(*id) {
                found.extend_from_slice(&command.children);
            }
            at += 1;
        }
        found
    }

    /// A task of a live tree, or a foreign task.
    pub fn task(&self, id: TaskId) -> Option<&AsyncTask> {
        self.tasks.get(&id).map(|task| &**task)
    }

    /// All live tasks.
    pub fn tasks(&self) -> impl Iterator<Item = &AsyncTask> {
        self.tasks.values().map(|task| &**task)
    }

    /// A host of this engine.
    pub fn host(&self, id: HostId) -> Option<&Host> {
        self.hosts.get(&id).map(|host| &**host)
    }

    /// The words for an entity: its kind, its name if it has one, and its id.
    pub(crate) fn named(&self, key: &EntityKey) -> String {
        let (kind, name, id) = match key {
            EntityKey::Host(id) => ("host", self.hosts.get(id).map(|host| &host.name), id.as_uuid()),
            EntityKey::Domain(id) => {
                let domain = self.domains.get(id);
                ("storage domain", domain.map(|domain| &domain.name), id.as_uuid())
            }
            EntityKey::Vm(id) => ("VM", self.vms.get(id).map(|vm| &vm.name), id.as_uuid()),
            EntityKey::Disk(_) | EntityKey::VmName(_) => return key.to_string(),
        };
        match name {
            Some(name) => format!("{kind} {name} ({id})"),
            None => key.to_string(),
        }
    }

    /// Like [`State::named`], for a host.
    pub(crate) fn named_host(&self, id: HostId) -> String {
        self.named(&EntityKey::Host(id))
    }

    /// Whether a host is to be followed: it belongs to this engine, or is about to.
    pub(crate) fn is_followed(&self, id: HostId) -> bool {
        self.hosts.contains_key(&id) || !self.calls_to(id).is_empty()
    }

    /// All hosts of this engine.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.values().map(|host| &**host)
    }

    /// A storage domain.
    pub fn domain(&self, id: DomainId) -> Option<&Domain> {
        self.domains.get(&id)
    }

    /// All storage domains.
    pub fn domains(&self) -> impl Iterator<Item = &Domain> {
        self.domains.values()
    }

    /// A disk.
    pub fn disk(&self, id: DiskId) -> Option<&Disk> {
        self.disks.get(&id)
    }

    /// All disks.
    pub fn disks(&self) -> impl Iterator<Item = &Disk> {
        self.disks.values()
    }

    /// A VM.
    pub fn vm(&self, id: VmId) -> Option<&Vm> {
        self.vms.get(&id)
    }

    /// All VMs.
    pub fn vms(&self) -> impl Iterator<Item = &Vm> {
        self.vms.values()
    }

    /// The VM that a disk is attached to: the VM that lists the disk.
    pub fn vm_of(&self, disk_id: DiskId) -> Option<&Vm> {
        let vm = self.vm(self.disk(disk_id)?.last_vm?)?;
        vm.disk_ids.contains(&disk_id).then_some(vm)
    }

    /// The VM with this name.
    pub fn vm_named(&self, name: &str) -> Option<VmId> {
        self.vm_names.get(name).copied()
    }

    /// The holder of an entity's lock; one of the holders if several share it.
    pub fn holder(&self, key: &EntityKey) -> Option<Holder> {
        let (owner, _) = self.locks.holders(key).first()?;
        self.describe(*owner)
    }

    /// All holders of an entity's lock, and how they hold it; only the first ones of very many.
    pub fn holding(&self, key: &EntityKey) -> Option<Holding> {
        let holders = self.locks.holders(key);
        let told = holders.iter().take(Holding::TOLD);
        let by: Vec<_> = told
            .filter_map(|(owner, mode)| Some((self.describe(*owner)?, *mode)))
            .collect();
        (!by.is_empty()).then(|| Holding {
            more: holders.len().saturating_sub(Holding::TOLD),
            by,
        })
    }

    pub(crate) fn describe(&self, owner: Owner) -> Option<Holder> {
        match owner {
            Owner::Command(id) => self.command(id).map(|command| Holder::Command {
                command_id: id,
                user: command.user.clone(),
                since: command.created,
            }),
            Owner::Foreign(id) => self.task(id).map(|task| Holder::ForeignTask {
                task_id: id,
                host_id: task.host_id,
                since: task.created,
            }),
        }
    }

    /// The unfinished command by which a person has a host taken over.
    pub(crate) fn taking_over(&self, id: HostId) -> Option<&Command> {
        let calls = self.calls_to(id).into_iter();
        let mut commands = calls.filter_map(|id| self.command(id));
        commands.find(|command| command.parameters.takes_over())
    }

    /// Why a host must not be used: the host said that another life of this engine has it, or another engine.
    pub(crate) fn somebody_elses(&self, host_id: HostId) -> Option<&Fault> {
        let host = self.host(host_id)?;
        let other_life = host.other_life.as_ref().map(|other| &other.fault);
        other_life.or(host.other_owner.as_ref())
    }

    /// Whether a command of this engine holds the entity's lock.
    pub(crate) fn is_held_by_command(&self, key: &EntityKey) -> bool {
        let holders = self.locks.holders(key);
        holders
            .iter()
            .any(|(owner, _)| matches!(owner, Owner::Command(_)))
    }

    /// The first of `wants` that is not free now, and who holds it or waits for it.
    pub(crate) fn obstacle(&self, wants: &[(EntityKey, Mode)]) -> Option<(EntityKey, Owner)> {
        self.locks.in_the_way(wants)
    }

    pub(crate) fn family(&self, parent: CommandId) -> &Family {
        const NONE: &Family = &Family {
            open: std::collections::BTreeSet::new(),
            resting: std::collections::BTreeSet::new(),
            bound_to_fail: 0,
            succeeded: 0,
            failed: 0,
            cancelled: 0,
        };
        self.families.get(&parent).unwrap_or(NONE)
    }

    pub(crate) fn tree(&self, root: CommandId) -> Option<&Tree> {
        self.trees.get(&root)
    }

    pub(crate) fn roots(&self) -> Vec<CommandId> {
        self.trees.keys().copied().collect()
    }

    pub(crate) fn accepted(&self, scope: &RequestScope) -> Option<&PriorRequest> {
        self.requests.get(scope)
    }

    /// Whether this root was accepted, and its record is still kept.
    pub(crate) fn remembers(&self, id: CommandId) -> bool {
        self.remembered.contains_key(&id)
    }

    /// Whether storage is to be asked about a disk.
    pub(crate) fn is_unobserved(&self, key: &EntityKey) -> bool {
        matches!(key, EntityKey::Disk(id) if self.unobserved.contains(id))
    }

    /// The disks about which storage is to be asked.
    pub(crate) fn unobserved(&self) -> impl Iterator<Item = DiskId> {
        self.unobserved.iter().copied()
    }

    /// The host's tasks that are not cleared.
    pub(crate) fn tasks_on(&self, host_id: HostId) -> Vec<TaskId> {
        self.work
            .get(&host_id)
            .map_or_else(Vec::new, |work| work.tasks.iter().copied().collect())
    }

    /// The unfinished commands that call the host.
    pub(crate) fn calls_to(&self, host_id: HostId) -> Vec<CommandId> {
        self.work
            .get(&host_id)
            .map_or_else(Vec::new, |work| work.calls.iter().copied().collect())
    }

    /// The storage domains that the host serves.
    pub(crate) fn domains_on(&self, host_id: HostId) -> impl Iterator<Item = DomainId> {
        self.work
            .get(&host_id)
            .into_iter()
            .flat_map(|work| work.domains.iter().copied())
    }
}

#[cfg(test)]
impl State {
    /// Everything that follows from the records, as text, to compare a running state with a loaded one.
    pub(crate) fn dump(&self) -> String {
        let locks: Vec<_> = self
            .locks
            .owners()
            .map(|owner| (owner, self.locks.held_by(owner)))
            .collect();
        let waiting = self.locks.waiters();
        let families: Vec<_> = self
            .families
            .iter()
            .filter(|(_, f)| **f != Family::default())
            .collect();
        let work: Vec<_> = self
            .work
            .iter()
            .filter(|(_, w)| **w != super::index::HostWork::default())
            .collect();
        format!(
            "{:#?}",
            (
                (
                    &self.seed,
                    &self.commands,
                    &self.tasks,
                    &self.hosts,
                    &self.domains,
                    &self.disks
                ),
                (
                    &self.unobserved,
                    &self.vms,
                    &self.vm_names,
                    (locks, waiting),
                    &self.requests,
                    &self.remembered
                ),
                (families, &self.trees, work),
            )
        )
    }

    pub(crate) fn lock_owners(&self) -> Vec<Owner> {
        self.locks.owners().copied().collect()
    }

    pub(crate) fn locks_of(&self, root: CommandId) -> Vec<(EntityKey, Mode)> {
        self.locks.held_by(&Owner::Command(root)).to_vec()
    }
}
