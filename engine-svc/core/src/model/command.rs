//! Commands: what a user asked for, and its parts.

use common::id::{CommandId, HostId, RequestId, TaskId};
use common::lock::Mode;
use common::{Fault, Timestamp, Words};

use super::EntityKey;
use crate::plan::add_host::AddHost;
use crate::plan::attach_disk::AttachDisk;
use crate::plan::copy_disk::CopyDisk;
use crate::plan::copy_image::CopyImage;
use crate::plan::create_disk::CreateDisk;
use crate::plan::create_image::CreateImage;
use crate::plan::create_storage_domain::CreateStorageDomain;
use crate::plan::create_vm::CreateVm;
use crate::plan::detach_disk::DetachDisk;
use crate::plan::new_image::NewImage;
use crate::plan::remove_all_vm_images::RemoveAllVmImages;
use crate::plan::remove_disk::RemoveDisk;
use crate::plan::remove_host::RemoveHost;
use crate::plan::remove_image::RemoveImage;
use crate::plan::remove_vm::RemoveVm;
use crate::plan::take_over_host::TakeOverHost;

/// What a command does, with all it needs to do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parameters {
    /// Takes a host for this engine.
    AddHost(AddHost),
    /// Gives a host up.
    RemoveHost(RemoveHost),
    /// Takes a host, whoever has it.
    TakeOverHost(TakeOverHost),
    /// Creates a storage domain on a host.
    CreateStorageDomain(CreateStorageDomain),
    /// Creates a VM with its disks.
    CreateVm(CreateVm),
    /// Creates one disk: a child of [`Parameters::CreateVm`] or [`Parameters::CreateDisk`].
    CreateImage(CreateImage),
    /// Removes a VM with its disks.
    RemoveVm(RemoveVm),
    /// Removes the disks of a VM: the child of [`Parameters::RemoveVm`].
    RemoveAllVmImages(RemoveAllVmImages),
    /// Removes one disk: a child of [`Parameters::RemoveAllVmImages`] or [`Parameters::RemoveDisk`].
    RemoveImage(RemoveImage),
    /// Creates a disk that belongs to no VM.
    CreateDisk(CreateDisk),
    /// Removes a disk that is attached to no VM.
    RemoveDisk(RemoveDisk),
    /// Gives a disk to a VM.
    AttachDisk(AttachDisk),
    /// Takes a disk from its VM.
    DetachDisk(DetachDisk),
    /// Copies a disk.
    CopyDisk(CopyDisk),
    /// Makes the copy: the child of [`Parameters::CopyDisk`].
    CopyImage(CopyImage),
}

/// The kinds of commands, without their parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CommandKind {
    /// See [`Parameters::AddHost`].
    AddHost,
    /// See [`Parameters::RemoveHost`].
    RemoveHost,
    /// See [`Parameters::TakeOverHost`].
    TakeOverHost,
    /// See [`Parameters::CreateStorageDomain`].
    CreateStorageDomain,
    /// See [`Parameters::CreateVm`].
    CreateVm,
    /// See [`Parameters::CreateImage`].
    CreateImage,
    /// See [`Parameters::RemoveVm`].
    RemoveVm,
    /// See [`Parameters::RemoveAllVmImages`].
    RemoveAllVmImages,
    /// See [`Parameters::RemoveImage`].
    RemoveImage,
    /// See [`Parameters::CreateDisk`].
    CreateDisk,
    /// See [`Parameters::RemoveDisk`].
    RemoveDisk,
    /// See [`Parameters::AttachDisk`].
    AttachDisk,
    /// See [`Parameters::DetachDisk`].
    DetachDisk,
    /// See [`Parameters::CopyDisk`].
    CopyDisk,
    /// See [`Parameters::CopyImage`].
    CopyImage,
}

impl Parameters {
    /// The kind of the command.
    pub const fn kind(&self) -> CommandKind {
        match self {
            Self::AddHost(_) => CommandKind::AddHost,
            Self::RemoveHost(_) => CommandKind::RemoveHost,
            Self::TakeOverHost(_) => CommandKind::TakeOverHost,
            Self::CreateStorageDomain(_) => CommandKind::CreateStorageDomain,
            Self::CreateVm(_) => CommandKind::CreateVm,
            Self::CreateImage(_) => CommandKind::CreateImage,
            Self::RemoveVm(_) => CommandKind::RemoveVm,
            Self::RemoveAllVmImages(_) => CommandKind::RemoveAllVmImages,
            Self::RemoveImage(_) => CommandKind::RemoveImage,
            Self::CreateDisk(_) => CommandKind::CreateDisk,
            Self::RemoveDisk(_) => CommandKind::RemoveDisk,
            Self::AttachDisk(_) => CommandKind::AttachDisk,
            Self::DetachDisk(_) => CommandKind::DetachDisk,
            Self::CopyDisk(_) => CommandKind::CopyDisk,
            Self::CopyImage(_) => CommandKind::CopyImage,
        }
    }

    /// What the command is about.
    pub const fn entity(&self) -> EntityKey {
        match self {
            Self::AddHost(p) => EntityKey::Host(p.host_id),
            Self::RemoveHost(p) => EntityKey::Host(p.host_id),
            Self::TakeOverHost(p) => EntityKey::Host(p.host_id),
            Self::CreateStorageDomain(p) => EntityKey::Domain(p.domain_id),
            Self::CreateVm(p) => EntityKey::Vm(p.vm_id),
            Self::CreateImage(p) => EntityKey::Disk(p.disk.disk_id),
            Self::RemoveVm(p) => EntityKey::Vm(p.vm_id),
            Self::RemoveAllVmImages(p) => EntityKey::Vm(p.vm_id),
            Self::RemoveImage(p) => EntityKey::Disk(p.disk_id),
            Self::CreateDisk(p) => EntityKey::Disk(p.disk.disk_id),
            Self::RemoveDisk(p) => EntityKey::Disk(p.disk_id),
            Self::AttachDisk(p) => EntityKey::Disk(p.disk_id),
            Self::DetachDisk(p) => EntityKey::Disk(p.disk_id),
            Self::CopyDisk(p) => EntityKey::Disk(p.disk.disk_id),
            Self::CopyImage(p) => EntityKey::Disk(p.disk.disk_id),
        }
    }

    /// Everything that people are told of it under: what it is about comes first.
    pub fn entities(&self) -> Vec<EntityKey> {
        let other = match self {
            Self::AttachDisk(p) => Some(EntityKey::Vm(p.vm_id)),
            Self::DetachDisk(p) => Some(EntityKey::Vm(p.vm_id)),
            Self::CopyDisk(p) => Some(EntityKey::Disk(p.source_id)),
            Self::AddHost(_)
            | Self::RemoveHost(_)
            | Self::TakeOverHost(_)
            | Self::CreateStorageDomain(_)
            | Self::CreateVm(_)
            | Self::CreateImage(_)
            | Self::RemoveVm(_)
            | Self::RemoveAllVmImages(_)
            | Self::RemoveImage(_)
            | Self::CreateDisk(_)
            | Self::RemoveDisk(_)
            | Self::CopyImage(_) => None,
        };
        [self.entity()].into_iter().chain(other).collect()
    }

    /// The capacity of the disk that a leaf works on, in bytes: what it weighs in the progress of its job. 0 for what has
    /// parts, for what works on no disk, and for a removal that was recorded before capacities were.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::RemoveImage(p) => p.capacity_bytes,
            leaf => leaf.new_image().map_or(0, |image| image.disk().capacity_bytes),
        }
    }

    /// The image that a leaf makes, where it is one that does.
    pub(crate) fn new_image(&self) -> Option<&dyn NewImage> {
        match self {
            Self::CreateImage(p) => Some(p),
            Self::CopyImage(p) => Some(p),
            Self::AddHost(_)
            | Self::RemoveHost(_)
            | Self::TakeOverHost(_)
            | Self::CreateStorageDomain(_)
            | Self::CreateVm(_)
            | Self::RemoveVm(_)
            | Self::RemoveAllVmImages(_)
            | Self::RemoveImage(_)
            | Self::CreateDisk(_)
            | Self::RemoveDisk(_)
            | Self::AttachDisk(_)
            | Self::DetachDisk(_)
            | Self::CopyDisk(_) => None,
        }
    }

    /// The host that the command itself calls, where it is one that does.
    pub const fn called_host(&self) -> Option<HostId> {
        match self {
            Self::AddHost(p) => Some(p.host_id),
            Self::RemoveHost(p) => Some(p.host_id),
            Self::TakeOverHost(p) => Some(p.host_id),
            Self::CreateStorageDomain(p) => Some(p.host_id),
            Self::CreateVm(_)
            | Self::CreateImage(_)
            | Self::RemoveVm(_)
            | Self::RemoveAllVmImages(_)
            | Self::RemoveImage(_)
            | Self::CreateDisk(_)
            | Self::RemoveDisk(_)
            | Self::AttachDisk(_)
            | Self::DetachDisk(_)
            | Self::CopyDisk(_)
            | Self::CopyImage(_) => None,
        }
    }

    /// Whether what it is about is there once it has succeeded, and was not before.
    pub(crate) const fn makes(&self) -> bool {
        match self {
            Self::AddHost(_)
            | Self::TakeOverHost(_)
            | Self::CreateStorageDomain(_)
            | Self::CreateVm(_)
            | Self::CreateImage(_)
            | Self::CreateDisk(_)
            | Self::CopyDisk(_)
            | Self::CopyImage(_) => true,
            Self::RemoveHost(_)
            | Self::RemoveVm(_)
            | Self::RemoveAllVmImages(_)
            | Self::RemoveImage(_)
            | Self::RemoveDisk(_)
            | Self::AttachDisk(_)
            | Self::DetachDisk(_) => false,
        }
    }
}

/// Where a command stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CommandState {
    /// Accepted; it waits for its locks.
    Pending,
    /// At work.
    Active,
    /// What it did is being undone.
    Compensating,
    /// Everything was done. An end.
    Succeeded,
    /// It was not done; `left_behind` says whether anything is left of it. An end.
    Failed,
    /// It was stopped, and nothing has changed. An end.
    Cancelled,
    /// A rest, not an end: nothing that can still happen by itself would decide.
    NeedsAttention,
}

impl CommandState {
    /// Whether it is an end. Ends are final.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// What an unfinished command or task waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingFor {
    /// The thing itself.
    pub what: Awaited,
    /// In words.
    pub note: Words,
    /// Since when.
    pub since: Timestamp,
}

/// Something that is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Awaited {
    /// A host's answer.
    Host(HostId),
    /// A task that is not over.
    Task(TaskId),
    /// A child that has not ended.
    Command(CommandId),
    /// A decision of an operator, because of this.
    Attention(Fault),
}

/// How a part of a command ended, or that it did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Which part.
    pub command: CommandId,
    /// Its kind.
    pub kind: CommandKind,
    /// What it was about.
    pub entity: EntityKey,
    /// Where it stood.
    pub state: CommandState,
    /// What went wrong with it.
    pub fault: Option<Fault>,
}

/// The request that a command was accepted for: a repeat of it is answered with the same command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// The RPC, as the shell names it.
    pub rpc: String,
    /// The caller's id of the request.
    pub request_id: RequestId,
    /// Tells the same body from another.
    pub digest: Vec<u8>,
}

/// What a user asked for, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Its id.
    pub id: CommandId,
    /// The order of acceptance; the key of its record.
    pub seq: u64,
    /// What it does.
    pub parameters: Parameters,
    /// None for a root.
    pub parent: Option<CommandId>,
    /// The root of its tree; itself for a root.
    pub root: CommandId,
    /// The whole list, recorded before the first of them starts.
    pub children: Vec<CommandId>,
    /// Its own tasks, oldest first.
    pub tasks: Vec<TaskId>,
    /// Where it stands.
    pub state: CommandState,
    /// Somebody asked that it be stopped. Kept whatever becomes of the wish.
    pub cancel_requested: bool,
    /// Its host may have heard its call. Recorded before the call goes out.
    pub call_sent: bool,
    /// What made it fail. Never overwritten by what followed.
    pub fault: Option<Fault>,
    /// One per child, in their order; filled when the command ends. (Before that its children tell: rewriting
    /// the list at each child's end would make a thousand children cost a million writes.)
    pub outcomes: Vec<Outcome>,
    /// What was neither finished nor undone.
    pub left_behind: Vec<EntityKey>,
    /// None once it has ended. A command whose host is away waits for its task; that the host is away is the
    /// shell's knowledge, and it is not durable.
    pub waiting_for: Option<WaitingFor>,
    /// Who asked.
    pub user: String,
    /// Set on a root.
    pub request: Option<RequestKey>,
    /// Follows the work through both services.
    pub correlation_id: String,
    /// When it was accepted.
    pub created: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Counts its changes from 1, without holes.
    pub sequence: u64,
    /// 1 at first; rises with each retry that reaches it.
    pub attempt: u32,
    /// Who gave it up.
    pub abandoned_by: Option<String>,
    /// What it holds while it has not ended; only a root has any. Kept in the record after the end, held no more.
    pub locks: Vec<(EntityKey, Mode)>,
    /// The count of its tree's changes at its last change.
    pub tree_sequence: u64,
}

impl Command {
    /// Its kind.
    pub const fn kind(&self) -> CommandKind {
        self.parameters.kind()
    }

    /// Whether it is the root of its tree.
    pub const fn is_root(&self) -> bool {
        self.parent.is_none()
    }

    /// What it needs an operator for, while it does.
    pub const fn attention(&self) -> Option<&Fault> {
        match (&self.state, &self.waiting_for) {
            (
                CommandState::NeedsAttention,
                Some(WaitingFor {
                    what: Awaited::Attention(fault),
                    ..
                }),
            ) => Some(fault),
            _ => None,
        }
    }
}
