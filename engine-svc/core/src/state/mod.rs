//! The state of all live commands, and of what they work on.

mod index;
mod read;
mod stance;
mod undo;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use common::Start;
use common::id::{CommandId, DiskId, DomainId, EngineId, HostId, RequestId, StoreId, TaskId, VmId};
use common::lock::LockTable;

use crate::change::Change;
use crate::input::{Differences, PriorRequest};
use crate::model::{
    AsyncTask, AsyncTaskState, Command, CommandParameters as _, CommandState, Disk, Domain, EntityKey, Host,
    Presence, Vm,
};

pub(crate) use index::{Family, Tree, Usage};
pub use stance::Stance;
pub(crate) use undo::Undo;
pub(crate) use waiting::freed_by;

/// The bounds of what the engine accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Commands of trees that are not over, including their parts.
    pub commands: usize,
    /// Such commands of one user.
    pub commands_per_user: usize,
    /// Bytes of the commands' texts, counted twice: the task of a part repeats the part's texts.
    pub text_bytes: usize,
    /// Bytes of the texts of one user's commands.
    pub text_bytes_per_user: usize,
    /// Commands that wait for their locks.
    pub waiting_commands: usize,
    /// Recorded foreign tasks of one host that are not cleared.
    pub foreign_tasks_per_host: usize,
}

impl Default for Limits {
    /// Each costs some kB of memory, and its texts: together they stay within 200 MB, and 64 MiB. A VM of 64 disks is 65
    /// commands.
    fn default() -> Self {
        Self {
            commands: 50_000,
            commands_per_user: 25_000,
            text_bytes: 64 << 20,
            text_bytes_per_user: 32 << 20,
            waiting_commands: 500,
            foreign_tasks_per_host: 2_000,
        }
    }
}

/// What [`State::load`] needs beside the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed {
    /// This engine.
    pub engine_id: EngineId,
    /// The highest `seq` of any command or task that was ever recorded; 0 if there was none.
    pub last_seq: u64,
    /// The id of the last event that was ever recorded; 0 if there was none.
    pub last_event_id: u64,
    /// The bounds of what the engine accepts.
    pub limits: Limits,
}

/// Who holds a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// A root command, for its whole tree.
    Command(CommandId),
    /// A foreign task.
    Foreign(TaskId),
}

/// The scope of a request id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RequestScope {
    pub(crate) user: String,
    pub(crate) rpc: String,
    pub(crate) request_id: RequestId,
}

/// Which memory of a host the engine talks to: its store, and its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) store_id: StoreId,
    pub(crate) start: Start,
}

/// What is known only as long as the process lives: about connections and streams.
#[derive(Debug, Clone, Default)]
pub(crate) struct Volatile {
    pub(crate) connected: BTreeMap<HostId, Life>,
    pub(crate) streams: BTreeMap<HostId, Stream>,
    /// Hosts that were asked and are not connected. A host that was not asked yet is neither here nor in `connected`.
    pub(crate) away: BTreeSet<HostId>,
    /// Connected hosts that have not answered since the process stood still.
    pub(crate) doubted: BTreeSet<HostId>,
    /// For each host that reports other lives now, the hosts that these lives say they have.
    pub(crate) met: BTreeMap<HostId, BTreeSet<HostId>>,
    /// Whether the engine may act, as last announced.
    pub(crate) stance: Option<Stance>,
    /// The hosts that are this start's, as last announced.
    pub(crate) held: Vec<HostId>,
    /// The number of new incarnations that this process has taken.
    pub(crate) renewals: u32,
    /// The state of looking through each host's storage; a look is still due for a host without an entry.
    pub(crate) looks: BTreeMap<HostId, Look>,
    /// The findings of the last look, which need not be announced again.
    pub(crate) differences: BTreeMap<HostId, Differences>,
    /// Entities that were freed, and whose waiting commands there was no time to start.
    pub(crate) freed: BTreeSet<EntityKey>,
    /// For each waiting command, the running time of the process when a check first found it.
    pub(crate) waits: BTreeMap<CommandId, Duration>,
    /// How often each host has shown a foreign task for which there was no room.
    pub(crate) unrecorded: BTreeMap<HostId, u64>,
}

impl Volatile {
    /// Forgets a host that is no longer followed.
    pub(crate) fn forget(&mut self, host_id: HostId) {
        self.connected.remove(&host_id);
        self.streams.remove(&host_id);
        self.away.remove(&host_id);
        self.doubted.remove(&host_id);
    }
}

/// Whether a host's storage was looked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// The look is asked for, and is asked for again at each connection.
    Wanted,
    /// The look is done, for as long as this process lives and nothing shows that the records are older than storage.
    Done,
}

/// The engine's position in a host's open stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stream {
    /// Past its snapshot, if it has one: only changes follow.
    pub(crate) live: bool,
    /// The tasks of the snapshot that is being read.
    pub(crate) seen: BTreeSet<TaskId>,
    /// Whether something is missing from the stream: then no later point is one to resume after.
    pub(crate) hole: bool,
}

/// The state. Everything in it but the volatile part follows from the records.
#[derive(Debug, Clone)]
pub struct State {
    pub(crate) seed: Seed,
    pub(crate) volatile: Volatile,
    commands: BTreeMap<CommandId, Arc<Command>>,
    tasks: BTreeMap<TaskId, Arc<AsyncTask>>,
    hosts: BTreeMap<HostId, Arc<Host>>,
    domains: BTreeMap<DomainId, Domain>,
    disks: BTreeMap<DiskId, Disk>,
    unobserved: BTreeSet<DiskId>,
    vms: BTreeMap<VmId, Vm>,
    vm_names: BTreeMap<String, VmId>,
    locks: LockTable<EntityKey, Owner>,
    requests: BTreeMap<Arc<RequestScope>, PriorRequest>,
    remembered: BTreeMap<CommandId, Arc<RequestScope>>,
    families: BTreeMap<CommandId, Family>,
    trees: BTreeMap<CommandId, Tree>,
    work: BTreeMap<HostId, index::HostWork>,
    /// The room that all commands take.
    usage: Usage,
    /// The room that the commands of each user take.
    users: BTreeMap<String, Usage>,
}

impl State {
    /// An empty state.
    pub fn new(seed: Seed) -> Self {
        Self {
            seed,
            volatile: Volatile::default(),
            commands: BTreeMap::new(),
            tasks: BTreeMap::new(),
            hosts: BTreeMap::new(),
            domains: BTreeMap::new(),
            disks: BTreeMap::new(),
            unobserved: BTreeSet::new(),
            vms: BTreeMap::new(),
            vm_names: BTreeMap::new(),
            locks: LockTable::default(),
            requests: BTreeMap::new(),
            remembered: BTreeMap::new(),
            families: BTreeMap::new(),
            trees: BTreeMap::new(),
            work: BTreeMap::new(),
            usage: Usage::default(),
            users: BTreeMap::new(),
        }
    }

    /// Builds the state from records, in any order: hosts, domains, disks, VMs; the commands of every tree that is
    /// not over or has a task that is not cleared, with all their tasks; foreign tasks that are not cleared; and the
    /// roots whose requests are to be remembered. More records do no harm. Every lock of an unfinished tree is held
    /// when `load` returns. The next input is [`crate::Input::Recover`].
    pub fn load(seed: Seed, records: impl IntoIterator<Item = Change>) -> Self {
        let mut state = Self::new(seed);
        for change in records {
            state.apply(&change);
        }
        let roots: Vec<CommandId> = state.trees.keys().copied().collect();
        for root in roots {
            state.retire(root);
        }
        state
    }

    /// Applies a record: the only mutator of the state, while the service runs and at load.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Command(command) => self.apply_command(command),
            Change::CommandRemoved(id) => self.forget_request(*id),
            Change::Task(task) => self.apply_task(task),
            Change::Host(host) => {
                self.hosts.insert(host.id, Arc::clone(host));
            }
            Change::HostRemoved(id) => {
                self.hosts.remove(id);
            }
            Change::Domain(domain) => {
                self.domains.insert(domain.id, domain.clone());
                self.work_of(domain.host_id).domains.insert(domain.id);
            }
            Change::Disk(disk) => self.apply_disk(disk),
            Change::DiskRemoved(id) => {
                self.disks.remove(id);
                self.unobserved.remove(id);
            }
            Change::Vm(vm) => self.apply_vm(vm),
            Change::VmRemoved(id) => {
                if let Some(vm) = self.vms.remove(id) {
                    self.vm_names.remove(&vm.name);
                }
            }
            Change::Event(event) => self.seed.last_event_id = self.seed.last_event_id.max(event.id),
        }
    }

    fn apply_command(&mut self, command: &Arc<Command>) {
        self.seed.last_seq = self.seed.last_seq.max(command.seq);
        let calls_nobody = command.state.is_terminal() || command.state == CommandState::Pending;
        if let Some(host_id) = command.parameters.called_host() {
            let calls = &mut self.work_of(host_id).calls;
            if calls_nobody {
                calls.remove(&command.id);
            } else {
                calls.insert(command.id);
            }
        }
        if command.is_root() {
            self.apply_root(command);
        }
        let old = self.commands.insert(command.id, Arc::clone(command));
        if old.is_none() {
            self.count(command);
        }
        let tree = self.trees.entry(command.root).or_default();
        if let Some(old) = &old {
            tree.forget_command(old);
        }
        tree.count_command(command);
        tree.sequence = tree.sequence.max(command.tree_sequence);
        if let Some(parent) = command.parent {
            let family = self.families.entry(parent).or_default();
            if let Some(old) = &old {
                family.forget(old);
            }
            family.count(command);
        }
    }

    fn apply_root(&mut self, command: &Command) {
        let owner = Owner::Command(command.id);
        if command.state.is_terminal() {
            self.locks.leave(&owner);
        } else if command.state == CommandState::Pending {
            self.locks
                .await_turn(owner, command.seq, command.locks.iter().cloned());
        } else if self.locks.held_by(&owner).is_empty() {
            self.locks.leave(&owner);
            self.locks.restore(owner, command.locks.iter().cloned());
        }
        let Some(request) = &command.request else { return };
        if self.remembered.contains_key(&command.id) {
            return;
        }
        let scope = Arc::new(RequestScope {
            user: command.user.clone(),
            rpc: request.rpc.clone(),
            request_id: request.request_id,
        });
        let accepted = PriorRequest {
            command_id: command.id,
            digest: request.digest.clone(),
        };
        self.remembered.insert(command.id, Arc::clone(&scope));
        self.requests.insert(scope, accepted);
    }

    fn apply_task(&mut self, task: &Arc<AsyncTask>) {
        self.seed.last_seq = self.seed.last_seq.max(task.seq);
        let cleared = task.async_state == AsyncTaskState::Cleared;
        let work = &mut self.work_of(task.host_id).tasks;
        if cleared {
            work.remove(&task.id);
        } else {
            work.insert(task.id);
        }
        let Some(root) = task.root else {
            return self.apply_foreign(task, cleared);
        };
        let old = self.tasks.insert(task.id, Arc::clone(task));
        let tree = self.trees.entry(root).or_default();
        tree.sequence = tree.sequence.max(task.tree_sequence);
        if let Some(old) = &old {
            tree.forget(old);
        }
        tree.count(task);
    }

    fn apply_foreign(&mut self, task: &Arc<AsyncTask>, cleared: bool) {
        let owner = Owner::Foreign(task.id);
        let foreign = &mut self.work_of(task.host_id).foreign;
        if cleared {
            foreign.remove(&task.id);
        } else {
            foreign.insert(task.id);
        }
        if !task.is_open() {
            self.locks.leave(&owner);
        } else if self.locks.held_by(&owner).is_empty() {
            self.locks.restore(owner, index::foreign_locks(task));
        }
        if cleared {
            self.tasks.remove(&task.id);
        } else {
            self.tasks.insert(task.id, Arc::clone(task));
        }
    }

    fn apply_disk(&mut self, disk: &Disk) {
        let id = disk.spec.disk_id;
        let unknown = disk
            .observation
            .as_ref()
            .is_some_and(|seen| seen.presence == Presence::Unknown);
        self.disks.insert(id, disk.clone());
        if unknown {
            self.unobserved.insert(id);
        } else {
            self.unobserved.remove(&id);
        }
    }

    fn apply_vm(&mut self, vm: &Vm) {
        if let Some(old) = self.vms.insert(vm.id, vm.clone()) {
            self.vm_names.remove(&old.name);
        }
        self.vm_names.insert(vm.name.clone(), vm.id);
    }

    fn forget_request(&mut self, id: CommandId) {
        if let Some(scope) = self.remembered.remove(&id) {
            self.requests.remove(&scope);
        }
    }
}
