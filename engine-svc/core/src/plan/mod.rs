//! What commands are made of: one verb a file, always in the order parameters, validation, locks, plan (children
//! and tasks), undo beside do, end, tests.
//!
//! A verb decides nothing in time: `next` says what now, as a function of the recorded state, and may be asked
//! as often as one likes. That is why a restart is no special case.

pub mod add_host;
pub mod attach_disk;
pub mod copy_disk;
pub mod copy_image;
pub mod create_disk;
pub mod create_image;
pub mod create_storage_domain;
pub mod create_vm;
mod deletion;
pub mod detach_disk;
mod draft;
mod leaf;
mod new_disk;
pub(crate) mod new_image;
mod next;
mod only_part;
pub mod remove_all_vm_images;
pub mod remove_disk;
pub mod remove_host;
pub mod remove_image;
pub mod remove_vm;
pub mod take_over_host;
mod words;

use common::{Fault, Timestamp};

use crate::effect::HostCall;
use crate::input::{Ask, Submission};
use crate::model::{Command, CommandState, EntityKey, Parameters};
use crate::state::State;

pub(crate) use draft::{Draft, Part, PlannedTask, Records, new_task};
pub(crate) use next::{Awaits, End, NewTask, Next, Rest, Work, outcomes, rest};
pub(crate) use words::{absent, describe, end_code, task_words};

/// What a request would become, if the state allows it.
pub(crate) fn draft(state: &State, submission: &Submission) -> Result<Draft, Fault> {
    match &submission.ask {
        Ask::AddHost(wanted) => add_host::draft(state, wanted),
        Ask::RemoveHost(wanted) => remove_host::draft(state, wanted),
        Ask::TakeOverHost(wanted) => take_over_host::draft(state, wanted),
        Ask::CreateStorageDomain(wanted) => create_storage_domain::draft(state, wanted),
        Ask::CreateVm {
            vm_id,
            name,
            description,
            disks,
        } => {
            let wanted = create_vm::CreateVm {
                vm_id: *vm_id,
                name: name.clone(),
                description: description.clone(),
                disks: create_vm::specs(submission.command_id, disks),
            };
            create_vm::draft(state, submission.command_id, wanted)
        }
        Ask::RemoveVm { vm_id } => remove_vm::draft(state, *vm_id),
        Ask::CreateDisk(disk) => create_disk::draft(state, submission.command_id, disk),
        Ask::RemoveDisk { disk_id } => remove_disk::draft(state, *disk_id),
        Ask::AttachDisk(wanted) => attach_disk::draft(state, wanted),
        Ask::DetachDisk(wanted) => detach_disk::draft(state, wanted),
        Ask::CopyDisk(copy) => copy_disk::draft(state, submission.command_id, copy),
    }
}

/// What is to become of an unfinished command. `now` only dates records; nothing is decided by it.
pub(crate) fn next(state: &State, command: &Command, now: Timestamp) -> Next {
    match &command.parameters {
        Parameters::AddHost(_)
        | Parameters::RemoveHost(_)
        | Parameters::TakeOverHost(_)
        | Parameters::CreateStorageDomain(_) => next::call_awaited(command),
        Parameters::CreateVm(p) => create_vm::next(state, command, p, now),
        Parameters::CreateImage(p) => new_image::next(state, command, p),
        Parameters::CopyImage(p) => new_image::next(state, command, p),
        Parameters::CreateDisk(_) | Parameters::CopyDisk(_) => new_disk::next(state, command, now),
        Parameters::RemoveDisk(_) => remove_disk::next(state, command),
        Parameters::AttachDisk(p) => attach_disk::next(state, p),
        Parameters::DetachDisk(p) => detach_disk::next(state, p),
        Parameters::RemoveVm(p) => remove_vm::next(state, command, p),
        Parameters::RemoveAllVmImages(p) => remove_all_vm_images::next(state, command, p),
        Parameters::RemoveImage(p) => remove_image::next(state, command, p, now),
    }
}

/// The call that the command's host has not answered yet, for commands that call.
pub(crate) fn call(command: &Command) -> Option<HostCall> {
    if command.state.is_terminal() {
        return None;
    }
    match &command.parameters {
        Parameters::AddHost(_) => Some(add_host::call(command)),
        Parameters::RemoveHost(_) => Some(remove_host::call(command)),
        Parameters::TakeOverHost(p) => Some(take_over_host::call(command, p)),
        Parameters::CreateStorageDomain(p) => Some(create_storage_domain::call(p)),
        Parameters::CreateVm(_)
        | Parameters::CreateImage(_)
        | Parameters::RemoveVm(_)
        | Parameters::RemoveAllVmImages(_)
        | Parameters::RemoveImage(_)
        | Parameters::CreateDisk(_)
        | Parameters::RemoveDisk(_)
        | Parameters::AttachDisk(_)
        | Parameters::DetachDisk(_)
        | Parameters::CopyDisk(_)
        | Parameters::CopyImage(_) => None,
    }
}

/// What the verdict on a command's present call makes of it.
pub(crate) fn answered(state: &State, command: &Command, result: Result<(), Fault>) -> Next {
    match &command.parameters {
        Parameters::AddHost(p) => add_host::answered(state, command, p, result),
        Parameters::RemoveHost(p) => remove_host::answered(command, p, result),
        Parameters::TakeOverHost(p) => take_over_host::answered(state, command, p, result),
        Parameters::CreateStorageDomain(p) => create_storage_domain::answered(command, p, result),
        Parameters::CreateVm(_)
        | Parameters::CreateImage(_)
        | Parameters::RemoveVm(_)
        | Parameters::RemoveAllVmImages(_)
        | Parameters::RemoveImage(_)
        | Parameters::CreateDisk(_)
        | Parameters::RemoveDisk(_)
        | Parameters::AttachDisk(_)
        | Parameters::DetachDisk(_)
        | Parameters::CopyDisk(_)
        | Parameters::CopyImage(_) => Next::Stay,
    }
}

/// The state in which an unfinished command is when it does not rest.
pub(crate) fn working_state(state: &State, command: &Command) -> CommandState {
    let undoing = match &command.parameters {
        Parameters::AddHost(_) | Parameters::RemoveHost(_) => command.cancel_requested && command.call_sent,
        Parameters::CreateVm(_) => create_vm::compensates(state, command),
        Parameters::CreateImage(_) | Parameters::CopyImage(_) => new_image::undoes(state, command),
        Parameters::CreateDisk(_) | Parameters::CopyDisk(_) => only_part::compensates(state, command),
        // What is removed, attached or taken over is not put back: it goes on, or rests.
        Parameters::TakeOverHost(_)
        | Parameters::CreateStorageDomain(_)
        | Parameters::RemoveVm(_)
        | Parameters::RemoveAllVmImages(_)
        | Parameters::RemoveImage(_)
        | Parameters::RemoveDisk(_)
        | Parameters::AttachDisk(_)
        | Parameters::DetachDisk(_) => false,
    };
    if undoing {
        CommandState::Compensating
    } else {
        CommandState::Active
    }
}

/// How a command that calls its host ends where it is stopped before the host could hear of it.
pub(crate) fn stopped_unheard(command: &Command) -> Option<Next> {
    let calls = command.parameters.called_host().is_some();
    (calls && !command.call_sent).then(|| End::without_trace(command, None))
}

/// What an unfinished command leaves behind if it is given up now. Its unfinished children name their own.
pub(crate) fn leftovers(state: &State, command: &Command) -> Vec<EntityKey> {
    match &command.parameters {
        Parameters::CreateVm(_) => create_vm::leftovers(state, command),
        Parameters::RemoveAllVmImages(_) => Vec::new(),
        Parameters::AddHost(_)
        | Parameters::RemoveHost(_)
        | Parameters::TakeOverHost(_)
        | Parameters::CreateStorageDomain(_)
        | Parameters::CreateImage(_)
        | Parameters::RemoveVm(_)
        | Parameters::RemoveImage(_)
        | Parameters::CreateDisk(_)
        | Parameters::RemoveDisk(_)
        | Parameters::AttachDisk(_)
        | Parameters::DetachDisk(_)
        | Parameters::CopyDisk(_)
        | Parameters::CopyImage(_) => vec![command.parameters.entity()],
    }
}
