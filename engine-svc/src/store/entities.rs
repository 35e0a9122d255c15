//! Which entities a command or a task is about: what filters by entity look at. It never changes for an item.

use proto::convert::operation_is_about;
use proto::engine::v1::command_parameters::Kind;
use proto::engine::v1::{AsyncTask, Command, CommandParameters, DiskSpec};
use proto::task::v1::VolumeAddress;

/// Whether a command is about the entity of this id.
pub(crate) fn command_is_about(command: &Command, entity_id: &str) -> bool {
    command
        .parameters
        .as_ref()
        .is_some_and(|parameters| parameters_name(parameters, entity_id))
}

/// Whether a task is about the entity of this id: by its host, its operation, or its command's parameters.
pub(crate) fn task_is_about(task: &AsyncTask, entity_id: &str) -> bool {
    let by_operation = task
        .operation
        .as_ref()
        .is_some_and(|op| operation_is_about(op, entity_id));
    let by_command = task
        .command_parameters
        .as_ref()
        .is_some_and(|parameters| parameters_name(parameters, entity_id));
    task.host_id == entity_id || by_operation || by_command
}

fn address_names(volume: &VolumeAddress, id: &str) -> bool {
    volume.domain_id == id || volume.image_id == id || volume.volume_id == id
}

fn parameters_name(parameters: &CommandParameters, id: &str) -> bool {
    let disk_names = |disk: &DiskSpec| disk.disk_id == id || disk.domain_id == id;
    match &parameters.kind {
        Some(Kind::AddHost(p)) => p.host_id == id,
        Some(Kind::RemoveHost(p)) => p.host_id == id,
        Some(Kind::TakeOverHost(p)) => p.host_id == id,
        Some(Kind::CreateStorageDomain(p)) => p.domain_id == id || p.host_id == id,
        Some(Kind::CreateVm(p)) => p.vm_id == id || p.disks.iter().any(disk_names),
        Some(Kind::CreateImage(p)) => {
            p.vm_id == id || p.host_id == id || p.volume_id == id || p.disk.as_ref().is_some_and(disk_names)
        }
        Some(Kind::RemoveVm(p)) => p.vm_id == id,
        Some(Kind::RemoveAllVmImages(p)) => p.vm_id == id || p.disk_ids.iter().any(|disk| disk == id),
        Some(Kind::RemoveImage(p)) => {
            p.vm_id == id || p.disk_id == id || p.domain_id == id || p.host_id == id
        }
        Some(Kind::CreateDisk(p)) => p.disk.as_ref().is_some_and(disk_names),
        Some(Kind::RemoveDisk(p)) => p.disk_id == id,
        Some(Kind::AttachDisk(p)) => p.disk_id == id || p.vm_id == id,
        Some(Kind::DetachDisk(p)) => p.disk_id == id || p.vm_id == id,
        Some(Kind::CopyDisk(p)) => p.source_disk_id == id || p.disk.as_ref().is_some_and(disk_names),
        Some(Kind::CopyImage(p)) => {
            p.host_id == id
                || p.volume_id == id
                || p.disk.as_ref().is_some_and(disk_names)
                || p.source.as_ref().is_some_and(|volume| address_names(volume, id))
        }
        None => false,
    }
}
