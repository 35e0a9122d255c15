//! How commands and tasks are called among people.

use common::{Fault, FaultCode};

use crate::model::{AsyncTask, CommandKind, CommandState, EntityKey, EventCode, Holder, Parameters, Purpose};
use crate::state::State;
use crate::when::utc;

/// What a command does, in a line.
pub(crate) fn describe(parameters: &Parameters) -> String {
    match parameters {
        Parameters::AddHost(p) => format!("Adding host {} at {}", p.name, p.address),
        Parameters::RemoveHost(p) => format!("Removing host {}", p.host_id),
        Parameters::TakeOverHost(p) => format!("Taking over host {} ({})", p.host_id, p.reason),
        Parameters::CreateStorageDomain(p) => format!("Creating storage domain {}", p.name),
        Parameters::CreateVm(p) => format!("Creating VM {}", p.name),
        Parameters::CreateImage(p) => format!("Creating disk {}", p.disk.disk_id),
        Parameters::RemoveVm(p) => format!("Removing VM {}", p.name),
        Parameters::RemoveAllVmImages(p) => format!("Removing the disks of VM {}", p.vm_id),
        Parameters::RemoveImage(p) => format!("Removing disk {}", p.disk_id),
        Parameters::CreateDisk(p) => format!("Creating disk {}", p.disk.disk_id),
        Parameters::RemoveDisk(p) => format!("Removing disk {}", p.disk_id),
        Parameters::AttachDisk(p) => format!("Attaching disk {} to VM {}", p.disk_id, p.vm_id),
        Parameters::DetachDisk(p) => format!("Detaching disk {} from VM {}", p.disk_id, p.vm_id),
        Parameters::CopyDisk(p) => format!("Copying disk {} to disk {}", p.source_id, p.disk.disk_id),
        Parameters::CopyImage(p) => {
            format!("Copying disk {} to disk {}", p.source.image_id, p.disk.disk_id)
        }
    }
}

/// The refusal of what is not there, by the field that names it. What a command works on may be about to be: whoever forgot
/// to wait for its making is told so.
pub(crate) fn absent(state: &State, key: &EntityKey, field: impl std::fmt::Display) -> Fault {
    let Some(Holder::Command {
        command_id,
        user,
        since,
    }) = state.holder(key)
    else {
        return Fault::new(FaultCode::EntityNotFound, format!("there is no {key}")).about(field);
    };
    let makes = state.command(command_id).is_some_and(|command| {
        command.fault.is_none() && !command.cancel_requested && command.parameters.makes()
    });
    let what = if makes { "being made" } else { "being removed" };
    let words = format!(
        "{key} is {what} by command {command_id} of {user} since {}; wait for the end of that command (WaitCommand)",
        utc(since)
    );
    Fault::new(FaultCode::EntityBusy, words).about(field)
}

/// What a task does, in a line.
pub(crate) fn task_words(task: &AsyncTask) -> String {
    let what = match &task.operation {
        Some(operation) => operation.summary(),
        None => "an operation unknown to this build".to_owned(),
    };
    match task.purpose {
        Purpose::Do => format!("On host {}: {what}", task.host_id),
        Purpose::Undo => format!("Undoing, on host {}: {what}", task.host_id),
        Purpose::Foreign => format!("Somebody else's, on host {}: {what}", task.host_id),
    }
}

/// What people are told when a root has ended; none for kinds that are no roots, and for what is no end.
pub(crate) const fn end_code(kind: CommandKind, state: CommandState) -> Option<EventCode> {
    use EventCode as Code;
    let (succeeded, failed, cancelled) = match kind {
        CommandKind::AddHost => (Code::HostAdded, Code::HostAddFailed, Code::HostAddCancelled),
        CommandKind::RemoveHost => (
            Code::HostRemoved,
            Code::HostRemoveFailed,
            Code::HostRemoveCancelled,
        ),
        CommandKind::TakeOverHost => (
            Code::HostTakenOver,
            Code::HostTakeOverFailed,
            Code::HostTakeOverCancelled,
        ),
        CommandKind::CreateStorageDomain => (
            Code::StorageDomainCreated,
            Code::StorageDomainCreateFailed,
            Code::StorageDomainCreateCancelled,
        ),
        CommandKind::CreateVm => (Code::VmCreated, Code::VmCreateFailed, Code::VmCreateCancelled),
        CommandKind::RemoveVm => (Code::VmRemoved, Code::VmRemoveFailed, Code::VmRemoveCancelled),
        CommandKind::CreateDisk => (
            Code::DiskCreated,
            Code::DiskCreateFailed,
            Code::DiskCreateCancelled,
        ),
        CommandKind::RemoveDisk => (
            Code::DiskRemoved,
            Code::DiskRemoveFailed,
            Code::DiskRemoveCancelled,
        ),
        CommandKind::AttachDisk => (
            Code::DiskAttached,
            Code::DiskAttachFailed,
            Code::DiskAttachCancelled,
        ),
        CommandKind::DetachDisk => (
            Code::DiskDetached,
            Code::DiskDetachFailed,
            Code::DiskDetachCancelled,
        ),
        CommandKind::CopyDisk => (Code::DiskCopied, Code::DiskCopyFailed, Code::DiskCopyCancelled),
        // Parts: their root is what people are told of.
        CommandKind::CreateImage
        | CommandKind::CopyImage
        | CommandKind::RemoveImage
        | CommandKind::RemoveAllVmImages => return None,
    };
    match state {
        CommandState::Succeeded => Some(succeeded),
        CommandState::Failed => Some(failed),
        CommandState::Cancelled => Some(cancelled),
        CommandState::Pending
        | CommandState::Active
        | CommandState::Compensating
        | CommandState::NeedsAttention => None,
    }
}
