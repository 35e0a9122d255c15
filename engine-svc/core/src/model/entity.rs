//! The things that commands work on: hosts, storage domains, disks and VMs.

use std::fmt;

use common::Fault;
use common::id::{CommandId, DiskId, DomainId, HostId, StoreId, TaskId, VmId, VolumeId};
use common::lock::Mode;
use common::{Allocation, Start, Timestamp, Token, VolumeFormat, Words};

/// Names one thing: the key of its lock, and how outcomes and events point at it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntityKey {
    /// A host.
    Host(HostId),
    /// A storage domain.
    Domain(DomainId),
    /// A disk.
    Disk(DiskId),
    /// A VM.
    Vm(VmId),
    /// A VM's name: locked while a VM of this name is made or removed.
    VmName(String),
}

impl fmt::Display for EntityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(id) => write!(f, "host {id}"),
            Self::Domain(id) => write!(f, "storage domain {id}"),
            Self::Disk(id) => write!(f, "disk {id}"),
            Self::Vm(id) => write!(f, "VM {id}"),
            Self::VmName(name) => write!(f, "VM name {name:?}"),
        }
    }
}

/// Who keeps an entity busy. Read from the lock table: no flag could stay behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// A root command.
    Command {
        /// The command.
        command_id: CommandId,
        /// The user of the command.
        user: String,
        /// Since when.
        since: Timestamp,
    },
    /// A task that no command of ours started.
    ForeignTask {
        /// The task.
        task_id: TaskId,
        /// The host that runs it.
        host_id: HostId,
        /// When the engine first saw it.
        since: Timestamp,
    },
}

/// Who keeps an entity busy, and how: everybody, or the first of very many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// In the order in which they came.
    pub by: Vec<(Holder, Mode)>,
    /// How many more share it.
    pub more: usize,
}

/// Whom a command waits for that waits for its locks: everybody, or the first of very many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blockers {
    /// In the order of the locks that it needs.
    pub by: Vec<Blocker>,
    /// How many more there are.
    pub more: usize,
}

/// One who holds what a command needs, or waits for that ahead of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocker {
    /// What.
    pub entity: EntityKey,
    /// Who.
    pub holder: Holder,
    /// How it holds or wants the entity.
    pub mode: Mode,
    /// It does not hold the entity yet, and comes first.
    pub waits: bool,
}

impl Blockers {
    /// Blockers that are told of one command.
    pub const TOLD: usize = 10;
}

impl Holding {
    /// Holders that are told of one entity: a domain may be shared by thousands.
    pub const TOLD: usize = 10;
}

/// A host that this engine owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its id, as it was configured with.
    pub id: HostId,
    /// For people.
    pub name: String,
    /// As it was given: `host:port`.
    pub address: String,
    /// The store that the engine follows; none until the host told it.
    pub store_id: Option<StoreId>,
    /// The start of its service that was last met; none before any was.
    pub start: Option<Start>,
    /// Up to where the engine has followed the host's history; none: the next stream starts with a snapshot.
    pub cursor: Option<Token>,
    /// It has shown tasks that are over for good, and may have them still: the next connection starts with a snapshot.
    pub has_risen: bool,
    /// That another life of this engine has it, as the host said; none once it is this engine's again. A restart knows it
    /// before any host answers.
    pub other_life: Option<OtherLife>,
    /// Another engine had it, as the host said; none once it is this engine's again by a person's decision, or because it was
    /// nobody's.
    pub other_owner: Option<Fault>,
}

/// Another life of this engine has a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherLife {
    /// What the host said.
    pub fault: Fault,
    /// The host has shown a start that only a copy of this engine's data directory can have made. Otherwise it is the
    /// host's word.
    pub is_proven: bool,
}

/// A storage domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// Its id.
    pub id: DomainId,
    /// For people.
    pub name: String,
    /// The host that serves it.
    pub host_id: HostId,
}

/// A disk as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSpec {
    /// Its id; on the host that of its image.
    pub disk_id: DiskId,
    /// Where it lies.
    pub domain_id: DomainId,
    /// What a guest sees, in bytes, rounded up as the host would.
    pub capacity_bytes: u64,
    /// How data is kept.
    pub format: VolumeFormat,
    /// How space is taken.
    pub allocation: Allocation,
    /// For people.
    pub description: String,
}

/// A disk that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDisk {
    /// Derived from the command where the caller named none.
    pub disk_id: Option<DiskId>,
    /// Where it will lie.
    pub domain_id: DomainId,
    /// As [`common::operation::capacity`] gives it.
    pub capacity_bytes: u64,
    /// How data is kept.
    pub format: VolumeFormat,
    /// How space is taken.
    pub allocation: Allocation,
    /// For people.
    pub description: String,
}

impl NewDisk {
    /// The request for a disk as it was planned.
    pub(crate) fn of(disk: &DiskSpec) -> Self {
        Self {
            disk_id: Some(disk.disk_id),
            domain_id: disk.domain_id,
            capacity_bytes: disk.capacity_bytes,
            format: disk.format,
            allocation: disk.allocation,
            description: disk.description.clone(),
        }
    }
}

/// A disk that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// As it was asked for.
    pub spec: DiskSpec,
    /// The VM that it was last attached to. Whether it still is, that VM's list of disks says, and nothing else.
    pub last_vm: Option<VmId>,
    /// Its one volume.
    pub volume_id: VolumeId,
    /// What storage last said; none if nobody looked since the disk was made.
    pub observation: Option<Observation>,
}

/// What storage said of a disk, and when: replaced by the next one. No command decides by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// What is there.
    pub presence: Presence,
    /// When it was seen.
    pub time: Timestamp,
    /// In words.
    pub note: Words,
}

/// How much of a disk is on storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// What was known no longer holds: a task on it did not end well. The host is asked until it answers.
    Unknown,
    /// All volumes are there and LEGAL.
    Whole,
    /// Something of it is there, but not all, or not LEGAL.
    Partial,
    /// Nothing of it is there.
    Absent,
}

/// A virtual machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vm {
    /// Its id.
    pub id: VmId,
    /// Its name: no other VM has it.
    pub name: String,
    /// For people.
    pub description: String,
    /// Its disks: those it was made with, in the order of the request, then those attached later. A disk is on the list
    /// of one VM at most.
    pub disk_ids: Vec<DiskId>,
    /// When its creation had succeeded.
    pub created: Timestamp,
}

impl Vm {
    /// The same VM with this disk.
    #[must_use]
    pub(crate) fn with(&self, disk_id: DiskId) -> Self {
        let mut vm = self.without(disk_id);
        vm.disk_ids.push(disk_id);
        vm
    }

    /// The same VM without this disk.
    #[must_use]
    pub(crate) fn without(&self, disk_id: DiskId) -> Self {
        let mut vm = self.clone();
        vm.disk_ids.retain(|id| *id != disk_id);
        vm
    }
}
