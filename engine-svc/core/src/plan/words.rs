//! How commands and tasks are called among people.

use common::{Fault, FaultCode, Operation};

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
        command.fault.is_none()
            && !command.cancel_requested
            && matches!(
                command.parameters,
                Parameters::AddHost(_)
                    | Parameters::TakeOverHost(_)
                    | Parameters::CreateStorageDomain(_)
                    | Parameters::CreateVm(_)
                    | Parameters::CreateDisk(_)
                    | Parameters::CopyDisk(_)
            )
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
        Some(Operation::CreateVolume(op)) => format!("create volume {}", op.volume_id),
        Some(Operation::CopyVolume(op)) => {
            format!("copy volume {} to {}", op.source.volume_id, op.target.volume_id)
        }
        Some(Operation::DeleteImage(op)) => format!("delete image {}", op.image_id),
        Some(Operation::Noop) => "do nothing".to_owned(),
        None => "an operation unknown to this build".to_owned(),
    };
    match task.purpose {
        Purpose::Do => format!("On host {}: {what}", task.host_id),
        Purpose::Undo => format!("Undoing, on host {}: {what}", task.host_id),
        Purpose::Foreign => format!("Somebody else's, on host {}: {what}", task.host_id),
    }
}

/// What people are told when a root has ended. None for kinds that are no roots, and for what is no end.
pub(crate) const fn end_code(kind: CommandKind, state: CommandState) -> Option<EventCode> {
    use CommandState::{Cancelled, Failed, Succeeded};
    Some(match (kind, state) {
        (CommandKind::AddHost, Succeeded) => EventCode::HostAdded,
        (CommandKind::AddHost, Failed) => EventCode::HostAddFailed,
        (CommandKind::AddHost, Cancelled) => EventCode::HostAddCancelled,
        (CommandKind::RemoveHost, Succeeded) => EventCode::HostRemoved,
        (CommandKind::RemoveHost, Failed) => EventCode::HostRemoveFailed,
        (CommandKind::RemoveHost, Cancelled) => EventCode::HostRemoveCancelled,
        (CommandKind::TakeOverHost, Succeeded) => EventCode::HostTakenOver,
        (CommandKind::TakeOverHost, Failed) => EventCode::HostTakeOverFailed,
        (CommandKind::TakeOverHost, Cancelled) => EventCode::HostTakeOverCancelled,
        (CommandKind::CreateStorageDomain, Succeeded) => EventCode::StorageDomainCreated,
        (CommandKind::CreateStorageDomain, Failed) => EventCode::StorageDomainCreateFailed,
        (CommandKind::CreateStorageDomain, Cancelled) => EventCode::StorageDomainCreateCancelled,
        (CommandKind::CreateVm, Succeeded) => EventCode::VmCreated,
        (CommandKind::CreateVm, Failed) => EventCode::VmCreateFailed,
        (CommandKind::CreateVm, Cancelled) => EventCode::VmCreateCancelled,
        (CommandKind::RemoveVm, Succeeded) => EventCode::VmRemoved,
        (CommandKind::RemoveVm, Failed) => EventCode::VmRemoveFailed,
        (CommandKind::RemoveVm, Cancelled) => EventCode::VmRemoveCancelled,
        (CommandKind::CreateDisk, Succeeded) => EventCode::DiskCreated,
        (CommandKind::CreateDisk, Failed) => EventCode::DiskCreateFailed,
        (CommandKind::CreateDisk, Cancelled) => EventCode::DiskCreateCancelled,
        (CommandKind::RemoveDisk, Succeeded) => EventCode::DiskRemoved,
        (CommandKind::RemoveDisk, Failed) => EventCode::DiskRemoveFailed,
        (CommandKind::RemoveDisk, Cancelled) => EventCode::DiskRemoveCancelled,
        (CommandKind::AttachDisk, Succeeded) => EventCode::DiskAttached,
        (CommandKind::DetachDisk, Succeeded) => EventCode::DiskDetached,
        (CommandKind::CopyDisk, Succeeded) => EventCode::DiskCopied,
        (CommandKind::CopyDisk, Failed) => EventCode::DiskCopyFailed,
        (CommandKind::CopyDisk, Cancelled) => EventCode::DiskCopyCancelled,
        _ => return None,
    })
}
