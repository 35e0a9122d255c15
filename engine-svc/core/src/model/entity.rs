//! The things that commands work on: hosts, storage domains, disks and VMs.

use std::fmt;

use common::Fault;
use common::id::{CommandId, DiskId, DomainId, HostId, StoreId, TaskId, VmId, VolumeId};
use common::lock::Mode;
use common::{Allocation, Start, Timestamp, Token, VolumeFormat, Words};

/// Identifies an entity: the key of its lock, and how outcomes and events refer to it.
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
    /// The name of a VM: locked while a VM with this name is created or removed.
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

/// Who keeps an entity busy. Derived from the lock table, so it cannot become stale.
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
    /// A task that this engine did not start.
    ForeignTask {
        /// The task.
        task_id: TaskId,
        /// The host that runs it.
        host_id: HostId,
        /// When the engine first saw it.
        since: Timestamp,
    },
}

/// Who keeps an entity busy, and how; the first ones if they are very many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// In the order of arrival.
    pub by: Vec<(Holder, Mode)>,
    /// How many more there are.
    pub more: usize,
}

/// Those that a command waits for to get its locks; the first ones if they are very many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blockers {
    /// In the order of the locks that the command needs.
    pub by: Vec<Blocker>,
    /// How many more there are.
    pub more: usize,
}

/// A holder or an earlier waiter of a lock that a command needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocker {
    /// The entity.
    pub entity: EntityKey,
    /// The holder.
    pub holder: Holder,
    /// How it holds or wants the entity.
    pub mode: Mode,
    /// It does not hold the entity yet, but waits for it and comes first.
    pub waits: bool,
}

impl Blockers {
    /// The maximum number of blockers that are shown for a command.
    pub const TOLD: usize = 10;
}

impl Holding {
    /// The maximum number of holders that are shown for an entity: thousands may share a domain.
    pub const TOLD: usize = 10;
}

/// A host that this engine owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The id that it was configured with.
    pub id: HostId,
    /// A text for people.
    pub name: String,
    /// `host:port`, as it was given.
    pub address: String,
    /// The DNS name that its certificate must have; empty if it must have `host:` and its id.
    pub identity: String,
    /// The store that the engine follows; none until the host has reported it.
    pub store_id: Option<StoreId>,
    /// The start of its service that was last met; none before any was.
    pub start: Option<Start>,
    /// Up to where the engine has followed the host's history; none: the next stream starts with a snapshot.
    pub cursor: Option<Token>,
    /// It has shown tasks that are over for good, and may have them still: the next connection starts with a snapshot.
    pub has_risen: bool,
    /// That another life of this engine has it, as the host said; none once it is this engine's again. A restart
    /// knows it before any host answers.
    pub other_life: Option<OtherLife>,
    /// Another engine had it, as the host said; none once it is this engine's again by a person's decision, or
    /// because it was nobody's.
    pub other_owner: Option<Fault>,
}

/// Another life of this engine has a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherLife {
    /// The host's fault.
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
    /// A text for people.
    pub name: String,
    /// The host that serves it.
    pub host_id: HostId,
}

/// A disk as it was requested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSpec {
    /// Its id, which is also the id of its image on the host.
    pub disk_id: DiskId,
    /// Its domain.
    pub domain_id: DomainId,
    /// The size that a guest sees, in bytes, rounded up as on the host.
    pub capacity_bytes: u64,
    /// Its format.
    pub format: VolumeFormat,
    /// Its allocation.
    pub allocation: Allocation,
    /// A text for people.
    pub description: String,
}

impl DiskSpec {
    /// Characters of a description that stand for a disk: a line for people has no room for more.
    const NAME_CHARS: usize = 60;

    /// The name of the disk for people: the beginning of its description, or its id if it has none.
    pub fn name(&self) -> String {
        let mut letters = self.description.chars();
        let name: String = letters.by_ref().take(Self::NAME_CHARS).collect();
        match (name.is_empty(), letters.next()) {
            (true, _) => self.disk_id.to_string(),
            (false, None) => format!("\"{name}\""),
            (false, Some(_)) => format!("\"{name}…\""),
        }
    }
}

/// A request for a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDisk {
    /// Derived from the command if the caller gave none.
    pub disk_id: Option<DiskId>,
    /// Its domain.
    pub domain_id: DomainId,
    /// As [`common::operation::capacity`] gives it.
    pub capacity_bytes: u64,
    /// Its format.
    pub format: VolumeFormat,
    /// Its allocation.
    pub allocation: Allocation,
    /// A text for people.
    pub description: String,
}

impl NewDisk {
    /// The request of a disk that was planned.
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

/// A disk in the inventory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// As it was requested.
    pub spec: DiskSpec,
    /// The VM that it was last attached to. Only that VM's list of disks says whether it still is.
    pub last_vm: Option<VmId>,
    /// Its one volume.
    pub volume_id: VolumeId,
    /// What storage last showed; none if it was not checked since the disk was created.
    pub observation: Option<Observation>,
}

/// What storage showed of a disk, and when; replaced by the next observation. No command decides by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// What exists.
    pub presence: Presence,
    /// When it was seen.
    pub time: Timestamp,
    /// A note for people.
    pub note: Words,
}

/// How much of a disk is on storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// The last observation is no longer valid, because a task on the disk failed. The host is asked until it answers.
    Unknown,
    /// All volumes exist and are LEGAL.
    Whole,
    /// Some of it exists, but not all of it, or it is not LEGAL.
    Partial,
    /// Nothing of it exists.
    Absent,
}

/// A virtual machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vm {
    /// Its id.
    pub id: VmId,
    /// Its name, unique among VMs.
    pub name: String,
    /// A text for people.
    pub description: String,
    /// Its disks: those that it was created with, in the order of the request, then those attached later. A disk is
    /// on the list of at most one VM.
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
